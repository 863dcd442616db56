//! What the fuzz targets look for, for a moment and on any machine: the dialogs and the kept corpus, mutated.

use std::time::{Duration, Instant};

use crate::{
    dialog::{Dialog, Step},
    properties,
};

/// Enough to catch a slip at once; the fuzz targets take their time.
const WHILE: Duration = Duration::from_millis(1500);

/// Xorshift: the same run on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

const WORDS: &[&[u8]] = &[
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"\0",
    b"DATA\r\n",
    b"RSET\r\n",
    b"BDAT 5 LAST\r\n",
    b"BDAT 3\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"RCPT TO:<c@d.example>\r\n",
    b"EHLO a\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"STARTTLS\r\n",
    b"*\r\n",
    b"<",
    b">",
    b"\"",
    b"@",
    b"\\",
    b" SMTPUTF8",
    b" SIZE=9",
    b" ENVID=+41",
    b"\xc3\xa4",
    b"\xff",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
];

fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..dice.roll(6) {
        let at = dice.roll(bytes.len() + 1);
        let to = at + dice.roll((bytes.len() - at).min(40) + 1);
        match dice.roll(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 => drop(bytes.drain(at..to)),
            2 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => {
                let other = &seeds[dice.roll(seeds.len())];
                let from = dice.roll(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            4 => {
                let long = 1 << dice.roll(13);
                bytes.splice(at..at, std::iter::repeat_n(b'x', long));
            }
            _ => drop(bytes.splice(at..at, WORDS[dice.roll(WORDS.len())].iter().copied())),
        }
    }
    bytes.truncate(20_000);
    bytes
}

/// What clients say in the dialogs, and what a fuzz target has kept in `fuzz/corpus`.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let here = env!("CARGO_MANIFEST_DIR");
    let spoken = Dialog::all(&format!("{here}/tests/dialogs")).into_iter().map(|dialog| {
        let sent = dialog.steps.into_iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes),
            _ => None,
        });
        sent.flatten().take(20_000).collect()
    });
    let kept = std::fs::read_dir(format!("{here}/../../fuzz/corpus/{target}")).into_iter().flatten();
    spoken.chain(kept.map(|entry| std::fs::read(entry.unwrap().path()).unwrap())).collect()
}

/// Replays the seeds as they are, then mutates them for a while.
fn run(target: &str, mut check: impl FnMut(&[u8], &[usize])) {
    let (seeds, mut dice) = (seeds(target), Dice(0x9e37_79b9_7f4a_7c15));
    for seed in &seeds {
        check(seed, &properties::cuts_of(seed));
    }
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < WHILE || rounds < 100 {
        let bytes = mutated(&seeds, &mut dice);
        let cuts: Vec<usize> = (0..dice.roll(5)).map(|_| dice.roll(bytes.len() + 1)).collect();
        check(&bytes, &cuts);
        rounds += 1;
    }
}

#[test]
fn mutated_dialogs_break_no_promise_of_the_session() {
    run("smtp_session", properties::holds);
}

#[test]
fn mutated_messages_end_where_they_end() {
    run("smtp_data", properties::body_holds);
}

#[test]
fn mutated_proxy_headers_are_read_or_refused() {
    run("proxy_protocol", properties::header_holds);
}

/// Run by hand after dialogs were added; see `fuzz/README.md`.
#[test]
#[ignore = "writes the dialogs into fuzz/corpus as seeds"]
fn dialogs_become_seeds() {
    let corpus = format!("{}/../../fuzz/corpus", env!("CARGO_MANIFEST_DIR"));
    for dialog in Dialog::all(&format!("{}/tests/dialogs", env!("CARGO_MANIFEST_DIR"))) {
        let sent = dialog.steps.into_iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes),
            _ => None,
        });
        let whole: Vec<u8> = sent.flatten().collect();
        let body = whole.windows(6).position(|window| window.eq_ignore_ascii_case(b"DATA\r\n")).map(|at| at + 6);
        for (target, bytes) in [("smtp_session", Some(&whole[..])), ("smtp_data", body.map(|at| &whole[at..]))] {
            let folder = format!("{corpus}/{target}");
            std::fs::create_dir_all(&folder).unwrap();
            if let Some(bytes) = bytes.filter(|bytes| bytes.len() <= 20_000) {
                std::fs::write(format!("{folder}/{}", dialog.name), bytes).unwrap();
            }
        }
    }
}
