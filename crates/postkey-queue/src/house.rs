//! Keeping the house: what need not be kept any more goes, a little at a time.

use std::{sync::Arc, time::Duration};

use postkey_store::StoreError;

use crate::{
    engine::Engine,
    schedule::{before, until},
};

/// The clock is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And this often something is removed.
const EVERY: Duration = Duration::from_secs(60);
/// Steps of one round; each removes a hundred messages at most.
const STEPS: usize = 100;
/// Between two steps others have the store.
const BREATH: Duration = Duration::from_millis(20);
/// Dead notices are kept so long.
const KEEP_DEAD_NOTICES: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// One node at a time.
const LEASE: &str = "queue-house";

impl Engine {
    /// Removes what is old, for as long as the queue runs.
    pub(crate) async fn keep_house(self: Arc<Self>) {
        let mut last = self.clock.now();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.clock.now();
            // A clock that was set back must not stop it for long.
            if now >= last && until(last, now) < EVERY {
                continue;
            }
            last = now;
            // What another node left when it died is found by whoever looks.
            if matches!(self.store.location(), postkey_store::Location::Postgres(_))
                && let Err(error) = self.read_unsettled().await
            {
                tracing::warn!(%error, "what other nodes left unsettled could not be read");
            }
            if let Err(error) = self.clean_up().await {
                tracing::warn!(%error, "what is old could not be removed");
            }
        }
    }

    async fn clean_up(&self) -> Result<(), StoreError> {
        let length = jiff::SignedDuration::from_secs(120);
        if self.store.retake_lease(LEASE, &self.node, length).await?.is_none() {
            return Ok(());
        }
        let now = self.clock.now();
        let keep_failed = self.settings.keep_failed.max(self.settings.keep_accepted);
        for _ in 0..STEPS {
            let removed = self.store.prune_accepted_bodies(before(now, self.settings.keep_accepted)).await?;
            if removed == 0 || self.stop.is_cancelled() {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        for _ in 0..STEPS {
            let removed = self.store.prune_messages(before(now, keep_failed)).await?;
            if removed < 100 || self.stop.is_cancelled() {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        self.store.prune_notices(before(now, KEEP_DEAD_NOTICES)).await?;
        Ok(())
    }

    /// Gives every lane back: another node, or the next start, has them at once.
    pub(crate) async fn release_lanes(&self) {
        let leases: Vec<_> = {
            let mut state = self.lock();
            let held = state.lanes.iter_mut().filter(|lane| lane.in_hand.is_empty());
            held.filter_map(|lane| match std::mem::replace(&mut lane.ownership, crate::lane::Ownership::None) {
                crate::lane::Ownership::Ours(lease) => Some(lease),
                _ => None,
            })
            .collect()
        };
        for lease in leases {
            if let Err(error) = self.store.release_lease(&lease).await {
                tracing::debug!(lane = lease.name, %error, "a lane could not be given back");
                return;
            }
        }
    }
}
