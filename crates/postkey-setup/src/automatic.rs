//! The three phases, driven against the tenant. Every step can be repeated: a run that was killed anywhere is run again
//! and ends with one app, one service principal, one live credential and no stray key.

use std::{future::Future, time::Duration};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{Clock, ServicePrincipalId};
use postkey_graph::{
    Graph, GraphError, app_role_assignments,
    applications::{self, AccessKind, Application, ApplicationProperties, Audience, RequiredAccess, RequiredResource},
    organization::{self, Organization},
    permissions::{Api, Permission},
    service_principals::{self, ServicePrincipal},
};
use postkey_identity::{PortalPage, TenantRef};
use postkey_store::{App, LocalAppId, Origin, Sender, SenderValues, Store};

use crate::{
    connection::{AppConnection, Outside},
    error::SetupError,
    options::{Reach, SetupOptions},
    plan::Phase,
    sign_in::Administrator,
    turn::Turn,
    watch::{Event, Watcher},
};

/// What setup waits for before it gives up; the same command goes on later.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Directory writes: seconds to more than five minutes have been reported.
    pub replication: Duration,
    /// 403 right after an app was made; later it means what it says.
    pub fresh_app: Duration,
    /// A new credential at the token endpoint.
    pub acceptance: Duration,
    /// A permission granted in Entra.
    pub consent: Duration,
    /// A role assigned in Exchange: up to two hours.
    pub exchange: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Self {
            replication: minutes(10),
            fresh_app: minutes(1),
            acceptance: minutes(10),
            consent: minutes(10),
            exchange: minutes(120),
        }
    }
}

/// One setup and what it works with.
pub struct Automatic<'a> {
    /// What was asked for.
    pub options: &'a SetupOptions,
    /// Store, network, clock.
    pub outside: &'a Outside,
    /// Whose rights are used.
    pub administrator: &'a Administrator,
    /// Who is told.
    pub watcher: &'a dyn Watcher,
    /// How long it may take.
    pub patience: Patience,
}

/// A finished setup.
#[derive(Debug)]
pub struct Done {
    /// The tenant.
    pub organization: Organization,
    /// The registered app.
    pub app: App,
    /// The verified sender.
    pub sender: Sender,
    /// What the proof showed.
    pub proof: crate::proof::Proof,
}

