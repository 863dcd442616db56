//! CPU time of processes, from /proc.

use std::time::Duration;

/// The kernel counts in ticks of 10 ms on every Linux that Rust's standard library supports (USER_HZ is 100).
const TICK: Duration = Duration::from_millis(10);

/// User and system time of one process so far.
pub(super) fn of(process: u32) -> Duration {
    stat(&process.to_string()).map(|stat| stat.spent).unwrap_or_default()
}

/// User and system time of all processes of a group, and of those among their children that have ended.
pub(super) fn of_group(group: u32) -> Duration {
    let Ok(all) = std::fs::read_dir("/proc") else { return Duration::ZERO };
    let stats = all.flatten().filter_map(|entry| stat(entry.file_name().to_str()?));
    stats.filter(|stat| stat.group == group).map(|stat| stat.spent + stat.of_children).sum()
}

struct Stat {
    group: u32,
    spent: Duration,
    of_children: Duration,
}

/// proc(5): the fields behind the name, which may itself hold blanks and parentheses.
fn stat(process: &str) -> Option<Stat> {
    process.parse::<u32>().ok()?;
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).map(|ticks| TICK * ticks);
    Some(Stat {
        group: fields.get(2)?.parse().ok()?,
        spent: ticks(11)? + ticks(12)?,
        of_children: ticks(13)? + ticks(14)?,
    })
}
