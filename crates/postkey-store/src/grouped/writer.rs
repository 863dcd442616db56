//! The writer's task: takes what waits, commits it, answers. It has a connection of its own, which keeps its statements
//! prepared and its pages in memory.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Connection};
use tokio::sync::{mpsc, oneshot};

use super::{
    Job,
    checkpoint::Checkpoints,
    group::{Group, Verdicts},
    script::{Script, roll_back},
    statement::Texts,
    write::Write,
};
use crate::{Store, StoreError, dialect::Dialect, messages::UsageLedger};

pub(super) async fn run(store: Store, mut jobs: mpsc::Receiver<Job>) {
    let stripe = rand::random_range(1..=STRIPES);
    let mut writer = Writer {
        texts: Texts::new(store.shared.dialect),
        store,
        connection: None,
        stripe,
        usage: UsageLedger::default(),
        usage_written: Instant::now(),
        begun: false,
        checkpoints: None,
    };
    writer.checkpoints = Checkpoints::start(&writer.store);
    let (mut carried, mut last) = (VecDeque::new(), 1);
    loop {
        let idle = (!writer.usage.is_empty()).then_some(USAGE_DELAY);
        let (group, stop) = gather(&mut jobs, &mut carried, last, idle).await;
        last = group.len();
        if last > 0 {
            writer.commit_and_answer(group).await;
        } else {
            writer.write_usage().await;
        }
        match stop {
            Stop::No => {}
            Stop::Asked(stopped) => {
                // What was sent before the request is committed; what comes later finds the channel closed.
                jobs.close();
                while let Some(job) = jobs.recv().await {
                    carried.push_back(job);
                }
                while !carried.is_empty() {
                    let (group, _) = gather(&mut jobs, &mut carried, 1, None).await;
                    writer.commit_and_answer(group).await;
                }
                writer.write_usage().await;
                writer.disconnect().await;
                let _ = stopped.send(());
                return;
            }
            Stop::Closed => {
                writer.write_usage().await;
                return writer.disconnect().await;
            }
        }
    }
}

enum Stop {
    No,
    Asked(oneshot::Sender<()>),
    /// Nobody holds a handle any more.
    Closed,
}

/// The jobs of the next transaction: what was left over, and what waits now; none if nothing came for as long as `idle` says.
async fn gather(
    jobs: &mut mpsc::Receiver<Job>,
    carried: &mut VecDeque<Job>,
    last: usize,
    idle: Option<Duration>,
) -> (Group, Stop) {
    let mut group = Group::default();
    let mut left = VecDeque::new();
    for job in carried.drain(..) {
        match job {
            Job::Stop(_) => {}
            job => left.extend(group.take(job)),
        }
    }
    *carried = left;
    let mut patience = if last > 1 { YIELDS } else { 0 };
    loop {
        let job = if group.len() == 0 && carried.is_empty() {
            let came = match idle {
                Some(idle) => tokio::time::timeout(idle, jobs.recv()).await,
                None => Ok(jobs.recv().await),
            };
            match came {
                Ok(Some(job)) => job,
                Ok(None) => return (group, Stop::Closed),
                Err(_) => return (group, Stop::No),
            }
        } else if !carried.is_empty() {
            // It is full, or would change a message twice.
            return (group, Stop::No);
        } else {
            match jobs.try_recv() {
                Ok(job) => job,
                // Those who were just answered are about to ask again: let them, rather than commit for the first of them alone.
                Err(mpsc::error::TryRecvError::Empty) if patience > 0 && group.len() < last => {
                    patience -= 1;
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Empty) => return (group, Stop::No),
                Err(mpsc::error::TryRecvError::Disconnected) => return (group, Stop::Closed),
            }
        };
        match job {
            Job::Stop(stopped) => return (group, Stop::Asked(stopped)),
            job => carried.extend(group.take(job)),
        }
    }
}

struct Writer {
    store: Store,
    connection: Option<AnyConnection>,
    texts: Texts,
    stripe: i64,
    /// What was used of quotas and is not written yet: it changes with every message, so it is written once in a while, and
    /// after a crash a moment of it is missing.
    usage: UsageLedger,
    usage_written: Instant,
    /// Whether the transaction in hand has begun.
    begun: bool,
    checkpoints: Option<Checkpoints>,
}

