//! Address lists of header fields, read with the place of each address, so that one can be taken out and the rest stays
//! byte for byte. (mail-parser reads the addresses but does not say where they stand.)

use std::ops::Range;

use postkey_base::EmailAddress;

/// One address of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it stands in the field's value, display name and comments included, blanks around it not.
    pub at: Range<usize>,
    /// The address, or the text that is none.
    pub address: Result<EmailAddress, String>,
}

/// Addresses of a `To`, `Cc`, `Bcc`, `From`, `Sender` or `Reply-To` value. Groups give their members.
pub fn listed(value: &[u8]) -> Vec<Listed> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut scan = Scan::default();
    let mut word_end = 0;
    for (at, &byte) in value.iter().enumerate() {
        if at < word_end || !scan.is_plain_at(byte) {
            continue;
        }
        match byte {
            // RFC 2047 §5 allows no comma in an encoded word here; Outlook's have them: `=?Windows-1252?Q?M=FCller,_Anna?=`.
            b'=' => word_end = at + encoded_word(&value[at..]),
            // A group's name ends here; its members follow.
            b':' => start = at + 1,
            b',' | b';' => {
                push(value, start..at, &mut found);
                start = at + 1;
            }
            _ => {}
        }
    }
    push(value, start..value.len(), &mut found);
    found
}

/// The addresses alone; what is none is left out.
pub fn addresses(value: &[u8]) -> Vec<EmailAddress> {
    listed(value).into_iter().filter_map(|one| one.address.ok()).collect()
}

fn push(value: &[u8], range: Range<usize>, found: &mut Vec<Listed>) {
    let piece = &value[range.clone()];
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let Some(first) = piece.iter().position(|byte| !blank(byte)) else { return };
    let last = piece.iter().rposition(|byte| !blank(byte)).map_or(piece.len(), |last| last + 1);
    let at = range.start + first..range.start + last;
    let text = address_text(&value[at.clone()]);
    if text.is_empty() {
        // Only a comment.
        return;
    }
    let address = text.parse().map_err(|_| String::from_utf8_lossy(&value[at.clone()]).into_owned());
    found.push(Listed { at, address });
}

/// How long the encoded word is that begins here; 0 if none does.
fn encoded_word(text: &[u8]) -> usize {
    /// RFC 2047 §2 allows 75 bytes; some programs write a whole name into one.
    const LONGEST: usize = 512;
    let text = &text[..text.len().min(LONGEST)];
    let mut marks = text.iter().enumerate().filter(|(_, byte)| **byte == b'?').map(|(at, _)| at);
    let (Some(1), Some(_), Some(_), Some(end)) = (marks.next(), marks.next(), marks.next(), marks.next()) else {
        return 0;
    };
    let is_one = text.starts_with(b"=?") && text.get(end + 1) == Some(&b'=');
    if is_one && !text[..end].iter().any(u8::is_ascii_whitespace) { end + 2 } else { 0 }
}

/// What stands between angle brackets, or all that is no comment and no blank.
fn address_text(mailbox: &[u8]) -> String {
    let mut scan = Scan::default();
    let mut plain = Vec::new();
    let mut angle: Option<Vec<u8>> = None;
    for &byte in mailbox {
        let was_comment = scan.comment > 0;
        let outside = scan.step(byte);
        let in_comment = was_comment || scan.comment > 0;
        match &mut angle {
            None if outside && byte == b'<' => angle = Some(Vec::new()),
            Some(_) if outside && byte == b'>' => break,
            Some(inside) => inside.push(byte),
            None if !in_comment && !byte.is_ascii_whitespace() => plain.push(byte),
            None => {}
        }
    }
    String::from_utf8_lossy(&angle.unwrap_or(plain)).trim().to_owned()
}

/// Where a byte stands: in a quoted string, in a comment, between angle brackets, or plainly in the list.
#[derive(Default)]
struct Scan {
    quoted: bool,
    escaped: bool,
    comment: u32,
    angle: bool,
}

impl Scan {
    /// Steps over the byte; says whether it is outside quotes and comments.
    fn step(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
            return false;
        }
        match byte {
            b'\\' if self.quoted || self.comment > 0 => {
                self.escaped = true;
                false
            }
            b'"' if self.comment == 0 => {
                self.quoted = !self.quoted;
                false
            }
            _ if self.quoted => false,
            b'(' => {
                self.comment += 1;
                false
            }
            b')' if self.comment > 0 => {
                self.comment -= 1;
                false
            }
            _ => self.comment == 0,
        }
    }

    /// Steps over the byte; says whether it may separate addresses.
    fn is_plain_at(&mut self, byte: u8) -> bool {
        if !self.step(byte) {
            return false;
        }
        match byte {
            b'<' => self.angle = true,
            b'>' => self.angle = false,
            _ => {}
        }
        !self.angle
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_found_in_every_form_of_a_list() {
        for (value, expected) in [
            ("a@x.example", vec!["a@x.example"]),
            (" A <a@x.example>,\r\n\tB <b@x.example>", vec!["a@x.example", "b@x.example"]),
            ("\"Last, First\" <a@x.example>, b@x.example", vec!["a@x.example", "b@x.example"]),
            ("\"q \\\" < , \" <a@x.example>", vec!["a@x.example"]),
            ("a@x.example (work, really), b@x.example", vec!["a@x.example", "b@x.example"]),
            ("Team: a@x.example, B <b@x.example>;, c@x.example", vec!["a@x.example", "b@x.example", "c@x.example"]),
            ("undisclosed-recipients:;", vec![]),
            ("", vec![]),
            (" , ,a@x.example,", vec!["a@x.example"]),
            ("=?utf-8?q?J=C3=B6rg=2C?= <j@x.example>", vec!["j@x.example"]),
            ("=?Windows-1252?Q?M=FCller,_(Anna)?= <a@x.example>, b@x.example", vec!["a@x.example", "b@x.example"]),
            ("=?no word, a@x.example", vec!["a@x.example"]),
            ("Jörg <jörg@köln.example>", vec!["jörg@köln.example"]),
            ("no address at all, a@x.example", vec!["a@x.example"]),
        ] {
            let found: Vec<String> = addresses(value.as_bytes()).into_iter().map(String::from).collect();
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn the_place_of_an_address_covers_its_name_and_comment() {
        let value = b" A <a@x.example>,\r\n \"B, C\" <b@x.example> (home)\r\n";
        let places: Vec<&[u8]> = listed(value).into_iter().map(|one| &value[one.at]).collect();
        assert_eq!(places, [b"A <a@x.example>".as_slice(), b"\"B, C\" <b@x.example> (home)".as_slice()]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..120)) {
            for one in listed(&value) {
                prop_assert!(one.at.end <= value.len());
            }
        }
    }
}
