//! A sender from values somebody was given: OAuth Client ID, Tenant ID, Email Address and a credential (mostly the Secret Key),
//! in any order and over any number of sittings. A credential is kept only once it has produced a token; until then the one
//! in use stays.

use jiff::Timestamp;
use postkey_base::{ClientId, ClientSecret, Diagnose, EmailAddress, TenantId, Who};
use postkey_graph::applications;
use postkey_identity::{Cloud, PortalPage, TenantRef, TokenEndpoint, TokenError};
use postkey_store::{
    App, CredentialState, LocalAppId, LocalCredentialId, Material, Minted, NewCredential, Opened, Origin, Sender,
    SenderValues, Store, StoreError,
};

use crate::{
    connection::{ConnectionError, Outside},
    given::{GivenCredential, GivenError, Kind, Offered},
    options::{OptionError, SetupName},
    pasted::{self, Field, PasteError},
};

/// What was given this time; the rest is as saved.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// *OAuth Client ID*.
    pub client_id: Option<String>,
    /// *Tenant ID*, or a domain of the tenant.
    pub tenant: Option<String>,
    /// *Email Address*.
    pub mailbox: Option<String>,
    /// *Secret Key*, or what stands in its place.
    pub credential: Option<GivenCredential>,
    /// When the secret ends, as the portal said: it cannot be read off the secret. A certificate's is.
    pub expires: Option<Timestamp>,
}