impl Writer {
    async fn commit_and_answer(&mut self, group: Group) {
        match self.commit(&group).await {
            Ok(verdicts) => {
                let (jobs, bytes) = (group.len(), group.bytes());
                group.answer(verdicts);
                if let Some((checkpoints, connection)) = self.checkpoints.as_mut().zip(self.connection.as_mut()) {
                    checkpoints.after(jobs, bytes, connection).await;
                }
            }
            Err(error) if error.for_all().is_some() => group.fail(error),
            // One of the jobs is at fault: its neighbours must not suffer for it.
            Err(_) => {
                for single in group.one_by_one() {
                    match self.commit(&single).await {
                        Ok(verdicts) => single.answer(verdicts),
                        Err(error) => single.refuse(error),
                    }
                }
            }
        }
    }

    /// Commits a group, again and again while it only meets others.
    async fn commit(&mut self, group: &Group) -> Result<Verdicts, StoreError> {
        let mut attempt = 0_u32;
        loop {
            let reused = self.connection.is_some();
            self.begun = false;
            let outcome = match self.store.shared.dialect {
                // SQLite waits as long as its patience says, and for the disk.
                Dialect::Sqlite => self.try_commit(group).await,
                Dialect::Postgres => match tokio::time::timeout(GROUP_DEADLINE, self.try_commit(group)).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
                        Err(self.store.shared.classify(OPERATION, silent.into()))
                    }
                },
            };
            match outcome {
                Err(StoreError::Contended { .. }) if attempt < MOST_ATTEMPTS => {
                    attempt += 1;
                    let wait = rand::random_range(1..=8_u64) << attempt.min(5);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                // The server was started anew since the last group; nothing was asked of it yet.
                Err(StoreError::Unreachable { .. }) if reused && !self.begun && attempt == 0 => {
                    attempt += 1;
                    drop(self.connection.take());
                }
                Err(error) => {
                    // Whatever state the connection is in: the next transaction begins with a fresh one.
                    if error.for_all().is_some() {
                        drop(self.connection.take());
                    }
                    return Err(error);
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_commit(&mut self, group: &Group) -> Result<Verdicts, StoreError> {
        let shared = &self.store.shared;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(shared.connect_writer().await?),
        };
        let flush = group.len() == 0 || self.usage_written.elapsed() >= USAGE_DELAY;
        let written = async {
            let script = Script::begin(connection, shared, &mut self.texts).await?;
            self.begun = true;
            let mut write = Write { script, dialect: shared.dialect, stripe: self.stripe, now: shared.clock.now() };
            let (verdicts, mut usage) = write.all(group).await?;
            usage.merge(self.usage.clone());
            if flush {
                write.add_usage(&usage).await?;
            }
            write.script.commit().await?;
            Ok((verdicts, usage))
        }
        .await;
        match written {
            Ok((verdicts, usage)) => {
                self.usage = if flush { UsageLedger::default() } else { usage };
                if flush {
                    self.usage_written = Instant::now();
                }
                Ok(verdicts)
            }
            Err(error) => {
                if let Some(connection) = &mut self.connection
                    && roll_back(connection).await.is_err()
                {
                    self.connection = None;
                }
                Err(error)
            }
        }
    }

    /// Writes what was used of quotas since the last time; nobody waits for it.
    async fn write_usage(&mut self) {
        if !self.usage.is_empty()
            && let Err(error) = self.commit(&Group::default()).await
        {
            tracing::warn!(error = %error, "what was used of quotas could not be written; it will be tried again");
        }
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
        if let Some(checkpoints) = self.checkpoints.take() {
            checkpoints.stop().await;
        }
    }
}

/// The name of the writer's transactions in errors.
pub(super) const OPERATION: &str = "queue.group_commit";

/// So many writers hardly ever share a row of the counters.
const STRIPES: i64 = 63;

/// So often the writer lets others run before it commits for fewer than the last time.
const YIELDS: u32 = 8;

/// How long usage of quotas may be unwritten. Shorter than any quota's window by far, longer than many transactions.
const USAGE_DELAY: Duration = Duration::from_secs(1);

/// As in [`Store::transaction`].
const MOST_ATTEMPTS: u32 = 10;

/// PostgreSQL gives up a statement after 30 s by itself; a server that does not even say so is gone.
const GROUP_DEADLINE: Duration = Duration::from_secs(40);
