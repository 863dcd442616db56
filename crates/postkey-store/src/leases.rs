//! Who may work on something, until when. Every taking raises the epoch, and what is written under an old one is refused.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError, Transaction,
    row::{Row, milliseconds},
    store::delegate,
};

/// A lease as it was given to a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What it is for, unique.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Until when.
    pub until: Timestamp,
    /// How often it was taken: the fencing token.
    pub epoch: i64,
}

impl TryFrom<Row> for Lease {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.text("name")?,
            holder: row.text("holder")?,
            until: row.time("until")?,
            epoch: row.number("epoch")?,
        })
    }
}

impl Transaction {
    /// Takes a lease that is free or has ended, whoever held it; `None` while another, or the same holder, has it.
    pub async fn take_lease(
        &mut self,
        name: &str,
        holder: &str,
        length: SignedDuration,
    ) -> Result<Option<Lease>, StoreError> {
        let query = sqlx::query(
            "-- lease.take
             INSERT INTO leases (name, holder, until, epoch) VALUES ($1, $2, $3, 1)
             ON CONFLICT (name) DO UPDATE SET
                 holder = excluded.holder, until = excluded.until, epoch = leases.epoch + 1
             WHERE leases.until <= $4
             RETURNING name, holder, until, epoch",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(milliseconds(self.after(length)))
        .bind(milliseconds(self.now()));
        self.fetch_optional("leases", "name", query).await?.map(Lease::try_from).transpose()
    }

    /// Takes a lease as [`Transaction::take_lease`] does, and also when the same holder has it: it is a holder's own, of whom
    /// nothing is left but the row, because the program was started anew.
    ///
    /// Its epochs are also later than those that other leases had before, because they follow the time: work that moves from
    /// one lease to another (a sender gets another app) must not look as if somebody newer had it.
    pub async fn retake_lease(
        &mut self,
        name: &str,
        holder: &str,
        length: SignedDuration,
    ) -> Result<Option<Lease>, StoreError> {
        let query = sqlx::query(
            "-- lease.retake
             INSERT INTO leases (name, holder, until, epoch) VALUES ($1, $2, $3, $4)
             ON CONFLICT (name) DO UPDATE SET
                 holder = excluded.holder, until = excluded.until,
                 epoch = CASE WHEN leases.epoch < excluded.epoch THEN excluded.epoch ELSE leases.epoch + 1 END
             WHERE leases.until <= $4 OR leases.holder = excluded.holder
             RETURNING name, holder, until, epoch",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(milliseconds(self.after(length)))
        .bind(milliseconds(self.now()));
        self.fetch_optional("leases", "name", query).await?.map(Lease::try_from).transpose()
    }

    /// Holds all leases of a holder whose names begin with `prefix` for longer, from now on, and gives those that it still has.
    pub async fn extend_leases(
        &mut self,
        holder: &str,
        prefix: &str,
        length: SignedDuration,
    ) -> Result<Vec<Lease>, StoreError> {
        let query = sqlx::query(
            "-- lease.extend_all
             UPDATE leases SET until = $3
             WHERE holder = $1 AND until > $4 AND SUBSTR(name, 1, CAST($5 AS INTEGER)) = $2
             RETURNING name, holder, until, epoch",
        )
        .bind(holder.to_owned())
        .bind(prefix.to_owned())
        .bind(milliseconds(self.after(length)))
        .bind(milliseconds(self.now()))
        .bind(i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX));
        self.fetch_all("leases", "name", query).await?.into_iter().map(Lease::try_from).collect()
    }

    /// Holds a lease for longer, from now on; [`StoreError::LeaseLost`] if it has ended or was taken.
    pub async fn extend_lease(&mut self, lease: &Lease, length: SignedDuration) -> Result<Lease, StoreError> {
        let query = sqlx::query(
            "-- lease.extend
             UPDATE leases SET until = $4
             WHERE name = $1 AND holder = $2 AND epoch = $3 AND until > $5
             RETURNING name, holder, until, epoch",
        )
        .bind(lease.name.clone())
        .bind(lease.holder.clone())
        .bind(lease.epoch)
        .bind(milliseconds(self.after(length)))
        .bind(milliseconds(self.now()));
        let row = self.fetch_optional("leases", "name", query).await?;
        row.ok_or_else(|| StoreError::LeaseLost { name: lease.name.clone() })?.try_into()
    }

    /// Checks, in the transaction that depends on it, that the lease is still ours.
    pub async fn confirm_lease(&mut self, lease: &Lease) -> Result<(), StoreError> {
        // An update rather than a select: on PostgreSQL it also keeps another from taking the lease until our commit.
        let query = sqlx::query(
            "-- lease.confirm
             UPDATE leases SET until = until WHERE name = $1 AND holder = $2 AND epoch = $3 AND until > $4",
        )
        .bind(lease.name.clone())
        .bind(lease.holder.clone())
        .bind(lease.epoch)
        .bind(milliseconds(self.now()));
        match self.execute("the lease", query).await? {
            0 => Err(StoreError::LeaseLost { name: lease.name.clone() }),
            _ => Ok(()),
        }
    }

    /// Gives a lease back; nothing happens if it is no longer ours. Its epoch stays.
    pub async fn release_lease(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- lease.release
             UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2 AND epoch = $3",
        )
        .bind(lease.name.clone())
        .bind(lease.holder.clone())
        .bind(lease.epoch);
        self.execute("the lease", query).await.map(drop)
    }

    /// A lease as it stands, whether it has ended or not.
    pub async fn lease(&mut self, name: &str) -> Result<Option<Lease>, StoreError> {
        let query = sqlx::query(
            "-- lease.find
             SELECT name, holder, until, epoch FROM leases WHERE name = $1",
        )
        .bind(name.to_owned());
        self.fetch_optional("leases", "name", query).await?.map(Lease::try_from).transpose()
    }

    fn after(&self, length: SignedDuration) -> Timestamp {
        self.now().saturating_add(length).unwrap_or(Timestamp::MAX)
    }
}

impl Store {
    delegate! {
        write take_lease(name: &str, holder: &str, length: SignedDuration) -> Option<Lease>;
        write retake_lease(name: &str, holder: &str, length: SignedDuration) -> Option<Lease>;
        write extend_leases(holder: &str, prefix: &str, length: SignedDuration) -> Vec<Lease>;
        write extend_lease(lease: &Lease, length: SignedDuration) -> Lease;
        write confirm_lease(lease: &Lease) -> ();
        write release_lease(lease: &Lease) -> ();
        read lease(name: &str) -> Option<Lease>;
    }
}
