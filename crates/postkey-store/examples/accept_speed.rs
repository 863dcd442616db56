//! How fast messages are accepted durably, beside what the disk and SQLite alone do in the same run.
//! Run it with `--release`; `--folder` says on which disk (here), `--queued 1000000` measures also with so many waiting, `--json`
//! prints one line for programs.

use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::Clock;
use postkey_store::{
    GroupCommit, Location, MasterKeys, MessageId, MessageState, NewMessage, NewMessageEvent, Priority, QueuedEnvelope,
    QueuedRecipient, SenderId, Settlement, Store, SubmitterId, Via,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let folder = PathBuf::from(option("--folder").map_or(".", String::as_str)).join("accept_speed.tmp");
    let queued: u32 = option("--queued").map_or(Ok(0), |number| number.parse())?;
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let outcome = measure(&folder, queued).await;
    let _ = fs::remove_dir_all(&folder);
    let found = outcome?;
    if arguments.iter().any(|word| word == "--json") {
        println!("{}", json!({ "name": "accept_speed", "figures": found }));
    } else {
        for figure in &found {
            println!("{figure}");
        }
    }
    Ok(())
}

async fn measure(folder: &Path, queued: u32) -> Result<Vec<Value>, Failure> {
    let mut figures = Vec::new();
    let mut note = |figure: Value| {
        eprintln!("{figure}");
        figures.push(figure);
    };
    let disk = fdatasyncs(folder)?;
    note(json!({ "what": "fdatasync of 4 KiB", "per_second": disk.round() }));
    for (size, groups) in [(4 << 10, 300), (100 << 10, 40)] {
        let alone = sqlite_alone(&Place::new(folder, "alone"), size, groups).await?;
        note(json!({ "what": "SQLite alone, 32 rows a commit", "bytes": size, "per_second": alone.round() }));
        for callers in [32, 1] {
            let place = Place::new(folder, "grouped");
            let store = place.open().await?;
            let [rate, p50, p99, cpu] = accept(&store, callers, size, SECONDS).await?;
            note(json!({
                "what": "accepted", "callers": callers, "bytes": size, "per_second": rate.round(),
                "of_sqlite_alone": ratio(rate, alone), "of_fdatasync": ratio(rate, disk), "p50_ms": p50, "p99_ms": p99, "cpu_us": cpu,
            }));
            if callers == 32 && size == 4 << 10 {
                note(
                    json!({ "what": "begun and settled", "callers": 32, "per_second": deliver(&store).await?.round() }),
                );
            }
            store.close().await;
        }
    }
    if queued > 0 {
        let place = Place::new(folder, "full");
        fill(&place, queued).await?;
        let started = Instant::now();
        let store = place.open().await?;
        note(json!({ "what": "opened", "queued": queued, "ms": started.elapsed().as_millis() as u64 }));
        let sender = sender(1);
        let started = Instant::now();
        let waiting = store.waiting().await?.len();
        note(json!({ "what": "waiting()", "rows": waiting, "ms": milliseconds(started.elapsed()) }));
        let started = Instant::now();
        let due = store.due_messages(sender, None, Timestamp::now(), 32).await?.len();
        note(json!({ "what": "due_messages()", "rows": due, "ms": milliseconds(started.elapsed()) }));
        let started = Instant::now();
        let counts = store.count_messages().await?.len();
        note(json!({ "what": "count_messages()", "rows": counts, "ms": milliseconds(started.elapsed()) }));
        let [rate, p50, p99, cpu] = accept(&store, 32, 4 << 10, SECONDS).await?;
        note(json!({
            "what": "accepted", "callers": 32, "bytes": 4 << 10, "queued": queued, "per_second": rate.round(),
            "p50_ms": p50, "p99_ms": p99, "cpu_us": cpu,
        }));
        note(
            json!({ "what": "begun and settled", "callers": 32, "queued": queued, "per_second": deliver(&store).await?.round() }),
        );
        note(json!({ "what": "resident", "mib": resident()? >> 20 }));
        store.close().await;
    }
    Ok(figures)
}

struct Place {
    file: PathBuf,
    keys: MasterKeys,
}

