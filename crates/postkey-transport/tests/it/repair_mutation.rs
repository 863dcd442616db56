//! What the fuzz target looks for, for a moment and on any machine: the corpus, mutated.

use std::time::{Duration, Instant};

use crate::repair_law::repairs_hold;

/// Enough to catch a slip at once; the fuzz target takes its time.
const WHILE: Duration = Duration::from_millis(1500);

/// What breaks messages.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b".\r\n",
    b"\xff",
    b"\xc3\xa4",
    b"=",
    b"=\r\n",
    b"=C3",
    b"\"",
    b"<",
    b">",
    b"@",
    b",",
    b";",
    b":",
    b"Bcc: d@w.example\r\n",
    b"To: Ops@Home <b@y.example>\r\n",
    b"From: a@x.example\r\n",
    b"--b\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Transfer-Encoding: 8bit\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n",
    b"=?utf-8?q?a?= ",
];

#[test]
fn whatever_is_handed_in_every_repair_is_listed_and_leaves_a_message() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files =
        std::fs::read_dir(&folder).expect("the corpus is there").map(|file| file.expect("it can be read").path());
    let seeds: Vec<Vec<u8>> =
        files.filter_map(|file| std::fs::read(file).ok()).filter(|seed| seed.len() < 20_000).collect();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| repairs_hold(seed));
    // Xorshift: the same run on every machine.
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below.max(1) as u64) as usize
    };
    let began = Instant::now();
    while began.elapsed() < WHILE {
        let mut bytes = seeds[roll(seeds.len())].clone();
        for _ in 0..=roll(6) {
            let at = roll(bytes.len() + 1);
            match roll(3) {
                0 => drop(bytes.splice(at..at, WORDS[roll(WORDS.len())].iter().copied())),
                1 => bytes.truncate(at),
                _ => drop(bytes.drain(at..(at + roll(40)).min(bytes.len()))),
            }
        }
        repairs_hold(&bytes);
    }
}
