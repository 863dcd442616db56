//! Every call a setup may make, in order, with its reason. The driver makes no other; `--plan` prints this list and the
//! script for an administrator is generated from it.

use postkey_base::InstallationId;
use postkey_graph::permissions::{Api, Permission};
use serde::Serialize;
use serde_json::{Value, json};

use crate::options::{CredentialChoice, Lifetime, SetupOptions};

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

/// As whom a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// The administrator: signing in, and Graph.
    Administrator,
    /// The token endpoint, or Graph as the new app.
    App,
}

/// What a call is for; the driver and the script tell calls apart by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// The administrator's own sign-in.
    SignIn,
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
    /// The certificates it has, with their bytes.
    ReadKeys,
    /// Upload the public certificate.
    AddCertificate,
    /// Have Graph make a secret.
    AddSecret,
    /// The secrets it has, to find those whose value was lost on the way.
    FindStrays,
    /// Remove one of them.
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
    /// May Sent Items be read?
    OpenSent,
    /// Is it in Sent Items?
    SeeSent,
    /// Does SMTP let the app in?
    CheckSmtp,
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
    let mut list = List { phase: Phase::Register, calls: Vec::new() };
    list.sign_in(options);
    list.register(options, &options.unique_name(installation));
    list.phase = Phase::Credential;
    list.credential(options);
    list.phase = Phase::Permissions;
    list.permissions(options);
    list.phase = Phase::Proof;
    list.proof(options);
    list.calls
}

/// When a secret of ours may lie on the app without its value here.
const INTERRUPTED: &str = "an earlier run was interrupted while a secret was made";

/// The list while it grows.
struct List {
    phase: Phase,
    calls: Vec<PlannedCall>,
}

impl List {
    fn add(
        &mut self,
        caller: Caller,
        action: Action,
        method: &'static str,
        target: impl Into<String>,
        reason: impl Into<String>,
    ) -> &mut PlannedCall {
        // These post, and leave the tenant as it is.
        let asks = matches!(action, Action::SignIn | Action::Token | Action::Probe | Action::CheckSmtp);
        self.calls.push(PlannedCall {
            phase: self.phase,
            action,
            caller,
            method,
            target: target.into(),
            headers: Vec::new(),
            body: None,
            reason: reason.into(),
            only_if: None,
            changes: method != "GET" && !asks,
        });
        self.calls.last_mut().expect("one was just added")
    }

    fn administrator(
        &mut self,
        action: Action,
        method: &'static str,
        target: impl Into<String>,
        reason: impl Into<String>,
    ) -> &mut PlannedCall {
        self.add(Caller::Administrator, action, method, target, reason)
    }

    fn sign_in(&mut self, options: &SetupOptions) {
        let (cloud, tenant) = (&options.cloud, &options.tenant);
        let page = cloud.authorize_endpoint(tenant);
        self.administrator(Action::SignIn, "GET", page, "the page where the administrator signs in").only_if =
            Some("it is done by browser; the browser makes this call and those of the pages that follow");
        let code = cloud.device_endpoint(tenant);
        self.administrator(Action::SignIn, "POST", code, "a code for the administrator to type").only_if =
            Some("it is done by device code");
        let token = cloud.token_endpoint(tenant);
        self.administrator(Action::SignIn, "POST", token, "the administrator's token, which is never stored");
    }

    fn register(&mut self, options: &SetupOptions, unique_name: &str) {
        self.administrator(Action::ReadOrganization, "GET", "/organization", "which tenant this is");
        let app = format!("/applications(uniqueName='{unique_name}')");
        let reason = "register the app, or find it again by its unique name";
        let register = self.administrator(Action::RegisterApp, "PATCH", &app, reason);
        register.headers.push(("Prefer", "create-if-missing"));
        register.body = Some(registration(options));
        let read = format!("{app}?$select=id,appId,displayName,keyCredentials,passwordCredentials");
        let reason = "its object id, its client id and the credentials it has";
        self.administrator(Action::ReadApp, "GET", read, reason);
        let find = "/servicePrincipals(appId='{client-id}')";
        let reason = "whether the app exists inside the tenant (the portal's enterprise application)";
        self.administrator(Action::FindServicePrincipal, "GET", find, reason);
        let make = self.administrator(
            Action::CreateServicePrincipal,
            "POST",
            "/servicePrincipals",
            "make the enterprise application",
        );
        make.body = Some(json!({"appId": "{client-id}"}));
        make.only_if = Some("it does not exist yet");
    }

    fn credential(&mut self, options: &SetupOptions) {
        match options.credential {
            CredentialChoice::Certificate(lifetime) => self.certificate(lifetime),
            CredentialChoice::Secret(lifetime) => {
                self.strays();
                let make = self.administrator(
                    Action::AddSecret,
                    "POST",
                    "/applications/{application-id}/addPassword",
                    format!("make a client secret that lives {lifetime}"),
                );
                make.body = Some(json!({"passwordCredential": {"displayName": "{name}", "endDateTime": "{end}"}}));
            }
        }
        self.token(options, "a token by the new credential, until Entra's nodes accept it");
    }

