//! Every call a setup may make, in order, with its reason. The driver makes no other; `--plan` prints this list and the
//! script for an administrator is generated from it.

use postkey_base::InstallationId;
use postkey_graph::permissions::{Api, Permission};
use serde::Serialize;
use serde_json::{Value, json};

use crate::options::{CredentialChoice, Reach, SetupOptions};

/// The phases of a setup, as the portal's manuals name them, and the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Registration and service principal.
    Register,
    /// Certificate or secret.
    Credential,
    /// Permissions and consent.
    Permissions,
    /// A token, a probe and a message.
    Proof,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Register, Self::Credential, Self::Permissions, Self::Proof];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Register => "Register the application",
            Self::Credential => "Create its credential",
            Self::Permissions => "Permissions and consent",
            Self::Proof => "Prove it with a message",
        }
    }

    /// Counted from 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }
}

/// Which host a call goes to, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// Graph, as the signed-in administrator.
    Administrator,
    /// The token endpoint, or Graph as the new app.
    App,
}

/// What a call is for; the driver and the script tell calls apart by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Learn the tenant's id, name and domain.
    ReadOrganization,
    /// Create the registration, or find it by its unique name.
    RegisterApp,
    /// Learn its ids and the credentials it has.
    ReadApp,
    /// Is there a service principal?
    FindServicePrincipal,
    /// Make one.
    CreateServicePrincipal,
    /// Upload the public certificate.
    AddCertificate,
    /// Have Graph make a secret.
    AddSecret,
    /// Remove a secret whose value was lost on the way.
    RemoveStray,
    /// The API's service principal with its roles.
    FindApi(Api),
    /// The API is not instantiated in this tenant yet.
    CreateApi(Api),
    /// Which permissions are granted already?
    ListGrants,
    /// Grant one.
    Grant(&'static Permission),
    /// A token by the new credential.
    Token,
    /// A send that cannot deliver.
    Probe,
    /// The test message.
    SendTest,
    /// Is it in Sent Items?
    SeeSent,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedCall {
    /// In which phase.
    pub phase: Phase,
    /// For the driver and the script.
    #[serde(skip)]
    pub action: Action,
    /// As whom.
    pub caller: Caller,
    /// HTTP method.
    pub method: &'static str,
    /// Path below Graph's version, or the token endpoint's address. `{…}` stands for what an earlier call answers.
    pub target: String,
    /// Headers beyond the usual.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(&'static str, &'static str)>,
    /// JSON body with the same placeholders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Why.
    pub reason: String,
    /// When it is left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_if: Option<&'static str>,
    /// Whether it changes the tenant.
    pub changes: bool,
}

/// The registration's body: also what a repeated run sets again.
pub fn registration(options: &SetupOptions) -> Value {
    json!({
        "displayName": options.display_name(),
        // Graph: the documented default and the documented example disagree, so it is always sent.
        "signInAudience": "AzureADMyOrg",
        "requiredResourceAccess": required_resource_access(options),
    })
}

/// `requiredResourceAccess` for everything asked of Graph. Exchange's role ids are resolved in the tenant, so they are
/// granted but not declared here.
fn required_resource_access(options: &SetupOptions) -> Value {
    let roles: Vec<Value> = options
        .permissions()
        .iter()
        .filter(|(permission, _)| permission.api == Api::Graph)
        .filter_map(|(permission, _)| permission.application_id)
        .map(|id| json!({"id": id, "type": "Role"}))
        .collect();
    if roles.is_empty() {
        json!([])
    } else {
        json!([{"resourceAppId": Api::Graph.client_id(), "resourceAccess": roles}])
    }
}

/// The whole list for these options.
pub fn plan(options: &SetupOptions, installation: InstallationId) -> Vec<PlannedCall> {
    let unique_name = options.unique_name(installation);
    let mut calls = Vec::new();
    let mut add = |phase, action, caller, method, target: String, body: Option<Value>, reason: &str| {
        calls.push(PlannedCall {
            phase,
            action,
            caller,
            method,
            target,
            headers: Vec::new(),
            body,
            reason: reason.to_owned(),
            only_if: None,
            changes: method != "GET",
        });
        calls.len() - 1
    };
    let admin = Caller::Administrator;
    let app = Caller::App;
    let mut only_if: Vec<(usize, &'static str)> = Vec::new();

    add(Phase::Register, Action::ReadOrganization, admin, "GET", "/organization".into(), None, "which tenant this is");
    let register = add(
        Phase::Register,
        Action::RegisterApp,
        admin,
        "PATCH",
        format!("/applications(uniqueName='{unique_name}')"),
        Some(registration(options)),
        "register the app, or find it again by its unique name",
    );
    add(
        Phase::Register,
        Action::ReadApp,
        admin,
        "GET",
        format!(
            "/applications(uniqueName='{unique_name}')?$select=id,appId,displayName,keyCredentials,passwordCredentials"
        ),
        None,
        "its object id, its client id and the credentials it has",
    );
    add(
        Phase::Register,
        Action::FindServicePrincipal,
        admin,
        "GET",
        "/servicePrincipals(appId='{client-id}')".into(),
        None,
        "whether the app exists inside the tenant (the portal's enterprise application)",
    );
    let principal = add(
        Phase::Register,
        Action::CreateServicePrincipal,
        admin,
        "POST",
        "/servicePrincipals".into(),
        Some(json!({"appId": "{client-id}"})),
        "make the enterprise application",
    );
    only_if.push((principal, "it does not exist yet"));

    match options.credential {
        CredentialChoice::Certificate(lifetime) => {
            let at = add(
                Phase::Credential,
                Action::AddCertificate,
                admin,
                "PATCH",
                "/applications/{application-id}".into(),
                Some(json!({"keyCredentials": [
                    "{the entries it has}",
                    {"type": "AsymmetricX509Cert", "usage": "Verify", "key": "{certificate, base64}", "displayName": "{name}"},
                ]})),
                &format!("add the public half of a certificate that lives {lifetime}; its key stays here"),
            );
            only_if.push((at, "the certificate is not there already"));
        }
        CredentialChoice::Secret(lifetime) => {
            let stray = add(
                Phase::Credential,
                Action::RemoveStray,
                admin,
                "POST",
                "/applications/{application-id}/removePassword".into(),
                Some(json!({"keyId": "{key-id}"})),
                "remove a secret of an interrupted run, whose value nobody has",
            );
            only_if.push((stray, "an earlier run was interrupted"));
            add(
                Phase::Credential,
                Action::AddSecret,
                admin,
                "POST",
                "/applications/{application-id}/addPassword".into(),
                Some(json!({"passwordCredential": {"displayName": "{name}", "endDateTime": "{end}"}})),
                &format!("make a client secret that lives {lifetime}"),
            );
        }
    }
    let token_endpoint = options.cloud.token_endpoint(&options.tenant).to_string();
    add(
        Phase::Credential,
        Action::Token,
        app,
        "POST",
        token_endpoint.clone(),
        None,
        "a token by the new credential, until Entra's nodes accept it",
    );

    let permissions = options.permissions();
    if !permissions.is_empty() {
        add(
            Phase::Permissions,
            Action::ListGrants,
            admin,
            "GET",
            "/servicePrincipals/{service-principal-id}/appRoleAssignments".into(),
            None,
            "which permissions it holds already",
        );
    }
    for api in [Api::Graph, Api::Exchange] {
        let of_api: Vec<_> = permissions.iter().filter(|(permission, _)| permission.api == api).collect();
        if of_api.is_empty() {
            continue;
        }
        add(
            Phase::Permissions,
            Action::FindApi(api),
            admin,
            "GET",
            format!("/servicePrincipals(appId='{}')", api.client_id()),
            None,
            &format!("{} and the ids of its roles", api.name()),
        );
        if api == Api::Exchange {
            let create = add(
                Phase::Permissions,
                Action::CreateApi(api),
                admin,
                "POST",
                "/servicePrincipals".into(),
                Some(json!({"appId": api.client_id()})),
                "make Exchange Online known in this tenant",
            );
            only_if.push((create, "the tenant lacks it"));
        }
        for (permission, reason) in of_api {
            let grant = add(
                Phase::Permissions,
                Action::Grant(permission),
                admin,
                "POST",
                format!("/servicePrincipals/{{{}-id}}/appRoleAssignedTo", api_word(api)),
                Some(json!({
                    "principalId": "{service-principal-id}",
                    "resourceId": format!("{{{}-id}}", api_word(api)),
                    "appRoleId": permission.application_id.map_or(format!("{{role {}}}", permission.name), |id| id.to_string()),
                })),
                &format!("grant {}: {reason}", permission.name),
            );
            only_if.push((grant, "it is not granted already"));
        }
    }

    add(Phase::Proof, Action::Token, app, "POST", token_endpoint, None, "a token that carries what was granted");
    let mailbox = &options.mailbox;
    add(
        Phase::Proof,
        Action::Probe,
        app,
        "POST",
        format!("/users/{mailbox}/sendMail"),
        Some(json!({"message": {"toRecipients": []}})),
        "a message without recipients: refused for that reason only where sending is allowed; nothing is delivered",
    );
    add(
        Phase::Proof,
        Action::SendTest,
        app,
        "POST",
        format!("/users/{mailbox}/sendMail"),
        None,
        &format!("one test message to {}", options.test_to),
    );
    if options.read_write && options.reach == Reach::TenantWide {
        add(
            Phase::Proof,
            Action::SeeSent,
            app,
            "GET",
            format!("/users/{mailbox}/mailFolders/sentitems/messages?$filter=internetMessageId eq '{{message-id}}'"),
            None,
            "see the test message in Sent Items",
        );
    }
    calls[register].headers.push(("Prefer", "create-if-missing"));
    for (at, condition) in only_if {
        calls[at].only_if = Some(condition);
    }
    calls
}

/// The word for an API's service principal in placeholders.
pub(crate) fn api_word(api: Api) -> &'static str {
    match api {
        Api::Graph => "graph",
        Api::Exchange => "exchange",
    }
}