impl Place {
    fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        let _ = fs::remove_dir_all(&folder);
        Self { file: folder.join("postkey.db"), keys: MasterKeys::fresh() }
    }

    async fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open(Location::Sqlite(self.file.clone()), self.keys.clone(), Clock::real()).await?)
    }

    async fn raw(&self, synchronous: &str) -> Result<SqliteConnection, Failure> {
        self.open().await?.close().await;
        let path = self.file.to_str().ok_or("the path is not UTF-8")?;
        let mut raw = SqliteConnection::connect(&format!("sqlite://{path}")).await?;
        raw.execute(AssertSqlSafe(format!("PRAGMA synchronous = {synchronous}"))).await?;
        Ok(raw)
    }
}

/// What the disk makes durable, one after the other, in a file that is there already.
fn fdatasyncs(folder: &Path) -> Result<f64, Failure> {
    let path = folder.join("fdatasync");
    let mut file = fs::File::create(&path)?;
    file.write_all(&vec![1; 4 << 20])?;
    file.sync_all()?;
    let (block, started, mut count) = ([2; 4096], Instant::now(), 0_u64);
    while started.elapsed() < SECONDS {
        file.write_all_at(&block, (count % 1024) * 4096)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Plain SQL, one connection, groups of 32 prepared rows of the same tables: nothing else is done for a message.
async fn sqlite_alone(place: &Place, size: usize, groups: usize) -> Result<f64, Failure> {
    let mut raw = place.raw("FULL").await?;
    let body = Bytes::from(vec![b'x'; size]);
    let messages: Vec<NewMessage> = (0..groups * 32).map(|number| message(number as u32, &body)).collect();
    let started = Instant::now();
    for group in messages.chunks(32) {
        insert(&mut raw, group).await?;
    }
    let rate = messages.len() as f64 / started.elapsed().as_secs_f64();
    raw.close().await?;
    Ok(rate)
}

async fn insert(raw: &mut SqliteConnection, group: &[NewMessage]) -> Result<(), Failure> {
    let rows = |columns: usize, more: &str| {
        let row = |row: usize| {
            let values: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
            format!("({}{more})", values.join(","))
        };
        (0..group.len()).map(row).collect::<Vec<_>>().join(",")
    };
    let mut transaction = raw.begin_with("BEGIN IMMEDIATE").await?;
    let text = format!(
        "INSERT INTO messages (id, sender_id, submitter_id, priority, due_at, size, accepted_at, subject, message_id, envelope, \
         via, graph_json, events, state, attempts, epoch) VALUES {}",
        rows(10, ", 'smtp', 0, 1, 'queued', 0, 0")
    );
    let mut query = sqlx::query(AssertSqlSafe(text));
    for message in group {
        query = query
            .bind(message.id.to_string())
            .bind(message.sender.to_string())
            .bind(message.submitter.map_or_else(String::new, |id| id.to_string()))
            .bind(0_i64)
            .bind(message.accepted_at.as_millisecond())
            .bind(message.body.len() as i64)
            .bind(message.accepted_at.as_millisecond())
            .bind(message.subject.clone())
            .bind(message.message_id.clone())
            .bind(serde_json::to_string(&message.envelope)?);
    }
    query.execute(&mut *transaction).await?;
    let mut query = sqlx::query(AssertSqlSafe(format!("INSERT INTO message_bodies (id, body) VALUES {}", rows(2, ""))));
    for message in group {
        query = query.bind(message.id.to_string()).bind(&message.body[..]);
    }
    query.execute(&mut *transaction).await?;
    let text = format!(
        "INSERT INTO message_events (message_id, number, at, kind, detail) VALUES {}",
        rows(3, ", 'accepted', $1")
    );
    let text = text.replace(", 'accepted', $1", ", 'accepted', '{}'");
    let mut query = sqlx::query(AssertSqlSafe(text));
    for message in group {
        query = query.bind(message.id.to_string()).bind(1_i64).bind(message.accepted_at.as_millisecond());
    }
    query.execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// So many waiting messages, over 40 senders, with the counters that go with them.
async fn fill(place: &Place, queued: u32) -> Result<(), Failure> {
    let mut raw = place.raw("OFF").await?;
    let body = Bytes::from(vec![b'x'; 1024]);
    for first in (0..queued).step_by(32) {
        let group: Vec<_> = (first..queued.min(first + 32)).map(|number| message(number, &body)).collect();
        insert(&mut raw, &group).await?;
    }
    let counters = "INSERT INTO message_counts (sender_id, submitter_id, state, stripe, messages, bytes)
                    SELECT sender_id, submitter_id, state, 0, COUNT(*), SUM(size) FROM messages
                    GROUP BY sender_id, submitter_id, state";
    raw.execute(counters).await?;
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    raw.close().await?;
    Ok(())
}

/// Callers that each hand in one message after the other: the rate, the median and 99th percentile of the wait in ms, and the
/// processor time of a message in microseconds.
async fn accept(store: &Store, callers: u32, size: usize, time: Duration) -> Result<[f64; 4], Failure> {
    let writer = GroupCommit::start(store.clone());
    let body = Bytes::from(vec![b'x'; size]);
    let (used, started) = (processor()?, Instant::now());
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (writer, body) = (writer.clone(), body.clone());
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while started.elapsed() < time {
                    let begun = Instant::now();
                    writer.accept(message(caller, &body)).await?;
                    waits.push(begun.elapsed());
                }
                Ok::<_, Failure>(waits)
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.append(&mut task.await??);
    }
    let rate = waits.len() as f64 / started.elapsed().as_secs_f64();
    writer.shutdown().await;
    waits.sort_unstable();
    let at = |share: f64| milliseconds(waits[((waits.len() - 1) as f64 * share) as usize]);
    let each = (processor()? - used) / waits.len() as f64;
    Ok([rate, at(0.5), at(0.99), each.round()])
}

/// Callers that each begin and settle one message after the other.
async fn deliver(store: &Store) -> Result<f64, Failure> {
    let writer = GroupCommit::start(store.clone());
    let mut due = Vec::new();
    for number in 0..40 {
        due.extend(store.due_messages(sender(number), None, Timestamp::now(), 200).await?);
    }
    let (count, started) = (due.len(), Instant::now());
    let share = count.div_ceil(32).max(1);
    let tasks: Vec<_> = due
        .chunks(share)
        .map(|messages| {
            let (writer, ids) = (writer.clone(), messages.iter().map(|message| message.id).collect::<Vec<_>>());
            tokio::spawn(async move {
                for id in ids {
                    writer.begin_attempt(id, 1, event("attempt")).await?;
                    let mut settlement = Settlement::to(id, 1, MessageState::Accepted);
                    settlement.events = vec![event("sent")];
                    settlement.recipients_sent = 1;
                    writer.settle(settlement).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    writer.shutdown().await;
    Ok(rate)
}

fn message(number: u32, body: &Bytes) -> NewMessage {
    let now = Timestamp::now();
    let id = MessageId::at(now);
    NewMessage {
        id,
        submitter: Some(SubmitterId::from(uuid::Uuid::from_u128(u128::from(number % 40)))),
        sender: sender(number % 40),
        envelope: QueuedEnvelope {
            from: "ops@contoso.example".parse().ok(),
            recipients: "ada@fabrikam.example".parse().ok().map(QueuedRecipient::new).into_iter().collect(),
            ret: None,
            envid: None,
        },
        body: body.clone(),
        subject: Some("Disk full on server 17".into()),
        message_id: Some(format!("<{id}@contoso.example>")),
        priority: Priority::Normal,
        due_at: None,
        via: Via::Smtp,
        remote: Some("192.0.2.17:51234".into()),
        idempotency_key: None,
        events: vec![event("accepted")],
        accepted_at: now,
        graph_json: false,
    }
}

fn sender(number: u32) -> SenderId {
    SenderId::from(uuid::Uuid::from_u128(u128::from(number)))
}

fn event(kind: &'static str) -> NewMessageEvent {
    NewMessageEvent { kind, detail: json!({ "helo": "client.contoso.example", "tls": "TLSv1.3", "auth": "PLAIN" }) }
}

fn ratio(rate: f64, base: f64) -> f64 {
    (rate / base * 100.0).round() / 100.0
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Microseconds of processor time that this process has used.
fn processor() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name in brackets, which may hold anything: user and system time are the 12th and 13th, in hundredths of seconds.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).ok_or("no user time")? + ticks(12).ok_or("no system time")?) * 10_000.0)
}

/// Bytes of memory in use.
fn resident() -> Result<u64, Failure> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("no second number in statm")?.parse()?;
    Ok(pages * 4096)
}

const SECONDS: Duration = Duration::from_secs(4);
