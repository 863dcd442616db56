//! The names that people know, for the ids that rows hold.

use std::collections::HashMap;

use postkey_store::{LocalAppId, Sender, SenderId, Store, StoreError, SubmitterId};

/// Names of senders and submitters, as they were at one moment.
#[derive(Debug, Default)]
pub(crate) struct Names {
    senders: HashMap<SenderId, String>,
    submitters: HashMap<SubmitterId, String>,
    apps: HashMap<LocalAppId, String>,
}

impl Names {
    pub(crate) async fn read(store: &Store) -> Result<Self, StoreError> {
        store
            .transaction("api.names", async |transaction| {
                let senders = transaction.senders().await?;
                let submitters = transaction.submitters().await?;
                let apps = senders.iter().filter_map(|sender| Some((sender.values.app?, app_name(sender)))).collect();
                Ok(Self {
                    apps,
                    senders: senders.into_iter().map(|sender| (sender.id, sender.values.name)).collect(),
                    submitters: submitters.into_iter().map(|submitter| (submitter.id, submitter.name)).collect(),
                })
            })
            .await
    }

    /// A sender's name; its id where it was removed.
    pub(crate) fn sender(&self, id: SenderId) -> String {
        self.senders.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// A submitter's name; its id where it was removed.
    pub(crate) fn submitter(&self, id: SubmitterId) -> String {
        self.submitters.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// What people see of an app: its client id.
    pub(crate) fn app(&self, id: LocalAppId) -> String {
        self.apps.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn app_name(sender: &Sender) -> String {
    sender.values.client_id.map_or_else(|| sender.values.name.clone(), |id| id.to_string())
}
