//! The plan as a PowerShell script, call for call, for an administrator who may not run postkey.
//! It uses one module of Microsoft's, Microsoft.Graph.Authentication, and prints the values that `sender add` takes.

use postkey_base::powershell::{doubled, quoted};
use postkey_graph::permissions::Api;
use postkey_identity::CloudName;
use serde_json::Value;

use crate::{
    options::{CredentialChoice, Reach, SetupOptions},
    plan::{Action, Caller, PlannedCall, api_word},
};

/// What the script cannot make itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScriptValues<'a> {
    /// The public certificate in base64 DER, when a certificate was chosen.
    pub certificate: Option<&'a str>,
    /// The credential's name in the portal.
    pub credential_name: &'a str,
    /// The secret's end, RFC 3339.
    pub ends: &'a str,
}

/// The script for `calls`, which [`crate::plan::plan`] made from `options`.
pub fn powershell(options: &SetupOptions, calls: &[PlannedCall], values: ScriptValues<'_>) -> String {
    let mut text = String::new();
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    let scopes: Vec<String> = options.administrator_scopes().into_iter().map(quoted).collect();
    say(&format!("# postkey: sets up the app registration '{}' for {}.", options.display_name(), options.mailbox));
    say(
        "# It makes the calls that `postkey setup --plan` lists, and no others. Running it again makes no second app and grants \
         nothing twice.",
    );
    if matches!(options.credential, CredentialChoice::Secret(_)) {
        say("# But each run makes one more client secret: remove those that nobody uses.");
    }
    say("#Requires -Modules Microsoft.Graph.Authentication");
    say("$ErrorActionPreference = 'Stop'");
    say("");
    let environment = match options.cloud.name {
        CloudName::Global => "Global",
        CloudName::UsGov => "USGov",
        CloudName::UsGovDod => "USGovDoD",
        CloudName::China => "China",
        CloudName::Custom => "Custom",
    };
    if options.cloud.name == CloudName::Custom {
        say("# Hosts of one's own must be known to the module first.");
        say(&format!(
            "Add-MgEnvironment -Name Custom -AzureADEndpoint {} -GraphEndpoint {}",
            quoted(options.cloud.login.as_str().trim_end_matches('/')),
            quoted(options.cloud.graph.as_str().trim_end_matches("/v1.0")),
        ));
    }
    say(&format!(
        "Connect-MgGraph -TenantId {} -Scopes {} -Environment {environment} -NoWelcome",
        quoted(&options.tenant.to_string()),
        scopes.join(", "),
    ));
    say("");
    text.push_str(HELPERS);
    let mut phase = None;
    for (number, call) in calls.iter().enumerate() {
        if call.caller == Caller::App {
            continue;
        }
        if phase != Some(call.phase) {
            phase = Some(call.phase);
            text.push_str(&format!("\n# {}. {}\n", call.phase.number(), call.phase.title()));
        }
        text.push_str(&format!("\n# call {}: {}\n", number + 1, call.reason));
        text.push_str(&statement(call, values));
    }
    text.push_str("\n# The values for postkey\nWrite-Output ''\n");
    let tenant = "$organization.value[0].id";
    text.push_str(&format!("Write-Output \"Tenant ID:        $({tenant})\"\n"));
    text.push_str("Write-Output \"OAuth Client ID:  $($application.appId)\"\n");
    text.push_str("Write-Output \"Enterprise app:   $($servicePrincipal.id)\"\n");
    text.push_str(&format!("Write-Output 'Email Address:    {}'\n", doubled(options.mailbox.as_str())));
    if matches!(options.credential, CredentialChoice::Secret(_)) {
        text.push_str("Write-Output \"Secret Key:       $($secret.secretText)\"\n");
        text.push_str("Write-Output \"Secret expires:   $($secret.endDateTime)\"\n");
    }
    if options.reach == Reach::Limited {
        text.push_str(
            "Write-Output 'No permission was granted: postkey prints the commands for an Exchange administrator.'\n",
        );
    }
    text.push_str("Disconnect-MgGraph | Out-Null\n");
    text
}

