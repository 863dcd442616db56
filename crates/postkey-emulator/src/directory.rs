//! What a tenant's directory holds. Entra reads it to issue tokens, Graph reads and changes it.

#![expect(missing_docs, reason = "fields carry the names of Graph's properties, whose documentation explains them")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The objects of one tenant.
#[derive(Debug, Default)]
pub struct Directory {
    pub users: Vec<User>,
    pub applications: Vec<Application>,
    /// Soft-deleted applications, kept 30 days.
    pub deleted_applications: Vec<(Timestamp, Application)>,
    pub service_principals: Vec<ServicePrincipal>,
    pub app_role_assignments: Vec<AppRoleAssignment>,
    pub delegated_grants: Vec<DelegatedGrant>,
    /// Newest last; Graph lists newest first.
    pub sign_ins: Vec<SignIn>,
    /// Tenant-wide limits on credentials; absent = none.
    pub credential_policy: Option<CredentialPolicy>,
    /// `policies/defaultAppManagementPolicy` as an administrator last wrote it.
    pub default_management_policy: Option<Map<String, Value>>,
    /// `policies/appManagementPolicies`, as Graph shows them.
    pub management_policies: Vec<Value>,
    /// Which of them overrides the default for an application or service principal.
    pub management_policy_of: BTreeMap<Uuid, Uuid>,
    /// Credentials put on a service principal itself: good in this tenant only, and not shown on the application.
    pub service_principal_credentials: BTreeMap<Uuid, OwnCredentials>,
    /// Secrets of a client id that are removed, but which token nodes take until that moment (replication lag).
    pub lingering_secrets: Vec<(Uuid, ClientSecret, Timestamp)>,
    /// Requests counted against the directory's limits.
    pub usage: crate::graph::throttling::Usage,
}

/// Credentials of a service principal.
#[derive(Debug, Clone, Default)]
pub struct OwnCredentials {
    pub secrets: Vec<ClientSecret>,
    pub keys: Vec<KeyCredential>,
}

/// A user, with or without a mailbox (mailboxes are the exchange rooms' business).
#[derive(Clone)]
pub struct User {
    pub id: Uuid,
    pub user_principal_name: String,
    pub display_name: String,
    pub given_name: Option<String>,
    pub surname: Option<String>,
    /// None for users that cannot sign in (shared mailboxes).
    pub password: Option<String>,
    pub account_enabled: bool,
    /// May consent for the tenant and manage every application.
    pub administrator: bool,
    /// Other addresses of the mailbox.
    pub aliases: Vec<String>,
    /// What a sign-in of this user meets, for tests: e.g. 50076, 53003.
    pub sign_in_refusal: Option<u32>,
    /// Refresh tokens issued before this moment are revoked (AADSTS50173).
    pub tokens_valid_from: Timestamp,
}

/// An app registration. Properties without behaviour stay JSON in `rest`.
#[derive(Debug, Clone)]
pub struct Application {
    pub id: Uuid,
    pub app_id: Uuid,
    pub created: Timestamp,
    pub display_name: String,
    pub sign_in_audience: String,
    pub unique_name: Option<String>,
    pub is_fallback_public_client: Option<bool>,
    pub web_redirect_uris: Vec<String>,
    pub spa_redirect_uris: Vec<String>,
    pub public_redirect_uris: Vec<String>,
    pub secrets: Vec<ClientSecret>,
    pub keys: Vec<KeyCredential>,
    pub federated: Vec<FederatedCredential>,
    /// `requiredResourceAccess` as sent: it declares, it grants nothing.
    pub required_resource_access: Vec<Value>,
    /// Object ids of owners (users or service principals).
    pub owners: Vec<Uuid>,
    /// Replication: reads and references before this moment answer as if it did not exist.
    pub visible_from: Timestamp,
    /// Every other property of the Graph object, in Graph's spelling.
    pub rest: Map<String, Value>,
}

/// A `passwordCredential`.
#[derive(Clone)]
pub struct ClientSecret {
    pub key_id: Uuid,
    pub display_name: Option<String>,
    pub hint: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub text: String,
    /// Entra's token nodes accept it from here on, and not always at first (replication lag).
    pub accepted_from: Timestamp,
}

/// A `keyCredential` with an X.509 certificate.
#[derive(Debug, Clone)]
pub struct KeyCredential {
    pub key_id: Uuid,
    pub display_name: Option<String>,
    /// base64 in JSON; default = SHA-1 thumbprint.
    pub custom_key_identifier: Vec<u8>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// `AsymmetricX509Cert`
    pub kind: String,
    /// `Verify`
    pub usage: String,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    pub accepted_from: Timestamp,
}