impl Automatic<'_> {
    /// Runs all phases.
    ///
    /// # Errors
    /// Where it stopped and why; running it again goes on from there.
    pub async fn run(&self) -> Result<Done, SetupError> {
        let turn = Turn::take(&self.outside.store, self.options.name.as_str()).await?;
        turn.during(self.phases()).await
    }

    async fn phases(&self) -> Result<Done, SetupError> {
        let store = &self.outside.store;
        let installation = store.installation().await?;
        let asked = serde_json::to_value(self.options).expect("options hold nothing that JSON lacks");
        let mut run = store.begin_setup_run(self.options.name.as_str(), &asked, "register").await?;
        run.options = asked;
        let graph = self.outside.graph(&self.options.cloud, self.administrator.tokens.clone())?;

        self.phase(Phase::Register);
        let organization = self.organization(&graph).await?;
        let (application, principal) = self.register(&graph, &self.options.unique_name(installation)).await?;
        let app = self.remember(&organization, &application, &principal).await?;

        self.phase(Phase::Credential);
        run = store.save_setup_run(&postkey_store::SetupRun { step: "credential".into(), ..run }).await?;
        self.credential(&graph, &application, &app).await?;
        let connection = self.outside.app(&app, &self.options.cloud).await?;
        self.save_sender(&app).await?;

        self.phase(Phase::Permissions);
        run = store.save_setup_run(&postkey_store::SetupRun { step: "permissions".into(), ..run }).await?;
        let app = self.permissions(&graph, app, principal.id).await?;

        self.phase(Phase::Proof);
        run = store.save_setup_run(&postkey_store::SetupRun { step: "proof".into(), ..run }).await?;
        let proof = self.prove(&connection).await?;
        self.sweep(&graph, &app).await?;
        let sender = store.sender(self.options.name.as_str()).await?;
        store.save_setup_run(&postkey_store::SetupRun { step: "done".into(), ..run }).await?;
        let sender =
            sender.ok_or_else(|| postkey_store::StoreError::NotFound { what: "the sender just saved".into() })?;
        self.warn_of_a_grant(&connection, sender.reach);
        Ok(Done { organization, app, sender, proof })
    }

    async fn organization(&self, graph: &Graph) -> Result<Organization, SetupError> {
        const STEP: &str = "read which tenant this is";
        self.watcher.notice(Event::Begun { what: STEP });
        let found = self.settle(STEP, Lag::None, || organization::get(graph)).await?;
        if let Some(wanted) = self.options.tenant.id()
            && wanted != found.id
        {
            return Err(SetupError::OtherTenant { signed_in: found.id.to_string(), wanted: wanted.to_string() });
        }
        self.watcher.notice(Event::Done {
            what: &format!("tenant {}", found.display_name),
            detail: Some(&found.id.to_string()),
        });
        Ok(found)
    }

    async fn register(&self, graph: &Graph, unique_name: &str) -> Result<(Application, ServicePrincipal), SetupError> {
        const APP: &str = "register the application";
        const READ: &str = "read the registration back";
        const PRINCIPAL: &str = "make the enterprise application";
        self.watcher.notice(Event::Begun { what: APP });
        let properties = registration(self.options);
        self.settle(APP, Lag::EarlierRun, || applications::upsert(graph, unique_name, &properties)).await?;
        let application =
            self.settle(READ, Lag::Replication, || applications::get_by_unique_name(graph, unique_name)).await?;
        self.watcher.notice(Event::Done {
            what: &format!("application {:?}", application.display_name),
            detail: Some(&application.client_id.to_string()),
        });
        self.watcher.notice(Event::Begun { what: PRINCIPAL });
        let client = application.client_id;
        // Found first, then made: while it replicates, a lookup misses it and making it again conflicts, in turns.
        let principal = self
            .settle(PRINCIPAL, Lag::Replication, || async {
                match service_principals::get_by_client_id(graph, client).await {
                    Err(GraphError::NotFound(_)) => match service_principals::create(graph, client).await {
                        Err(GraphError::Conflict(_)) => service_principals::get_by_client_id(graph, client).await,
                        made => made,
                    },
                    found => found,
                }
            })
            .await?;
        self.watcher.notice(Event::Done { what: "enterprise application", detail: Some(&principal.id.to_string()) });
        Ok((application, principal))
    }

    /// Tenant and app in the store, under the ids that Graph gave.
    async fn remember(
        &self,
        organization: &Organization,
        application: &Application,
        principal: &ServicePrincipal,
    ) -> Result<App, SetupError> {
        let store = &self.outside.store;
        let cloud = serde_json::to_value(&self.options.cloud).expect("a cloud holds nothing that JSON lacks");
        let domain = organization
            .verified_domains
            .iter()
            .find(|domain| domain.is_default)
            .or(organization.verified_domains.first())
            .map(|domain| domain.name.as_str());
        store.save_tenant(organization.id, &cloud, Some(&organization.display_name), domain).await?;
        let known = store.app_by_client_id(organization.id, application.client_id).await?;
        let app = App {
            id: known.as_ref().map_or_else(LocalAppId::random, |app| app.id),
            tenant: organization.id,
            client_id: application.client_id,
            object_id: Some(application.id),
            service_principal: Some(principal.id),
            unique_name: application.unique_name.clone(),
            display_name: application.display_name.clone(),
            origin: Origin::Registered,
            permissions: known.as_ref().map(|app| app.permissions.clone()).unwrap_or_default(),
            created_at: known.map_or_else(|| self.outside.clock.now(), |app| app.created_at),
        };
        store.save_app(&app).await?;
        Ok(app)
    }

    async fn save_sender(&self, app: &App) -> Result<Sender, SetupError> {
        let values = SenderValues {
            tenant: Some(app.tenant),
            client_id: Some(app.client_id),
            mailbox: Some(self.options.mailbox.clone()),
            app: Some(app.id),
            ..SenderValues::named(self.options.name.as_str())
        };
        Ok(self.outside.store.save_sender(&values).await?)
    }

    async fn permissions(&self, graph: &Graph, mut app: App, principal: ServicePrincipalId) -> Result<App, SetupError> {
        let wanted = self.options.permissions();
        if self.options.reach == Reach::Limited {
            self.watcher.notice(Event::Note(
                "no permission is granted in Entra: with one, the app could send as every mailbox whatever Exchange says",
            ));
        }
        if !wanted.is_empty() {
            const LIST: &str = "read which permissions it holds";
            let held =
                self.settle(LIST, Lag::Replication, || app_role_assignments::list(graph, principal, None)).await?;
            for api in [Api::Graph, Api::Exchange] {
                let of_api: Vec<_> = wanted.iter().filter(|(permission, _)| permission.api == api).collect();
                if of_api.is_empty() {
                    continue;
                }
                let resource = self.api(graph, api).await?;
                for (permission, reason) in of_api {
                    self.grant(graph, principal, &resource, permission, &held).await?;
                    self.watcher
                        .notice(Event::Done { what: &format!("{} granted", permission.name), detail: Some(reason) });
                    if !app.permissions.iter().any(|name| name == permission.name) {
                        app.permissions.push(permission.name.to_owned());
                    }
                }
            }
        }
        self.outside.store.save_app(&app).await?;
        Ok(app)
    }

    /// The API's service principal; Exchange Online may be missing from a tenant that never used it.
    async fn api(&self, graph: &Graph, api: Api) -> Result<ServicePrincipal, SetupError> {
        const STEP: &str = "find the API whose permissions are wanted";
        self.settle(STEP, Lag::Replication, || async {
            match service_principals::get_by_client_id(graph, api.client_id()).await {
                Err(GraphError::NotFound(_)) if api == Api::Exchange => {
                    service_principals::create(graph, api.client_id()).await
                }
                found => found,
            }
        })
        .await
    }

    async fn grant(
        &self,
        graph: &Graph,
        principal: ServicePrincipalId,
        api: &ServicePrincipal,
        permission: &Permission,
        held: &[app_role_assignments::AppRoleAssignment],
    ) -> Result<(), SetupError> {
        const STEP: &str = "grant a permission";
        // The tenant's own list goes before the table: Exchange publishes no ids at all.
        let role = api
            .app_roles
            .iter()
            .find(|role| role.value.as_deref() == Some(permission.name))
            .map(|role| role.id)
            .or(permission.application_id);
        let Some(role) = role else {
            return Err(SetupError::NotOffered { permission: permission.name, api: permission.api.name() });
        };
        if held.iter().any(|one| one.app_role_id == role && one.api_id == api.id) {
            return Ok(());
        }
        self.settle(STEP, Lag::Replication, || async {
            match app_role_assignments::grant(graph, principal, api.id, role).await {
                // The list lags behind a write, or an earlier try went through: Graph has one code for many refusals, so look.
                Err(error @ GraphError::Unknown(_)) => {
                    let held = app_role_assignments::list(graph, principal, Some(api.id)).await?;
                    held.into_iter().find(|one| one.app_role_id == role).ok_or(error)
                }
                answered => answered,
            }
        })
        .await?;
        Ok(())
    }

    async fn prove(&self, connection: &AppConnection) -> Result<crate::proof::Proof, SetupError> {
        crate::proof::Prover {
            connection,
            outside: self.outside,
            mailbox: &self.options.mailbox,
            test_to: &self.options.test_to,
            sender: self.options.name.as_str(),
            reach: self.options.reach,
            smtp: self.options.smtp,
            read_write: self.options.read_write,
            watcher: self.watcher,
            patience: self.patience,
        }
        .prove()
        .await
    }

    /// A grant in Entra from before makes the limit worthless, and nobody would notice: sending works.
    fn warn_of_a_grant(&self, connection: &AppConnection, proved: postkey_store::Reach) {
        if self.options.reach != Reach::Limited || proved != postkey_store::Reach::TenantWide {
            return;
        }
        let page = PortalPage::ApiPermissions(connection.app.client_id);
        self.watcher.notice(Event::Warning(&format!(
            "Mail.Send is granted in Entra from before. The two add up, so the app can still send as every mailbox until that \
             grant is removed under {}: {}",
            page.path(),
            connection.cloud.portal_link(page)
        )));
    }

    pub(crate) fn store(&self) -> &Store {
        &self.outside.store
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.outside.clock
    }

    pub(crate) fn tenant(&self, app: &App) -> TenantRef {
        TenantRef::from(app.tenant)
    }

    fn phase(&self, phase: Phase) {
        self.watcher.notice(Event::Phase { number: phase.number(), of: Phase::ALL.len(), title: phase.title() });
    }

    /// Repeats a step that may be repeated, while the tenant may still have to catch up.
    pub(crate) async fn settle<T, F, Attempt>(
        &self,
        step: &'static str,
        lag: Lag,
        mut attempt: F,
    ) -> Result<T, SetupError>
    where
        F: FnMut() -> Attempt,
        Attempt: Future<Output = Result<T, GraphError>>,
    {
        let mut wait = Wait::new(self.outside.clock.clone(), self.patience.replication);
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let worth_it = match &error {
                GraphError::AccessDenied(_) => lag == Lag::Replication && wait.waited() < self.patience.fresh_app,
                error if error.is_transient() => true,
                GraphError::NotFound(_) | GraphError::NotReplicatedYet(_) | GraphError::Conflict(_)
                    if lag == Lag::EarlierRun =>
                {
                    true
                }
                error => lag == Lag::Replication && error.may_be_replication_lag(),
            };
            if !worth_it {
                return Err(SetupError::Graph { step, cause: Box::new(error) });
            }
            if !wait
                .again(error.retry_after(), |waited, until| {
                    self.watcher.notice(Event::Waiting { what: step, waited, until });
                })
                .await
            {
                return Err(SetupError::NotSettled { step, waited: wait.waited(), cause: Box::new(error) });
            }
        }
    }
}

