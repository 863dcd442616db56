//! The writer's task.
use tokio::sync::mpsc;

use super::Job;
use crate::Store;

pub(super) async fn run(_store: Store, _jobs: mpsc::Receiver<Job>) {
    todo!()
}
