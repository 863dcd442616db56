//! App registrations that we made or were given.

use jiff::Timestamp;
use postkey_base::{AppObjectId, ClientId, ServicePrincipalId, TenantId};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError, Transaction,
    row::{Row, local_id, milliseconds, words},
    store::delegate,
};

local_id!(
    /// An app registration in this store; Microsoft knows nothing of it.
    LocalAppId
);

/// How we came by an app registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// postkey registered it and may change it.
    Registered,
    /// Someone else registered it and gave us its values.
    Given,
}

words!(Origin { Registered = "registered", Given = "given" });

/// One app registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Our own id.
    pub id: LocalAppId,
    /// The tenant it is registered in.
    pub tenant: TenantId,
    /// Graph's `appId`.
    pub client_id: ClientId,
    /// Graph's `id`; unknown for an app that was given.
    pub object_id: Option<AppObjectId>,
    /// Its service principal in that tenant, once it exists.
    pub service_principal: Option<ServicePrincipalId>,
    /// `uniqueName`, by which registering it again finds it.
    pub unique_name: Option<String>,
    /// What people see.
    pub display_name: String,
    /// How we came by it.
    pub origin: Origin,
    /// The permissions it was granted, by value: `Mail.Send`.
    pub permissions: Vec<String>,
    /// When it was first saved.
    pub created_at: Timestamp,
}

impl TryFrom<Row> for App {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.parse("id")?,
            tenant: row.parse("tenant_id")?,
            client_id: row.parse("client_id")?,
            object_id: row.optional("object_id")?,
            service_principal: row.optional("service_principal_id")?,
            unique_name: row.optional_text("unique_name")?,
            display_name: row.text("display_name")?,
            origin: row.parse("origin")?,
            permissions: row.json("permissions")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Transaction {
    /// Saves an app, or its present values under its id. Another app of the tenant with the same client id, or one with the
    /// same unique name, is [`StoreError::Exists`]; its tenant and client id never change.
    pub async fn save_app(&mut self, app: &App) -> Result<(), StoreError> {
        self.announce();
        let query = sqlx::query(
            "-- app.save
             INSERT INTO apps (id, tenant_id, client_id, object_id, service_principal_id, unique_name, display_name,
                               origin, permissions, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (id) DO UPDATE SET
                 object_id = COALESCE(excluded.object_id, apps.object_id),
                 service_principal_id = COALESCE(excluded.service_principal_id, apps.service_principal_id),
                 unique_name = COALESCE(excluded.unique_name, apps.unique_name),
                 display_name = excluded.display_name,
                 permissions = excluded.permissions,
                 updated_at = excluded.updated_at
             WHERE apps.tenant_id = excluded.tenant_id AND apps.client_id = excluded.client_id",
        )
        .bind(app.id.to_string())
        .bind(app.tenant.to_string())
        .bind(app.client_id.to_string())
        .bind(app.object_id.map(|id| id.to_string()))
        .bind(app.service_principal.map(|id| id.to_string()))
        .bind(app.unique_name.clone())
        .bind(app.display_name.clone())
        .bind(app.origin.word())
        .bind(serde_json::Value::from(app.permissions.clone()).to_string())
        .bind(milliseconds(app.created_at))
        .bind(milliseconds(self.now()));
        match self.execute(&format!("the app {} of tenant {}", app.client_id, app.tenant), query).await? {
            0 => Err(StoreError::NotAllowed { what: format!("tenant and client id of app {} never change", app.id) }),
            _ => Ok(()),
        }
    }

    /// An app by our id.
    pub async fn app(&mut self, id: LocalAppId) -> Result<Option<App>, StoreError> {
        let query = sqlx::query(
            "-- app.find
             SELECT id, tenant_id, client_id, object_id, service_principal_id, unique_name, display_name, origin,
                    permissions, created_at
             FROM apps WHERE id = $1",
        )
        .bind(id.to_string());
        self.fetch_optional("apps", "id", query).await?.map(App::try_from).transpose()
    }

    /// An app by tenant and client id.
    pub async fn app_by_client_id(&mut self, tenant: TenantId, client_id: ClientId) -> Result<Option<App>, StoreError> {
        let query = sqlx::query(
            "-- app.find_by_client_id
             SELECT id, tenant_id, client_id, object_id, service_principal_id, unique_name, display_name, origin,
                    permissions, created_at
             FROM apps WHERE tenant_id = $1 AND client_id = $2",
        )
        .bind(tenant.to_string())
        .bind(client_id.to_string());
        self.fetch_optional("apps", "id", query).await?.map(App::try_from).transpose()
    }

    /// An app by tenant and the unique name it was registered under.
    pub async fn app_by_unique_name(&mut self, tenant: TenantId, name: &str) -> Result<Option<App>, StoreError> {
        let query = sqlx::query(
            "-- app.find_by_unique_name
             SELECT id, tenant_id, client_id, object_id, service_principal_id, unique_name, display_name, origin,
                    permissions, created_at
             FROM apps WHERE tenant_id = $1 AND unique_name = $2",
        )
        .bind(tenant.to_string())
        .bind(name.to_owned());
        self.fetch_optional("apps", "id", query).await?.map(App::try_from).transpose()
    }

    /// All apps, oldest first.
    pub async fn apps(&mut self) -> Result<Vec<App>, StoreError> {
        let query = sqlx::query(
            "-- app.list
             SELECT id, tenant_id, client_id, object_id, service_principal_id, unique_name, display_name, origin,
                    permissions, created_at
             FROM apps ORDER BY created_at, id",
        );
        self.fetch_all("apps", "id", query).await?.into_iter().map(App::try_from).collect()
    }
}

impl Store {
    delegate! {
        write save_app(app: &App) -> ();
        read app(id: LocalAppId) -> Option<App>;
        read app_by_client_id(tenant: TenantId, client_id: ClientId) -> Option<App>;
        read app_by_unique_name(tenant: TenantId, name: &str) -> Option<App>;
        read apps() -> Vec<App>;
    }
}
