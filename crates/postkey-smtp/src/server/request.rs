//! One command line: its verb, and what follows.

use super::write::{Words, words};

/// A command, its argument not yet looked at where that needs more than grammar.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Hello { name: &'a [u8], extended: bool },
    StartTls,
    Auth(&'a [u8]),
    Mail(&'a str),
    Rcpt(&'a str),
    Data,
    Bdat(&'a str),
    Reset,
    Noop,
    Verify,
    Help,
    Quit,
}

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadRequest {
    /// Answered, and the session goes on.
    Refused(Words),
    /// A browser, made to talk to us by a page it shows: whatever follows is not the client's own wish.
    NotSmtp,
}

/// Reads a line without its CRLF.
pub(super) fn read(line: &[u8], tolerant: bool) -> Result<Request<'_>, BadRequest> {
    if line.iter().any(|&byte| byte == 0x7f || byte < b' ' && byte != b'\t') {
        return refused(500, "5.5.2", "A command may hold no control characters, and ends with CR LF");
    }
    let line = line.trim_ascii_end();
    let verb_ends = line.iter().position(|byte| b" \t".contains(byte)).unwrap_or(line.len());
    let (verb, behind) = line.split_at(verb_ends);
    let argument = behind.trim_ascii_start();
    let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
    let bare = |request: Request<'static>| match argument.is_empty() {
        true => Ok(request),
        false => refused(501, "5.5.4", "Nothing may follow this command"),
    };
    let text = || match std::str::from_utf8(argument) {
        Ok(text) => Ok(text),
        Err(_) => refused(501, "5.5.2", "The command is not UTF-8"),
    };
    if is("MAIL") {
        Ok(Request::Mail(text()?))
    } else if is("RCPT") {
        Ok(Request::Rcpt(text()?))
    } else if is("DATA") {
        bare(Request::Data)
    } else if is("BDAT") {
        Ok(Request::Bdat(text()?))
    } else if is("EHLO") || is("HELO") {
        let unnamed = argument.is_empty() && !tolerant;
        if unnamed || argument.len() > 255 {
            return refused(501, "5.5.4", "Name yourself: a host name or an address in brackets");
        }
        Ok(Request::Hello { name: argument, extended: is("EHLO") })
    } else if is("AUTH") {
        Ok(Request::Auth(argument))
    } else if is("STARTTLS") {
        bare(Request::StartTls)
    } else if is("RSET") {
        bare(Request::Reset)
    } else if is("QUIT") {
        bare(Request::Quit)
    } else if is("NOOP") {
        Ok(Request::Noop)
    } else if is("VRFY") {
        Ok(Request::Verify)
    } else if is("HELP") {
        Ok(Request::Help)
    } else if is("EXPN") || is("ETRN") || is("TURN") || is("SEND") || is("SOML") || is("SAML") {
        refused(502, "5.5.1", "This command is not offered here")
    } else if tolerant && verb.len() > 5 && verb[..5].eq_ignore_ascii_case(b"AUTH=") {
        // As EHLO once listed it, copied by some devices into the command.
        Ok(Request::Auth(&line[5..]))
    } else if ["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PRI"].iter().any(|name| is(name)) {
        Err(BadRequest::NotSmtp)
    } else {
        refused(500, "5.5.1", "This command is not known here")
    }
}

fn refused<T>(code: u16, enhanced: &'static str, text: &'static str) -> Result<T, BadRequest> {
    Err(BadRequest::Refused(words(code, enhanced, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_in_any_case_and_with_blanks_behind() {
        for (line, want) in [
            ("ehlo a.example", Request::Hello { name: b"a.example", extended: true }),
            ("HELO  my printer ", Request::Hello { name: b"my printer", extended: false }),
            ("EHLO", Request::Hello { name: b"", extended: true }),
            ("Mail FROM:<a@b.example> ", Request::Mail("FROM:<a@b.example>")),
            ("rcpt\tTO:<a@b.example>", Request::Rcpt("TO:<a@b.example>")),
            ("data ", Request::Data),
            ("BDAT 10 LAST", Request::Bdat("10 LAST")),
            ("AUTH LOGIN ", Request::Auth(b"LOGIN")),
            ("auth=login eA==", Request::Auth(b"login eA==")),
            ("starttls", Request::StartTls),
            ("NOOP whatever", Request::Noop),
            ("VRFY a", Request::Verify),
            ("HELP MAIL", Request::Help),
            ("RSET", Request::Reset),
            ("quit", Request::Quit),
        ] {
            assert_eq!(read(line.as_bytes(), true), Ok(want), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (line, code) in [
            (&b""[..], 500),
            (b" EHLO a", 500),
            (b"XCLIENT NAME=a", 500),
            (b"EXPN list", 502),
            (b"DATA now", 501),
            (b"QUIT now", 501),
            (b"MAIL FROM:<a\r@b.example>", 500),
            (b"NOOP \0", 500),
            (b"MAIL FROM:<\xe4@b.example>", 501),
            (b"AUTH=", 500),
        ] {
            let Err(BadRequest::Refused(words)) = read(line, true) else { panic!("{line:?}") };
            assert_eq!(words.code, code, "{line:?}");
        }
        for line in [&b"AUTH=LOGIN"[..], b"EHLO"] {
            assert!(read(line, false).is_err());
        }
        assert_eq!(read(b"POST / HTTP/1.1", true), Err(BadRequest::NotSmtp));
    }
}