/// One call as PowerShell. Conditions of the plan become conditions of the script.
fn statement(call: &PlannedCall, values: ScriptValues<'_>) -> String {
    let uri = double_quoted(&format!("/v1.0{}", call.target));
    let invoke = |body: &str| {
        let headers: Vec<String> =
            call.headers.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
        let mut line = format!("Invoke-Tenant -Method {} -Uri {uri}", call.method);
        if !headers.is_empty() {
            line.push_str(&format!(" -Headers @{{ {} }}", headers.join("; ")));
        }
        if !body.is_empty() {
            line.push_str(&format!(" -Body {body}"));
        }
        line
    };
    let body = call.body.as_ref().map(|body| literal(body, values)).unwrap_or_default();
    match call.action {
        Action::SignIn => String::from("# (Connect-MgGraph, above, does this)\n"),
        Action::ReadOrganization => format!("$organization = {}\n", invoke("")),
        Action::RegisterApp => format!("{} | Out-Null\n", invoke(&body)),
        Action::ReadApp => format!("$application = {}\n", invoke("")),
        Action::FindServicePrincipal => format!("$servicePrincipal = {} -OrNothing\n", invoke("")),
        Action::CreateServicePrincipal => {
            format!("if (-not $servicePrincipal) {{ $servicePrincipal = {} }}\n", invoke(&body))
        }
        Action::ReadKeys => format!("$application.keyCredentials = ({}).keyCredentials\n", invoke("")),
        Action::AddCertificate => {
            let certificate = quoted(values.certificate.unwrap_or_default());
            format!(
                "$certificate = {certificate}\n\
                 $thumbprint = Get-Thumbprint $certificate\n\
                 if (-not ($application.keyCredentials | Where-Object {{ $_.customKeyIdentifier -eq $thumbprint }})) {{\n    \
                     $keys = @($application.keyCredentials | Where-Object {{ $_ }}) + @{{ type = 'AsymmetricX509Cert'; usage = 'Verify'; key = $certificate; displayName = {} }}\n    \
                     {} | Out-Null\n}}\n",
                quoted(values.credential_name),
                invoke("@{ keyCredentials = $keys }"),
            )
        }
        Action::AddSecret => format!("$secret = {}\n", invoke(&body)),
        // A script starts from nothing: it has no interrupted run of its own to clean up after.
        Action::FindStrays | Action::RemoveStray => {
            String::from("# (only postkey itself knows which secrets are its own strays)\n")
        }
        Action::FindApi(api) => format!("${} = {} -OrNothing\n", api_word(api), invoke("")),
        Action::CreateApi(api) => format!("if (-not ${0}) {{ ${0} = {1} }}\n", api_word(api), invoke(&body)),
        Action::ListGrants => format!("$granted = ({}).value\n", invoke("")),
        Action::Grant(permission) => {
            let api = api_word(permission.api);
            let role = match permission.api {
                Api::Graph => permission.application_id.map_or(String::new(), |id| quoted(&id.to_string())),
                Api::Exchange => {
                    format!("(${api}.appRoles | Where-Object {{ $_.value -eq {} }}).id", quoted(permission.name))
                }
            };
            format!(
                "$role = {role}\nif (-not ($granted | Where-Object {{ $_.appRoleId -eq $role -and $_.resourceId -eq ${api}.id }})) {{\n    {} | Out-Null\n}}\n",
                invoke(&format!(
                    "@{{ principalId = $servicePrincipal.id; resourceId = ${api}.id; appRoleId = $role }}"
                )),
            )
        }
        Action::Token | Action::Probe | Action::SendTest | Action::OpenSent | Action::SeeSent | Action::CheckSmtp => {
            String::new()
        }
    }
}

/// Placeholders of the plan, as the script knows them.
const NAMES: &[(&str, &str)] = &[
    ("{client-id}", "$($application.appId)"),
    ("{application-id}", "$($application.id)"),
    ("{service-principal-id}", "$($servicePrincipal.id)"),
    ("{graph-id}", "$($graph.id)"),
    ("{exchange-id}", "$($exchange.id)"),
];

/// A double-quoted PowerShell string with the placeholders filled by variables; everything else stays literal.
fn double_quoted(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // The typographic quotes end such a string, too.
        if matches!(c, '`' | '"' | '$' | '\u{201c}'..='\u{201e}') {
            escaped.push('`');
        }
        escaped.push(c);
    }
    for (placeholder, variable) in NAMES {
        escaped = escaped.replace(placeholder, variable);
    }
    format!("\"{escaped}\"")
}

/// A JSON value as PowerShell writes it.
fn literal(value: &Value, values: ScriptValues<'_>) -> String {
    match value {
        Value::Null => "$null".into(),
        Value::Bool(true) => "$true".into(),
        Value::Bool(false) => "$false".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text == "{name}" => quoted(values.credential_name),
        Value::String(text) if text == "{end}" => quoted(values.ends),
        Value::String(text) if text.contains('{') => double_quoted(text),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            format!("@({})", items.iter().map(|item| literal(item, values)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("{name} = {}", literal(value, values))).collect();
            format!("@{{ {} }}", members.join("; "))
        }
    }
}

/// Directory writes take seconds to minutes to be seen everywhere; a call that comes too early is repeated.
const HELPERS: &str = r#"function Invoke-Tenant {
    param([string]$Method, [string]$Uri, [hashtable]$Headers = @{}, $Body, [switch]$OrNothing)
    $more = @{}
    if ($null -ne $Body) { $more = @{ Body = ($Body | ConvertTo-Json -Depth 10); ContentType = 'application/json' } }
    foreach ($wait in 2, 4, 8, 15, 30, 60, 0) {
        try { return Invoke-MgGraphRequest -Method $Method -Uri $Uri -Headers $Headers @more }
        catch {
            $status = [int]$_.Exception.Response.StatusCode
            if ($OrNothing -and $status -eq 404) { return $null }
            if ($wait -eq 0 -or $status -notin 400, 403, 404, 409, 429, 503) { throw }
            Write-Host "The tenant has not caught up yet ($status); next try in $wait s"
            Start-Sleep -Seconds $wait
        }
    }
}

function Get-Thumbprint([string]$Base64) {
    $bytes = [Convert]::FromBase64String($Base64)
    [Convert]::ToBase64String([System.Security.Cryptography.SHA1]::Create().ComputeHash($bytes))
}
"#;
