//! The journal by HTTP: reading it, and waiting for what is to come.

use std::time::Duration;

use serde_json::json;

use super::{Answer, Refused, ok};
use crate::{server::Shared, world::World};

fn number(query: &[(String, String)], name: &str) -> Result<Option<u64>, Refused> {
    let found = query.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.parse().map_err(|_| Refused::Value("a number is no number"))).transpose()
}

/// `GET /calls?since=N`
pub(super) fn list(world: &World, query: &[(String, String)]) -> Answer {
    Ok(ok(json!(world.journal.since(number(query, "since")?.unwrap_or(0)))))
}

/// A test gives up before that.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
const USUAL_WAIT: Duration = Duration::from_secs(30);

/// `GET /calls/wait`: until a call numbered above `after` (of this `operation`, if named) has ended, or with
/// `seq` the call of that number, or with `stalled=true` until a fault holds a call. 408 when nothing of the kind happens.
pub(super) async fn wait(shared: &Shared, query: &[(String, String)]) -> Answer {
    let text = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let (after, seq) = (number(query, "after")?.unwrap_or(0), number(query, "seq")?);
    let operation = text("operation");
    let stalled = text("stalled") == Some("true");
    let patience = number(query, "timeout_ms")?.map_or(USUAL_WAIT, Duration::from_millis).min(LONGEST_WAIT);
    let look = |world: &World| {
        if stalled {
            return (world.journal.hanging > 0).then(|| ok(json!({"stalled": world.journal.hanging})));
        }
        let met = world.journal.since(after).into_iter().find(|call| {
            operation.is_none_or(|operation| call.operation == operation) && seq.is_none_or(|seq| call.seq == seq)
        });
        met.map(|call| ok(json!(call)))
    };
    let mut changes = shared.changes();
    let waited = tokio::time::timeout(patience, async {
        loop {
            if let Some(reply) = look(&shared.world()) {
                return Ok(reply);
            }
            // Dropping either future loses nothing: the next look reads the world itself.
            tokio::select! {
                () = shared.stop.cancelled() => return Err(Refused::Timeout),
                changed = changes.changed() => if changed.is_err() { return Err(Refused::Timeout) },
            }
        }
    });
    waited.await.unwrap_or(Err(Refused::Timeout))
}
