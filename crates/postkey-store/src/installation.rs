//! Which installation this is: part of the unique name of every app it registers, made once and never changed.

use postkey_base::InstallationId;

use crate::{Store, StoreError, Transaction, row::milliseconds, store::delegate};

impl Transaction {
    /// The id of this installation, made when it is first asked for.
    pub async fn installation(&mut self) -> Result<InstallationId, StoreError> {
        let insert = sqlx::query(
            "-- installation.create
             INSERT INTO installation (one, id, created_at) VALUES (1, $1, $2) ON CONFLICT (one) DO NOTHING",
        )
        .bind(InstallationId::random().to_string())
        .bind(milliseconds(self.now()));
        self.execute("the installation", insert).await?;
        let select = sqlx::query(
            "-- installation.find
             SELECT id FROM installation WHERE one = 1",
        );
        self.fetch_one("installation", "id", select).await?.parse("id")
    }
}

impl Store {
    delegate! {
        write installation() -> InstallationId;
    }
}