/// A `federatedIdentityCredential`.
#[derive(Debug, Clone)]
pub struct FederatedCredential {
    pub id: Uuid,
    pub name: String,
    pub issuer: String,
    pub subject: String,
    pub audiences: Vec<String>,
    pub description: Option<String>,
}

/// An app inside this tenant: Microsoft's own APIs, and the tenant's apps once they are instantiated.
#[derive(Debug, Clone)]
pub struct ServicePrincipal {
    pub id: Uuid,
    pub app_id: Uuid,
    pub display_name: String,
    pub account_enabled: bool,
    pub app_role_assignment_required: bool,
    /// `appRoles` as Graph shows them: `{id, value, displayName, description, allowedMemberTypes, isEnabled, origin}`.
    pub app_roles: Vec<Value>,
    /// `oauth2PermissionScopes` as Graph shows them.
    pub scopes: Vec<Value>,
    pub owners: Vec<Uuid>,
    pub created: Timestamp,
    pub visible_from: Timestamp,
    pub rest: Map<String, Value>,
}

/// An application permission granted.
#[derive(Debug, Clone)]
pub struct AppRoleAssignment {
    /// base64url, not a GUID.
    pub id: String,
    pub principal_id: Uuid,
    pub resource_id: Uuid,
    pub app_role_id: Uuid,
    pub created: Timestamp,
    /// Tokens carry the role from here on (replication lag).
    pub effective_from: Timestamp,
}

/// A delegated permission grant (`oauth2PermissionGrant`).
#[derive(Debug, Clone)]
pub struct DelegatedGrant {
    pub id: String,
    /// Object id of the client's service principal.
    pub client_id: Uuid,
    /// `AllPrincipals` or `Principal`.
    pub consent_type: String,
    pub principal_id: Option<Uuid>,
    pub resource_id: Uuid,
    /// Space-separated.
    pub scope: String,
}

/// A row of the sign-in log, in /beta's shape.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub created: Timestamp,
    pub body: Value,
}

/// Limits on new credentials.
#[derive(Debug, Clone, Default)]
pub struct CredentialPolicy {
    pub secrets_forbidden: bool,
    pub max_secret_lifetime_days: Option<u32>,
    pub max_certificate_lifetime_days: Option<u32>,
}

/// Microsoft Graph's application id.
pub const GRAPH_APP_ID: Uuid = Uuid::from_u128(0x00000003_0000_0000_c000_000000000000);
/// Office 365 Exchange Online's application id.
pub const EXCHANGE_APP_ID: Uuid = Uuid::from_u128(0x00000002_0000_0ff1_ce00_000000000000);
/// *Microsoft Graph Command Line Tools*, the public client that setup signs an administrator in with.
pub const GRAPH_CLI_APP_ID: Uuid = Uuid::from_u128(0x14d82eec_204b_4c2f_b7e8_296a70dab67e);
/// The tenant that owns Microsoft's own applications.
pub const MICROSOFT_TENANT_ID: Uuid = Uuid::from_u128(0xf8cdef31_a31e_4b4a_93e4_5f571e91255a);

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("name", &self.user_principal_name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSecret").field("key_id", &self.key_id).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Directory {
    /// The user with this object id, principal name or alias; names without regard to case.
    pub fn user(&self, key: &str) -> Option<&User> {
        let id = Uuid::try_parse(key).ok();
        self.users.iter().find(|user| {
            Some(user.id) == id
                || user.user_principal_name.eq_ignore_ascii_case(key)
                || user.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(key))
        })
    }

    /// The registration with this client id, replicated or not.
    pub fn application_by_app_id(&self, app_id: Uuid) -> Option<&Application> {
        self.applications.iter().find(|app| app.app_id == app_id)
    }

    /// The service principal of this client id, replicated or not.
    pub fn service_principal_by_app_id(&self, app_id: Uuid) -> Option<&ServicePrincipal> {
        self.service_principals.iter().find(|principal| principal.app_id == app_id)
    }

    /// Values of the application permissions that a token of `principal` for `resource` carries at `now`.
    pub fn roles(&self, principal: Uuid, resource: &ServicePrincipal, now: Timestamp) -> Vec<String> {
        let names: BTreeMap<String, String> = resource
            .app_roles
            .iter()
            .filter_map(|role| Some((role["id"].as_str()?.to_ascii_lowercase(), role["value"].as_str()?.to_owned())))
            .collect();
        self.app_role_assignments
            .iter()
            .filter(|held| {
                held.principal_id == principal && held.resource_id == resource.id && held.effective_from <= now
            })
            .filter_map(|held| names.get(&held.app_role_id.to_string()).cloned())
            .collect()
    }
}
