//! The organisation that stands in the box at its start: two tenants, a few people, two applications.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    directory::{
        AppRoleAssignment, Application, ClientSecret, DelegatedGrant, Directory, EXCHANGE_APP_ID, GRAPH_APP_ID,
        GRAPH_CLI_APP_ID, ServicePrincipal, User,
    },
    exchange::{administration::Right, mailbox::MailboxKind},
    permissions,
    world::{Tenant, World, random_text},
};

/// Names and secrets of the sample organisation. `Debug` shows no secret.
#[derive(Clone)]
pub struct Sample {
    /// The first tenant.
    pub tenant_id: Uuid,
    /// Its verified domain.
    pub domain: String,
    /// The second tenant, which knows neither the users nor the applications of the first.
    pub other_tenant_id: Uuid,
    /// Its verified domain.
    pub other_domain: String,
    /// A global administrator.
    pub admin_user: String,
    /// Their password.
    pub admin_password: String,
    /// An application that may manage applications, consents and users.
    pub admin_client_id: Uuid,
    /// Its secret.
    pub admin_client_secret: String,
    /// A consented mail application.
    pub client_id: Uuid,
    /// Its secret.
    pub client_secret: String,
    /// A user mailbox to send from.
    pub sender: String,
    /// A user with a mailbox.
    pub user_name: String,
    /// Their password, and the second user's.
    pub user_password: String,
    /// A second user with a mailbox.
    pub second_user_name: String,
    /// A shared mailbox; nobody signs in as it.
    pub shared_mailbox: String,
    /// A user without a mailbox.
    pub user_without_mailbox: String,
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sample")
            .field("tenant_id", &self.tenant_id)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// Application permissions of the administrator's application, on Graph.
const ADMIN_ROLES: [&str; 11] = [
    "Application.ReadWrite.All",
    "AppRoleAssignment.ReadWrite.All",
    "DelegatedPermissionGrant.ReadWrite.All",
    "Directory.ReadWrite.All",
    "Directory.Read.All",
    "User.Read.All",
    "Organization.Read.All",
    "Domain.Read.All",
    "AuditLog.Read.All",
    "Policy.Read.All",
    "Policy.ReadWrite.ApplicationConfiguration",
];

/// Application permissions of the mail application.
const MAIL_ROLES: [(Uuid, &str); 7] = [
    (GRAPH_APP_ID, "Mail.Send"),
    (GRAPH_APP_ID, "Mail.ReadWrite"),
    (GRAPH_APP_ID, "User.Read.All"),
    (GRAPH_APP_ID, "Calendars.ReadWrite"),
    (GRAPH_APP_ID, "Contacts.ReadWrite"),
    (EXCHANGE_APP_ID, "SMTP.SendAsApp"),
    (EXCHANGE_APP_ID, "IMAP.AccessAsApp"),
];

/// Delegated permissions of the mail application, consented for everyone.
const MAIL_SCOPES: [(Uuid, &str); 2] = [
    (
        GRAPH_APP_ID,
        "openid profile email offline_access User.Read User.Read.All Mail.Send Mail.ReadWrite Calendars.ReadWrite Contacts.ReadWrite",
    ),
    (EXCHANGE_APP_ID, "SMTP.Send IMAP.AccessAsUser.All"),
];

/// Puts the sample organisation into an empty world.
pub(crate) fn fill(world: &mut World) -> Sample {
    let now = world.clock.now();
    let user_password = password(world);
    let admin_password = password(world);
    let admin_client_secret = world.make_client_secret();
    let client_secret = world.make_client_secret();

    let mut contoso = tenant("contoso.example", "Contoso", now);
    let directory = &mut contoso.directory;
    let mut add = |local: &str, given: &str, surname: &str, password: Option<&str>| {
        directory.users.push(user("contoso.example", local, given, surname, password, now));
    };
    add("admin", "Adele", "Admin", Some(&admin_password));
    add("alice", "Alice", "Ahrens", Some(&user_password));
    add("bob", "Bob", "Berger", Some(&user_password));
    add("noreply", "Contoso", "Notices", Some(&user_password));
    add("support", "Contoso", "Support", None);
    add("nomailbox", "Norma", "Nobox", Some(&user_password));
    directory.users[0].administrator = true;

    let mut admin = application("Contoso administration", now);
    admin.secrets.push(secret(&admin_client_secret, now));
    let mut mail = application("Contoso mail", now);
    mail.secrets.push(secret(&client_secret, now));
    mail.is_fallback_public_client = Some(true);
    mail.web_redirect_uris = vec!["http://localhost".to_owned(), "http://localhost/myapps/".to_owned()];
    mail.required_resource_access = required_access();
    let (admin_client_id, client_id) = (admin.app_id, mail.app_id);
    let (admin_principal, mail_principal) = (instantiate(&admin, contoso.id, now), instantiate(&mail, contoso.id, now));
    for name in ADMIN_ROLES {
        assign(directory, admin_principal.id, GRAPH_APP_ID, name, now);
    }
    for (api, name) in MAIL_ROLES {
        assign(directory, mail_principal.id, api, name, now);
    }
    for (api, scope) in MAIL_SCOPES {
        let resource = directory.service_principal_by_app_id(api).expect("every tenant has Microsoft's APIs").id;
        directory.delegated_grants.push(DelegatedGrant {
            id: random_text(43),
            client_id: mail_principal.id,
            consent_type: "AllPrincipals".to_owned(),
            principal_id: None,
            resource_id: resource,
            scope: scope.to_owned(),
        });
    }
    let mail_principal_id = mail_principal.id;
    directory.applications.extend([admin, mail]);
    directory.service_principals.extend([admin_principal, mail_principal]);

    let mut fabrikam = tenant("fabrikam.example", "Fabrikam", now);
    let mut other_admin = user("fabrikam.example", "admin", "Frida", "Admin", Some(&admin_password), now);
    other_admin.administrator = true;
    fabrikam.directory.users.push(other_admin);
    fabrikam.directory.users.push(user("fabrikam.example", "carol", "Carol", "Clark", Some(&user_password), now));

    for mailbox in ["admin", "alice", "bob", "noreply"] {
        contoso.add_mailbox(&format!("{mailbox}@contoso.example"), MailboxKind::User);
    }
    contoso.add_mailbox("support@contoso.example", MailboxKind::Shared);
    // What an Exchange administrator does before an app may use SMTP or IMAP by itself.
    contoso.register_mail_principal(client_id, mail_principal_id);
    for mailbox in ["alice", "bob", "noreply", "support"] {
        contoso.grant(&format!("{mailbox}@contoso.example"), Right::FullAccess, mail_principal_id);
    }
    for mailbox in ["admin", "carol"] {
        fabrikam.add_mailbox(&format!("{mailbox}@fabrikam.example"), MailboxKind::User);
    }

    world.first_party_applications.push(graph_command_line_tools(now));
    let sample = Sample {
        tenant_id: contoso.id,
        domain: contoso.domain.clone(),
        other_tenant_id: fabrikam.id,
        other_domain: fabrikam.domain.clone(),
        admin_user: "admin@contoso.example".to_owned(),
        admin_password,
        admin_client_id,
        admin_client_secret,
        client_id,
        client_secret,
        sender: "noreply@contoso.example".to_owned(),
        user_name: "alice@contoso.example".to_owned(),
        user_password,
        second_user_name: "bob@contoso.example".to_owned(),
        shared_mailbox: "support@contoso.example".to_owned(),
        user_without_mailbox: "nomailbox@contoso.example".to_owned(),
    };
    world.tenants.extend([contoso, fabrikam]);
    sample
}

fn password(world: &mut World) -> String {
    let password = format!("Pw-{}", random_text(21));
    world.record_secret(&password);
    password
}

fn tenant(domain: &str, name: &str, now: Timestamp) -> Tenant {
    let mut directory = Directory::default();
    directory.service_principals.push(permissions::graph_principal(now));
    directory.service_principals.push(permissions::exchange_principal(now));
    Tenant {
        id: Uuid::new_v4(),
        domain: domain.to_owned(),
        display_name: name.to_owned(),
        directory,
        mailboxes: Default::default(),
        exchange: Default::default(),
    }
}

fn user(domain: &str, local: &str, given: &str, surname: &str, password: Option<&str>, now: Timestamp) -> User {
    User {
        id: Uuid::new_v4(),
        user_principal_name: format!("{local}@{domain}"),
        display_name: format!("{given} {surname}"),
        given_name: Some(given.to_owned()),
        surname: Some(surname.to_owned()),
        password: password.map(str::to_owned),
        account_enabled: password.is_some(),
        administrator: false,
        aliases: Vec::new(),
        sign_in_refusal: None,
        tokens_valid_from: now - SignedDuration::from_hours(24),
    }
}

fn application(name: &str, now: Timestamp) -> Application {
    Application {
        id: Uuid::new_v4(),
        app_id: Uuid::new_v4(),
        created: now,
        display_name: name.to_owned(),
        sign_in_audience: "AzureADMyOrg".to_owned(),
        unique_name: None,
        is_fallback_public_client: None,
        web_redirect_uris: Vec::new(),
        spa_redirect_uris: Vec::new(),
        public_redirect_uris: Vec::new(),
        secrets: Vec::new(),
        keys: Vec::new(),
        federated: Vec::new(),
        required_resource_access: Vec::new(),
        owners: Vec::new(),
        visible_from: now,
        rest: Map::new(),
    }
}

/// Microsoft's public client for command lines; a tenant gets its service principal at the first consent.
fn graph_command_line_tools(now: Timestamp) -> Application {
    Application {
        app_id: GRAPH_CLI_APP_ID,
        sign_in_audience: "AzureADandPersonalMicrosoftAccount".to_owned(),
        is_fallback_public_client: Some(true),
        public_redirect_uris: vec!["http://localhost".to_owned()],
        ..application("Microsoft Graph Command Line Tools", now)
    }
}

fn secret(text: &str, now: Timestamp) -> ClientSecret {
    ClientSecret {
        key_id: Uuid::new_v4(),
        display_name: Some("sample".to_owned()),
        hint: text.chars().take(3).collect(),
        start: now - SignedDuration::from_mins(5),
        end: now + SignedDuration::from_hours(365 * 24),
        text: text.to_owned(),
        accepted_from: now - SignedDuration::from_mins(5),
    }
}

fn required_access() -> Vec<Value> {
    let entries = |api: Uuid| -> Vec<Value> {
        let roles =
            MAIL_ROLES.iter().filter(|(of, _)| *of == api).filter_map(|(_, name)| permissions::role_id(api, name));
        let scopes = MAIL_SCOPES
            .iter()
            .filter(|(of, _)| *of == api)
            .flat_map(|(_, names)| names.split(' '))
            .filter_map(|name| permissions::scope_id(api, name));
        roles
            .map(|id| json!({"id": id, "type": "Role"}))
            .chain(scopes.map(|id| json!({"id": id, "type": "Scope"})))
            .collect()
    };
    [GRAPH_APP_ID, EXCHANGE_APP_ID].map(|api| json!({"resourceAppId": api, "resourceAccess": entries(api)})).into()
}

/// The service principal of an application in a tenant.
pub(crate) fn instantiate(app: &Application, home: Uuid, now: Timestamp) -> ServicePrincipal {
    let mut rest = Map::new();
    rest.insert("appOwnerOrganizationId".to_owned(), json!(home));
    rest.insert("servicePrincipalNames".to_owned(), json!([app.app_id]));
    rest.insert("servicePrincipalType".to_owned(), json!("Application"));
    ServicePrincipal {
        id: Uuid::new_v4(),
        app_id: app.app_id,
        display_name: app.display_name.clone(),
        account_enabled: true,
        app_role_assignment_required: false,
        app_roles: Vec::new(),
        scopes: Vec::new(),
        owners: Vec::new(),
        created: now,
        visible_from: now,
        rest,
    }
}

fn assign(directory: &mut Directory, principal: Uuid, api: Uuid, role: &str, now: Timestamp) {
    let resource = directory.service_principal_by_app_id(api).expect("every tenant has Microsoft's APIs").id;
    directory.app_role_assignments.push(AppRoleAssignment {
        id: random_text(43),
        principal_id: principal,
        resource_id: resource,
        app_role_id: permissions::role_id(api, role).expect("the sample names permissions of the table"),
        created: now,
        effective_from: now,
    });
}