    fn certificate(&mut self, lifetime: Lifetime) {
        const MISSING: Option<&str> = Some("the certificate is not there already");
        const KEYS: &str = "/applications/{application-id}?$select=id,appId,keyCredentials";
        self.administrator(Action::ReadKeys, "GET", KEYS, "whether an interrupted run has added the certificate");
        let reason = "the entries to keep, read at the last moment: the next call replaces all of them";
        self.administrator(Action::ReadKeys, "GET", KEYS, reason).only_if = MISSING;
        let add = self.administrator(
            Action::AddCertificate,
            "PATCH",
            "/applications/{application-id}",
            format!("add the public half of a certificate that lives {lifetime}; its key stays here"),
        );
        add.body = Some(json!({"keyCredentials": [
            "{the entries it has}",
            {"type": "AsymmetricX509Cert", "usage": "Verify", "key": "{certificate, base64}", "displayName": "{name}"},
        ]}));
        add.only_if = MISSING;
        self.administrator(Action::ReadKeys, "GET", KEYS, "see it there, and learn its key id").only_if = MISSING;
    }

    fn strays(&mut self) {
        let reason = "the names of its secrets, to find those of an interrupted run";
        let read = "/applications/{application-id}?$select=id,appId,displayName,passwordCredentials";
        self.administrator(Action::FindStrays, "GET", read, reason).only_if = Some(INTERRUPTED);
        let remove = self.administrator(
            Action::RemoveStray,
            "POST",
            "/applications/{application-id}/removePassword",
            "remove a secret of an interrupted run, whose value nobody has",
        );
        remove.body = Some(json!({"keyId": "{key-id}"}));
        remove.only_if = Some(INTERRUPTED);
    }

    fn token(&mut self, options: &SetupOptions, reason: &str) {
        // By its id, which a domain name stands for until the tenant has told it.
        let endpoint = match options.tenant.id() {
            Some(_) => options.cloud.token_endpoint(&options.tenant).to_string(),
            None => format!("{}/{{tenant-id}}/oauth2/v2.0/token", options.cloud.login.as_str().trim_end_matches('/')),
        };
        self.add(Caller::App, Action::Token, "POST", endpoint, reason);
    }

    fn permissions(&mut self, options: &SetupOptions) {
        let permissions = options.permissions();
        if permissions.is_empty() {
            return;
        }
        let held = "/servicePrincipals/{service-principal-id}/appRoleAssignments";
        self.administrator(Action::ListGrants, "GET", held, "which permissions it holds already");
        for api in [Api::Graph, Api::Exchange] {
            let of_api: Vec<_> = permissions.iter().filter(|(permission, _)| permission.api == api).collect();
            if of_api.is_empty() {
                continue;
            }
            let find = format!("/servicePrincipals(appId='{}')", api.client_id());
            self.administrator(Action::FindApi(api), "GET", find, format!("{} and the ids of its roles", api.name()));
            if api == Api::Exchange {
                let reason = "make Exchange Online known in this tenant";
                let make = self.administrator(Action::CreateApi(api), "POST", "/servicePrincipals", reason);
                make.body = Some(json!({"appId": api.client_id()}));
                make.only_if = Some("the tenant lacks it");
            }
            for (permission, reason) in of_api {
                let role =
                    permission.application_id.map_or(format!("{{role {}}}", permission.name), |id| id.to_string());
                let grant = self.administrator(
                    Action::Grant(permission),
                    "POST",
                    format!("/servicePrincipals/{{{}-id}}/appRoleAssignedTo", api_word(api)),
                    format!("grant {}: {reason}", permission.name),
                );
                grant.body = Some(json!({
                    "principalId": "{service-principal-id}",
                    "resourceId": format!("{{{}-id}}", api_word(api)),
                    "appRoleId": role,
                }));
                grant.only_if = Some("it is not granted already");
            }
        }
    }

    fn proof(&mut self, options: &SetupOptions) {
        self.token(options, "a token that carries what was granted");
        let mailbox = &options.mailbox;
        let send = format!("/users/{mailbox}/sendMail");
        let reason =
            "a message without recipients: refused for that reason only where sending is allowed; nothing is delivered";
        self.add(Caller::App, Action::Probe, "POST", &send, reason).body =
            Some(json!({"message": {"toRecipients": []}}));
        self.add(Caller::App, Action::SendTest, "POST", &send, format!("one test message to {}", options.test_to));
        if options.read_write {
            let folder = format!("/users/{mailbox}/mailFolders/sentitems");
            self.add(Caller::App, Action::OpenSent, "GET", &folder, "whether the app may look into Sent Items");
            let find = format!("{folder}/messages?$filter=internetMessageId eq '{{message-id}}'");
            self.add(Caller::App, Action::SeeSent, "GET", find, "see the test message in Sent Items");
        }
        if options.smtp {
            self.token(options, "a token for SMTP");
            let server = format!("smtp://{}", options.cloud.smtp);
            let reason = "sign in to the mailbox by SMTP and leave again: whether Exchange has opened it to the app";
            self.add(Caller::App, Action::CheckSmtp, "AUTH", server, reason);
        }
        self.strays();
    }
}

/// The word for an API's service principal in placeholders.
pub(crate) fn api_word(api: Api) -> &'static str {
    match api {
        Api::Graph => "graph",
        Api::Exchange => "exchange",
    }
}
