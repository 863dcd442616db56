//! Tenants, each in one cloud. The cloud's hosts are kept as the settings wrote them; the store does not read them.

use jiff::Timestamp;
use postkey_base::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Store, StoreError, Transaction,
    row::{Row, milliseconds},
    store::delegate,
};

/// One Entra directory that we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Which.
    pub id: TenantId,
    /// Its cloud profile, opaque here.
    pub cloud: Value,
    /// The organisation's name, once seen.
    pub display_name: Option<String>,
    /// Its default domain, once seen.
    pub domain: Option<String>,
    /// When it was first saved.
    pub created_at: Timestamp,
}

impl TryFrom<Row> for Tenant {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.parse("id")?,
            cloud: row.json("cloud")?,
            display_name: row.optional_text("display_name")?,
            domain: row.optional_text("domain")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Transaction {
    /// Saves a tenant, or what was learned about it since: `None` never forgets a name.
    /// The cloud of a tenant that holds a credential stays as it is; another one is refused as [`StoreError::NotAllowed`].
    pub async fn save_tenant(
        &mut self,
        id: TenantId,
        cloud: &Value,
        display_name: Option<&str>,
        domain: Option<&str>,
    ) -> Result<Tenant, StoreError> {
        if let Some(known) = self.tenant(id).await?
            && known.cloud != *cloud
            && self.tenant_holds_credential(id).await?
        {
            return Err(StoreError::HostsFixed { tenant: id });
        }
        self.announce();
        let query = sqlx::query(
            "-- tenant.save
             INSERT INTO tenants (id, cloud, display_name, domain, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $5)
             ON CONFLICT (id) DO UPDATE SET
                 cloud = excluded.cloud,
                 display_name = COALESCE(excluded.display_name, tenants.display_name),
                 domain = COALESCE(excluded.domain, tenants.domain),
                 updated_at = excluded.updated_at
             RETURNING id, cloud, display_name, domain, created_at",
        )
        .bind(id.to_string())
        .bind(cloud.to_string())
        .bind(display_name.map(str::to_owned))
        .bind(domain.map(str::to_owned))
        .bind(milliseconds(self.now()));
        self.fetch_one("tenants", "id", query).await?.try_into()
    }

    /// A tenant, if we know it.
    pub async fn tenant(&mut self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        let query = sqlx::query(
            "-- tenant.find
             SELECT id, cloud, display_name, domain, created_at FROM tenants WHERE id = $1",
        )
        .bind(id.to_string());
        self.fetch_optional("tenants", "id", query).await?.map(Tenant::try_from).transpose()
    }

    /// All tenants, oldest first.
    pub async fn tenants(&mut self) -> Result<Vec<Tenant>, StoreError> {
        let query = sqlx::query(
            "-- tenant.list
             SELECT id, cloud, display_name, domain, created_at FROM tenants ORDER BY created_at, id",
        );
        self.fetch_all("tenants", "id", query).await?.into_iter().map(Tenant::try_from).collect()
    }

    async fn tenant_holds_credential(&mut self, id: TenantId) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- tenant.holds_credential
             SELECT credentials.id FROM credentials JOIN apps ON apps.id = credentials.app_id
             WHERE apps.tenant_id = $1 AND credentials.state <> 'retired' LIMIT 1",
        )
        .bind(id.to_string());
        Ok(self.fetch_optional("credentials", "id", query).await?.is_some())
    }
}

impl Store {
    delegate! {
        write save_tenant(id: TenantId, cloud: &Value, display_name: Option<&str>, domain: Option<&str>) -> Tenant;
        read tenant(id: TenantId) -> Option<Tenant>;
        read tenants() -> Vec<Tenant>;
    }
}