/// Whether a refusal may only mean that a write has not been seen everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lag {
    /// Nothing was written yet.
    None,
    /// An interrupted run may have written it moments ago: then it is neither to be found nor to be made again.
    EarlierRun,
    /// Something was.
    Replication,
}

/// Ever longer pauses up to a deadline.
pub(crate) struct Wait {
    clock: Clock,
    began: Timestamp,
    patience: Duration,
    pause: Duration,
}

/// The first pause: replication often takes less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest: a person watches.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Wait {
    pub(crate) fn new(clock: Clock, patience: Duration) -> Self {
        Self { began: clock.now(), clock, patience, pause: FIRST_PAUSE }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.clock.now().duration_since(self.began).try_into().unwrap_or_default()
    }

    /// Waits a little longer than the last time, or as long as the server asked. False when time is up.
    pub(crate) async fn again(&mut self, asked: Option<Duration>, tell: impl FnOnce(Duration, Timestamp)) -> bool {
        let pause = asked.unwrap_or(self.pause).max(self.pause);
        let waited = self.waited();
        if waited.saturating_add(pause) > self.patience {
            return false;
        }
        let patience = SignedDuration::try_from(self.patience).unwrap_or(SignedDuration::MAX);
        let until = self.began.saturating_add(patience).unwrap_or(Timestamp::MAX);
        tell(waited, until);
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// What the registration declares.
pub(crate) fn registration(options: &SetupOptions) -> ApplicationProperties {
    let access: Vec<RequiredAccess> = options
        .permissions()
        .iter()
        .filter(|(permission, _)| permission.api == Api::Graph)
        .filter_map(|(permission, _)| permission.application_id)
        .map(|id| RequiredAccess { id: id.uuid(), kind: AccessKind::Role })
        .collect();
    let required =
        if access.is_empty() { vec![] } else { vec![RequiredResource { api: Api::Graph.client_id(), access }] };
    ApplicationProperties {
        display_name: Some(options.display_name()),
        sign_in_audience: Some(Audience::MyTenant),
        required_resource_access: Some(required),
        ..ApplicationProperties::default()
    }
}