/// Why a sender could not be saved as given. Whatever was right before the mistake is saved, except a
/// credential.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] OptionError),
    /// A value that cannot be what its field asks for.
    #[error(transparent)]
    Paste(#[from] PasteError),
    /// Not a mailbox.
    #[error(transparent)]
    Mailbox(postkey_base::address::AddressError),
    /// A credential that cannot be right.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// Entra gave no token for it.
    #[error("the {} was not saved: {}", .kind.word(), not_accepted(*.kind, .cause))]
    Refused {
        /// What was given.
        kind: Kind,
        /// What of it a person compares with the portal.
        facts: Vec<(&'static str, String)>,
        /// Whether another credential is in use and stays so.
        another_stays: bool,
        /// What Entra said.
        #[source]
        cause: Box<TokenError>,
    },
    /// A credential before client id and tenant are known: only a secret is kept for later.
    #[error("the {} was not saved: it can be tried only once client id and tenant are known", .0.word())]
    TooEarly(Kind),
    /// The tenant cannot be found, or not asked about.
    #[error(transparent)]
    Tenant(Box<TokenError>),
    /// Store, network.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The end date lies in the past.
    #[error("a secret that ended on {0} cannot be in use")]
    Ended(jiff::civil::Date),
}

impl From<StoreError> for SenderError {
    fn from(error: StoreError) -> Self {
        Self::Connection(error.into())
    }
}

impl SenderError {
    fn inner(&self) -> Option<&dyn Diagnose> {
        match self {
            Self::Name(cause) => Some(cause),
            Self::Paste(cause) => Some(cause),
            Self::Given(cause) => Some(cause),
            Self::Refused { cause, .. } | Self::Tenant(cause) => Some(&**cause),
            Self::Connection(cause) => Some(cause),
            Self::Mailbox(_) | Self::Ended(_) | Self::TooEarly(_) => None,
        }
    }
}

impl Diagnose for SenderError {
    fn code(&self) -> &'static str {
        match self {
            Self::Mailbox(_) => "setup.mailbox_malformed",
            Self::Ended(_) => "setup.secret_ended",
            Self::TooEarly(_) => "setup.credential_too_early",
            Self::Refused { kind: Kind::Federated, cause, .. }
                if matches!(**cause, TokenError::AssertionTime { .. }) =>
            {
                "setup.federated_token_time"
            }
            _ => self.inner().map_or("setup.sender", Diagnose::code),
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            // Entra's own sentence behind ours: the catalogue's would say ours again.
            Self::Refused { cause, .. } if matches!(**cause, TokenError::Credential(_)) => cause.why(),
            // The enum's own words speak of our clock and our certificates.
            Self::Refused { kind: Kind::Federated, cause, .. } if cause.refusal().is_some() => {
                cause.refusal().map(ToString::to_string)
            }
            Self::Refused { cause, .. } => Some(match cause.refusal() {
                Some(refusal) => format!("{cause}: {refusal}"),
                None => cause.why().map_or_else(|| cause.to_string(), |why| format!("{cause}: {why}")),
            }),
            _ => self.inner().and_then(Diagnose::why),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Mailbox(_) => "Give the address of the mailbox that sends, such as noreply@contoso.com.".into(),
            Self::Ended(_) => {
                "Give the end date that the portal shows beside this secret, or make a new secret.".into()
            }
            Self::TooEarly(_) => "Give --client-id and --tenant together with it, or before.".into(),
            Self::Refused { kind, another_stays, cause, .. } => {
                let step = if *kind == Kind::Federated { federated_step(cause) } else { cause.remedy() };
                match (another_stays, kind) {
                    (false, _) => step,
                    (true, Kind::Secret) => format!("{step} The secret in use was not touched."),
                    (true, _) => format!("{step} The credential in use was not touched."),
                }
            }
            _ => self.inner().map(Diagnose::remedy).unwrap_or_default(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Refused { kind: Kind::Federated, cause, .. }
                if matches!(**cause, TokenError::AssertionTime { .. }) =>
            {
                Who::You
            }
            _ => self.inner().map_or(Who::You, Diagnose::who),
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        let mut evidence = self.inner().map(Diagnose::evidence).unwrap_or_default();
        if let Self::Refused { facts, .. } = self {
            evidence.splice(0..0, facts.iter().cloned());
        }
        evidence
    }
}

/// Whether Entra said no, or could not even be asked.
fn not_accepted(kind: Kind, cause: &TokenError) -> &'static str {
    match (kind, cause) {
        (_, TokenError::Credential(_)) => "it cannot be presented",
        (Kind::Federated, TokenError::AssertionTime { .. }) => "it is outside its valid time",
        _ => "Entra gives no token for it",
    }
}

/// What the refusal of another issuer's assertion asks for: its remedies for our own do not fit.
fn federated_step(cause: &TokenError) -> String {
    match (cause, cause.refusal()) {
        (TokenError::AssertionTime { .. }, _) => {
            "Let the issuer write a new token: this one is outside its valid time, or this machine's clock is off \
             (`timedatectl` shows it)."
                .into()
        }
        (TokenError::CertificateUnknown(_), _) => {
            "Let the issuer sign with a key that it publishes: Entra reads them where its /.well-known/openid-configuration says, \
             which must be reachable from the internet."
                .into()
        }
        (TokenError::CredentialRefused(_), Some(refusal)) => {
            let context = &refusal.context;
            let page = PortalPage::Credentials(context.client);
            format!(
                "Compare issuer, subject and audience with the federated credential under {} ({}), tab Federated credentials: \
                 each must be the same, upper and lower case included.",
                page.path(),
                page.link(&context.cloud)
            )
        }
        _ => cause.remedy(),
    }
}

/// Saves what was given under `name` and tries the credential as soon as app and tenant are known.
///
/// # Errors
/// The first value that does not hold.
pub async fn add(outside: &Outside, name: &str, cloud: &Cloud, given: Given) -> Result<Sender, SenderError> {
    let store = &outside.store;
    let mut values = match store.sender(name).await? {
        Some(known) => known.values,
        // The same names as setup's: they stand in commands, and beside each other in lists.
        None => SenderValues::named(name.parse::<SetupName>()?.as_str()),
    };
    // Shapes first: nothing is asked of anybody for a value that cannot be right.
    let now = outside.clock.now();
    let offered = given.credential.as_ref().map(|credential| credential.checked(now)).transpose()?;
    let client = given.client_id.as_deref().map(pasted::client_id).transpose()?.or(values.client_id);
    let tenant = given.tenant.as_deref().map(pasted::tenant).transpose()?;
    let tenant = tenant.or_else(|| values.tenant.map(TenantRef::from));
    if let Some(address) = given.mailbox.as_deref() {
        if address.trim().is_empty() {
            return Err(PasteError::Blank(Field::Mailbox).into());
        }
        values.mailbox = Some(address.parse::<EmailAddress>().map_err(SenderError::Mailbox)?);
    }
    if let Some(expires) = given.expires.filter(|expires| *expires <= now) {
        return Err(SenderError::Ended(expires.to_zoned_datetime(jiff::tz::TimeZone::UTC).date()));
    }
    if let (Some(client), Some(tenant)) = (client, &tenant) {
        pasted::ids_differ(client, tenant)?;
    }
    let cloud = cloud_of(outside, tenant.as_ref(), cloud).await?;
    let endpoint = outside.endpoint(&cloud)?;
    let tenant = match (&tenant, given.tenant.is_some()) {
        (Some(tenant), true) => Some(checked_tenant(&endpoint, tenant, client).await?),
        _ => values.tenant,
    };
    // Another app or tenant makes another sender of it: its credential is no longer this one's.
    if (client, tenant) != (values.client_id, values.tenant) {
        values.app = None;
    }
    values.client_id = client;
    values.tenant = tenant;
    if let Some(tenant) = tenant {
        let hosts = serde_json::to_value(&cloud).expect("a cloud holds nothing that JSON lacks");
        store.save_tenant(tenant, &hosts, None, None).await?;
        // An app that is known already, through setup or another sender, is shared with its credential.
        if let Some(client) = client
            && let Some(app) = store.app_by_client_id(tenant, client).await?
        {
            values.app = Some(app.id);
        }
    }
    let saved = store.save_sender(&values).await?;

    let staged = if saved.staged_secret { store.staged_sender_secret(name).await? } else { None };
    let is_new = offered.is_some();
    let Some(offered) = offered.or(staged.map(Offered::Secret)) else {
        // A date alone belongs to the secret that is in use.
        if let (Some(expires), Some(app)) = (given.expires, values.app)
            && let Some(secret) = secret_in_use(store, app).await?
        {
            store.record_learned(secret, None, Some(expires)).await?;
        }
        return Ok(saved);
    };
    let (Some(client), Some(tenant)) = (client, tenant) else {
        let Offered::Secret(secret) = &offered else { return Err(SenderError::TooEarly(offered.kind())) };
        return Ok(store.stage_sender_secret(name, secret).await?);
    };
    let (app, credential) = match try_credential(outside, &endpoint, tenant, client, &offered, given.expires).await {
        Ok(accepted) => accepted,
        Err(error) => {
            // A staged secret that turns out wrong is of no use to anybody.
            let hopeless = matches!(&error, SenderError::Refused { cause, .. } if !cause.is_transient());
            if hopeless && !is_new {
                store.drop_staged_sender_secret(name).await?;
            }
            return Err(error);
        }
    };
    values.app = Some(app);
    store.drop_staged_sender_secret(name).await?;
    let saved = store.save_sender(&values).await?;
    if let Offered::Secret(secret) = &offered {
        learn_end(outside, &cloud, app, credential, secret).await?;
    }
    Ok(saved)
}

/// An app that may read its own registration tells when its secret ends, and under which id. Most may not, and that is well:
/// then somebody must say the date.
async fn learn_end(
    outside: &Outside,
    cloud: &Cloud,
    app: LocalAppId,
    credential: LocalCredentialId,
    secret: &ClientSecret,
) -> Result<(), SenderError> {
    let store = &outside.store;
    let Some(app) = store.app(app).await? else { return Ok(()) };
    let graph = outside.app(&app, cloud).await?.graph()?;
    let Ok(registration) = applications::get_by_client_id(&graph, app.client_id).await else {
        return Ok(());
    };
    let now = outside.clock.now();
    let start: String = secret.expose().chars().take(3).collect();
    let mut candidates = registration
        .password_credentials
        .iter()
        .filter(|seen| seen.hint.as_deref() == Some(&*start) && seen.ends.is_none_or(|ends| ends > now));
    // Three characters are a hint, not an identity: two secrets that begin alike tell nothing.
    if let (Some(only), None) = (candidates.next(), candidates.next()) {
        store.record_learned(credential, Some(only.key_id), only.ends).await?;
    }
    Ok(())
}

/// The hosts of a tenant that is known already, by its id or its domain, else those given.
async fn cloud_of(outside: &Outside, tenant: Option<&TenantRef>, given: &Cloud) -> Result<Cloud, SenderError> {
    let Some(wanted) = tenant else { return Ok(given.clone()) };
    let named = wanted.to_string();
    let mut known = outside.store.tenants().await?.into_iter();
    let known = known.find(|tenant| {
        wanted.id() == Some(tenant.id)
            || tenant.domain.as_ref().is_some_and(|domain| domain.eq_ignore_ascii_case(&named))
    });
    let hosts = known.and_then(|tenant| serde_json::from_value(tenant.cloud).ok());
    Ok(hosts.unwrap_or_else(|| given.clone()))
}

/// The tenant's id, once the login host knows it. When it does not, but knows the client id as a tenant, the two were
/// swapped.
async fn checked_tenant(
    endpoint: &TokenEndpoint,
    tenant: &TenantRef,
    client: Option<ClientId>,
) -> Result<TenantId, SenderError> {
    let error = match endpoint.tenant_id(tenant).await {
        Ok(id) => return Ok(id),
        Err(error) => error,
    };
    if let (TokenError::TenantNotFound(_), Some(client), Some(id)) = (&error, client, tenant.id()) {
        let other = TenantRef::from(TenantId::new(client.uuid()));
        if endpoint.tenant_id(&other).await.is_ok() {
            return Err(PasteError::Swapped { client, tenant: id }.into());
        }
    }
    Err(SenderError::Tenant(Box::new(error)))
}

/// Gets a token with it; only then is it written down, app and credential in one commit.
async fn try_credential(
    outside: &Outside,
    endpoint: &TokenEndpoint,
    tenant: TenantId,
    client: ClientId,
    offered: &Offered,
    expires: Option<Timestamp>,
) -> Result<(LocalAppId, LocalCredentialId), SenderError> {
    let store = &outside.store;
    let credential = offered.presented();
    let scope = endpoint.cloud().graph_scope();
    let app = store.app_by_client_id(tenant, client).await?;
    if let Err(cause) = endpoint.client_credentials(&tenant.into(), client, &credential, &scope, None).await {
        let another_stays = match &app {
            Some(app) => store.current_credential(app.id).await?.is_some(),
            None => false,
        };
        let (kind, facts) = (offered.kind(), offered.facts());
        return Err(SenderError::Refused { kind, facts, another_stays, cause: Box::new(cause) });
    }
    let app = app.unwrap_or_else(|| App {
        id: LocalAppId::random(),
        tenant,
        client_id: client,
        object_id: None,
        service_principal: None,
        unique_name: None,
        display_name: format!("app {client}"),
        origin: Origin::Given,
        permissions: Vec::new(),
        created_at: outside.clock.now(),
    });
    let (starts_at, ends_at) = offered.validity();
    // A certificate knows its own end.
    let ends_at = ends_at.or(expires);
    if let Some(known) = known_already(store, app.id, offered).await? {
        store.record_learned(known, None, ends_at).await?;
        return Ok((app.id, known));
    }
    let id = LocalCredentialId::random();
    let (material, display_name) = offered.material();
    let nonce = id.to_string();
    let new = NewCredential { id, app: app.id, nonce, display_name, material, starts_at, ends_at };
    let minted = match offered {
        Offered::Secret(secret) => Minted {
            secret: Some(secret.clone()),
            hint: Some(secret.expose().chars().take(3).collect()),
            ..Minted::default()
        },
        Offered::Certificate(_) | Offered::Federated(_) => Minted::default(),
    };
    store
        .transaction("sender.credential_accepted", async |commit| {
            // Another run may have saved the same app since we looked.
            let app = commit.app_by_client_id(tenant, client).await?.unwrap_or_else(|| app.clone());
            commit.save_app(&app).await?;
            commit.insert_credential(&NewCredential { app: app.id, ..new.clone() }).await?;
            commit.record_minted(id, &minted).await?;
            commit.record_verified(id).await?;
            Ok((app.id, id))
        })
        .await
        .map_err(Into::into)
}

/// The secret that came last, also beside a certificate that came later: only a secret's end must be told.
async fn secret_in_use(store: &Store, app: LocalAppId) -> Result<Option<LocalCredentialId>, StoreError> {
    let secrets = store.credentials(app).await?.into_iter().filter_map(|held| match (held.state, held.material) {
        (CredentialState::Verified { at }, Material::Secret { .. }) => Some((at, held.id)),
        _ => None,
    });
    Ok(secrets.max_by_key(|(at, _)| *at).map(|(_, id)| id))
}

/// The same credential, given once more, is no second one.
async fn known_already(
    store: &Store,
    app: LocalAppId,
    offered: &Offered,
) -> Result<Option<LocalCredentialId>, StoreError> {
    for held in store.credentials(app).await? {
        if !matches!(held.state, CredentialState::Verified { .. }) || !offered.looks_like(&held.material) {
            continue;
        }
        let same = match (offered, store.open_credential(held.id).await?) {
            (Offered::Secret(secret), Opened::Secret(known)) => known.expose() == secret.expose(),
            _ => true,
        };
        if same {
            return Ok(Some(held.id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use postkey_base::{Clock, PrivateKeyDer};
    use postkey_identity::Network;
    use postkey_store::{Location, MasterKeys, NewMaterial};

    use super::*;

    async fn outside(folder: &tempfile::TempDir) -> Outside {
        let place = Location::Sqlite(folder.path().join("postkey.db"));
        let store = Store::open(place, MasterKeys::fresh(), Clock::real()).await.unwrap();
        Outside::new(store, Network::default(), Clock::real())
    }

    #[tokio::test]
    async fn a_sender_is_named_as_a_setup_is() {
        let folder = tempfile::tempdir().unwrap();
        let outside = outside(&folder).await;
        for name in ["", "a b", "--json", "Reports", "a\u{1b}[2J", "a;b"] {
            let refused = add(&outside, name, &Cloud::global(), Given::default()).await.unwrap_err();
            assert_eq!(refused.code(), "setup.name", "{name:?}");
            assert!(outside.store.senders().await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_known_tenant_has_its_own_hosts_and_another_tenant_those_that_were_given() {
        let folder = tempfile::tempdir().unwrap();
        let outside = outside(&folder).await;
        let tenant = TenantId::random();
        let hosts = serde_json::to_value(Cloud::us_gov()).unwrap();
        outside.store.save_tenant(tenant, &hosts, None, Some("contoso.example")).await.unwrap();
        for (named, own) in [
            (tenant.to_string(), true),
            ("Contoso.Example".to_owned(), true),
            (TenantId::random().to_string(), false),
            ("fabrikam.example".to_owned(), false),
        ] {
            let found = cloud_of(&outside, Some(&named.parse().unwrap()), &Cloud::china()).await.unwrap();
            assert_eq!(found, if own { Cloud::us_gov() } else { Cloud::china() }, "{named}");
        }
    }

    #[tokio::test]
    async fn a_date_alone_is_the_secrets_although_a_certificate_came_later() {
        let folder = tempfile::tempdir().unwrap();
        let store = outside(&folder).await.store;
        let tenant = TenantId::random();
        store.save_tenant(tenant, &serde_json::json!({}), None, None).await.unwrap();
        let app = App {
            id: LocalAppId::random(),
            tenant,
            client_id: ClientId::random(),
            object_id: None,
            service_principal: None,
            unique_name: None,
            display_name: "app".into(),
            origin: Origin::Given,
            permissions: Vec::new(),
            created_at: Timestamp::now(),
        };
        store.save_app(&app).await.unwrap();
        let secret = Some(ClientSecret::new("a-secret-of-the-app".into()));
        let certificate = NewMaterial::Certificate {
            thumbprint: "AB".into(),
            certificate: vec![1],
            private_key: PrivateKeyDer::new(vec![2]),
        };
        let mut ids = Vec::new();
        for (material, secret) in [(NewMaterial::Secret, secret), (certificate, None)] {
            let id = LocalCredentialId::random();
            let (nonce, display_name) = (id.to_string(), "given".into());
            let new = NewCredential { id, app: app.id, nonce, display_name, material, starts_at: None, ends_at: None };
            store.insert_credential(&new).await.unwrap();
            store.record_minted(id, &Minted { secret, ..Minted::default() }).await.unwrap();
            store.record_verified(id).await.unwrap();
            ids.push(id);
        }
        assert_eq!(secret_in_use(&store, app.id).await.unwrap(), Some(ids[0]));
        assert_eq!(secret_in_use(&store, LocalAppId::random()).await.unwrap(), None);
    }
}
