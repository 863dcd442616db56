//! Soon.
use crate::{
    engine::{Engine, LaneId},
    gauges::Gauge,
    settle::Decision,
};
use postkey_store::{MessageId, NewNotice, QueuedMessage};
use postkey_transport::Message;
use serde_json::Value;
use std::sync::Arc;
impl Engine {
    pub(crate) async fn tell_sender(
        self: &Arc<Self>,
        _queued: &QueuedMessage,
        _decision: &Decision,
        _message: Option<&Message>,
    ) {
    }
    pub(crate) fn notices_of(&self, _queued: &QueuedMessage, _decision: &Decision, _sender: &str) -> Vec<NewNotice> {
        Vec::new()
    }
    pub(crate) async fn notify_all(&self, _kind: &'static str, _message: Option<MessageId>, _payload: Value) {}
    pub(crate) async fn tell_webhooks(self: Arc<Self>) {}
    pub(crate) async fn keep_house(self: Arc<Self>) {}
    pub(crate) async fn look(self: Arc<Self>, _id: LaneId) {}
    pub(crate) async fn look_into_inbox(self: Arc<Self>, _id: LaneId) {}
    pub(crate) async fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
    pub(crate) async fn release_lanes(&self) {}
}
