//! Whose a lane is: its lease, taken, kept and given back, and what a former holder has left behind.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use postkey_store::{Lease, MessageState, QueuedMessage, SenderId, Settlement, StoreError};

use crate::{
    engine::{Engine, LaneId, STORE_BREATH, earlier},
    lane::{Lane, Ownership},
    outbound::LEASE_PREFIX,
    schedule::{self, after},
};

/// Another node's lane is asked for again after this.
const THEIRS: Duration = Duration::from_secs(10);
/// A lane without work for so long is given back.
const IDLE: Duration = Duration::from_secs(60);

impl Engine {
    /// Takes the lane's lease, and what a former holder has left behind.
    pub(crate) async fn own(self: Arc<Self>, id: LaneId) {
        let Ok(_turn) = self.asking.acquire().await else { return };
        let (name, senders) = {
            let state = self.lock();
            let lane = &state.lanes[id];
            let of_lane =
                state.senders.iter().filter(|(_, facts)| facts.lane.as_ref() == Some(&lane.key)).map(|(id, _)| *id);
            (lane.key.lease(), of_lane.collect::<Vec<_>>())
        };
        let length = SignedDuration::try_from(self.settings.lease).unwrap_or(SignedDuration::from_secs(30));
        let now = self.clock.now();
        let ownership = match self.store.retake_lease(&name, &self.node, length).await {
            Ok(Some(lease)) => match self.take_over(id, &lease, &senders).await {
                Ok(()) => Ownership::Ours(lease),
                Err(error) => {
                    tracing::warn!(lane = name, %error, "the lane's messages could not be read");
                    Ownership::Theirs(after(now, STORE_BREATH))
                }
            },
            Ok(None) => Ownership::Theirs(after(now, THEIRS)),
            Err(error) => {
                tracing::warn!(lane = name, %error, "the lane's lease could not be taken");
                Ownership::Theirs(after(now, STORE_BREATH))
            }
        };
        {
            let mut state = self.lock();
            let is_ours = matches!(ownership, Ownership::Ours(_));
            // Whoever had the lane in between may have settled what is in memory: the store knows.
            let shared = matches!(self.store.location(), postkey_store::Location::Postgres(_));
            state.lanes[id].ownership = ownership;
            if !is_ours || shared {
                state.let_go(id, |_| true);
            }
        }
        self.pump(id);
    }

    /// What was being sent when its holder went away may or may not have gone out; and what was sent within a day counts.
    pub(crate) async fn take_over(&self, id: LaneId, lease: &Lease, senders: &[SenderId]) -> Result<(), StoreError> {
        let now = self.clock.now();
        for sender in senders {
            for message in self.store.sending_before(*sender, lease.epoch).await? {
                // Of this lane, or of the one that its sender belonged to until now.
                if self.lock().lanes.iter().any(|lane| lane.in_hand.contains(&message.id)) {
                    continue;
                }
                self.interrupted(&message, now).await?;
            }
            let next = self.store.next_unknown(*sender).await?;
            let lane = &mut self.lock().lanes[id];
            lane.look_at = earlier(lane.look_at, next);
        }
        let seeded = std::mem::replace(&mut self.lock().lanes[id].seeded, true);
        if !seeded && self.settings.limits.recipients.is_some() {
            let day = Duration::from_secs(86_400);
            for sender in senders {
                let sent = self.store.sent_recipients(*sender, schedule::before(now, day)).await?;
                let steady = self.steady();
                let lane = &mut self.lock().lanes[id];
                if sent.iter().any(|(_, count)| *count > 0) {
                    // What came back meanwhile is in the Inbox.
                    lane.accepted_last = Some(now);
                    lane.inbox_at.get_or_insert(after(now, self.settings.ndr_every));
                }
                for (bucket, count) in sent {
                    // A bucket is five minutes; its end is what is sure to be in the window longest.
                    let end = after(bucket, Duration::from_secs(300)).min(now);
                    lane.governor.seed_recipients(count, schedule::until(end, now), steady);
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn interrupted(&self, message: &QueuedMessage, now: Timestamp) -> Result<(), StoreError> {
        let look = after(now, schedule::LOOKS[0]);
        let detail = serde_json::json!({
            "since": now,
            "looks": 0,
            "interrupted": true,
            "text": "postkey stopped while this attempt was under way: it may or may not have gone out",
        });
        let settlement = Settlement {
            from: Some(MessageState::Sending),
            due_at: Some(look),
            attempts_delta: 1,
            outcome: Some(detail.clone()),
            events: vec![postkey_store::NewMessageEvent { kind: "unknown", detail }],
            ..Settlement::to(message.id, message.epoch, MessageState::Unknown)
        };
        match self.commit.settle(settlement).await {
            // Its own node has settled it after all.
            Ok(()) | Err(StoreError::Changed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Extends the leases of all lanes in one statement; a lane whose lease is lost stops at once. Lanes at rest are given
    /// back, so that another node may have them.
    pub(crate) async fn keep_leases(self: Arc<Self>) {
        let every = self.settings.lease / 3;
        let length = SignedDuration::try_from(self.settings.lease).unwrap_or(SignedDuration::from_secs(30));
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let idle: Vec<Lease> = {
                let mut state = self.lock();
                let now = self.clock.now();
                let rested = |lane: &Lane| {
                    !lane.has_work()
                        && lane.in_hand.is_empty()
                        && lane.look_at.is_none()
                        && !lane.looking
                        && schedule::until(lane.active_at, now) > IDLE
                };
                let idle = state.lanes.iter_mut().filter(|lane| rested(lane));
                idle.filter_map(|lane| match std::mem::replace(&mut lane.ownership, Ownership::None) {
                    Ownership::Ours(lease) => Some(lease),
                    other => {
                        lane.ownership = other;
                        None
                    }
                })
                .collect()
            };
            for lease in idle {
                if let Err(error) = self.store.release_lease(&lease).await {
                    tracing::debug!(lane = lease.name, %error, "a lane at rest could not be given back");
                }
            }
            if self.lock().lanes.iter().all(|lane| lane.epoch().is_none()) {
                continue;
            }
            match self.store.extend_leases(&self.node, LEASE_PREFIX, length).await {
                Ok(leases) => {
                    let held: HashMap<_, _> = leases.into_iter().map(|lease| (lease.name.clone(), lease)).collect();
                    let mut lost = Vec::new();
                    for (id, lane) in self.lock().lanes.iter_mut().enumerate() {
                        let Ownership::Ours(lease) = &mut lane.ownership else { continue };
                        match held.get(&lease.name).filter(|now| now.epoch == lease.epoch) {
                            Some(extended) => *lease = extended.clone(),
                            None => {
                                lane.ownership = Ownership::None;
                                lost.push(id);
                            }
                        }
                    }
                    for id in lost {
                        tracing::warn!(lane = %self.lock().lanes[id].key, "the lane's lease is lost; asking for it again");
                        self.pump(id);
                    }
                }
                // Until the lease ends the lane goes on: `plan` looks at its end before anything begins.
                Err(error) => tracing::warn!(%error, "the lanes' leases could not be extended"),
            }
        }
    }
}
