//! Commands of a client (RFC 5321 §4.1), built so that no value can smuggle in a second command.

use std::fmt;

/// A command, checked when it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// `EHLO name`.
    Ehlo(&'a str),
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `AUTH XOAUTH2`, with or without the initial response.
    AuthXoauth2(Option<&'a crate::Xoauth2>),
    /// The base64 line that answers `334`.
    AuthResponse(&'a crate::Xoauth2),
    /// The empty line that answers an error challenge; the server then sends its 535.
    AuthEmpty,
    /// `MAIL FROM:<path>`; no path is the null reverse-path `<>`.
    Mail {
        /// Who gets the bounce.
        from: Option<&'a Path>,
        /// `SIZE=` (RFC 1870).
        size: Option<u64>,
        /// `BODY=8BITMIME` (RFC 6152).
        eight_bit: bool,
        /// `SMTPUTF8` (RFC 6531).
        utf8: bool,
    },
    /// `RCPT TO:<path>`.
    Rcpt(&'a Path),
    /// `DATA`.
    Data,
    /// `RSET`.
    Reset,
    /// `QUIT`.
    Quit,
}

impl Command<'_> {
    /// The line for the wire, CRLF included.
    pub fn encode(&self) -> Result<Vec<u8>, CommandError> {
        let line = match self {
            Self::Ehlo(name) => {
                let fits = !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
                if !fits {
                    return Err(CommandError::Name((*name).to_owned()));
                }
                format!("EHLO {name}")
            }
            Self::StartTls => "STARTTLS".to_owned(),
            Self::AuthXoauth2(None) => "AUTH XOAUTH2".to_owned(),
            Self::AuthXoauth2(Some(response)) => format!("AUTH XOAUTH2 {}", response.expose()),
            Self::AuthResponse(response) => response.expose().to_owned(),
            Self::AuthEmpty => String::new(),
            Self::Mail { from, size, eight_bit, utf8 } => {
                let mut line = format!("MAIL FROM:<{}>", from.map_or("", Path::as_str));
                if let Some(size) = size {
                    line.push_str(&format!(" SIZE={size}"));
                }
                if *eight_bit {
                    line.push_str(" BODY=8BITMIME");
                }
                if *utf8 {
                    line.push_str(" SMTPUTF8");
                }
                line
            }
            Self::Rcpt(path) => format!("RCPT TO:<{path}>"),
            Self::Data => "DATA".to_owned(),
            Self::Reset => "RSET".to_owned(),
            Self::Quit => "QUIT".to_owned(),
        };
        // Every value was checked above or in its constructor; one more look costs nothing.
        if line.len() > MAX_COMMAND || line.contains(['\r', '\n', '\0']) {
            return Err(CommandError::Line);
        }
        Ok([line.as_bytes(), b"\r\n"].concat())
    }
}

/// Tokens of Entra make AUTH lines long; Exchange Online takes 12,288 octets.
pub const MAX_COMMAND: usize = 12_288;

/// A reverse-path or forward-path without its angle brackets: a mailbox, quoted local parts included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path(String);

impl Path {
    /// Accepts `local@domain` of at most 254 octets (RFC 5321 §4.5.3.1.3 less the brackets). Control characters, angle
    /// brackets and, outside quotes, blanks are refused.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let refused = || CommandError::Path(text.chars().take(80).collect());
        let (local, domain) = text.rsplit_once('@').ok_or_else(refused)?;
        let quoted = local.len() >= 3 && local.starts_with('"') && local.ends_with('"');
        let local_holds = if quoted {
            quotes_close(&local[1..local.len() - 1])
        } else {
            !local.is_empty() && !local.contains(|c: char| c.is_whitespace() || "<>()[]:;@\\,\"".contains(c))
        };
        let domain_holds =
            !domain.is_empty() && !domain.contains(|c: char| c.is_whitespace() || "<>()\\,\"".contains(c));
        if text.len() > 254 || !local_holds || !domain_holds || text.contains(char::is_control) {
            return Err(refused());
        }
        Ok(Self(text.to_owned()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can travel without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

/// Whether no bare quote and no dangling backslash stands inside a quoted local part.
fn quotes_close(inside: &str) -> bool {
    let mut escaped = false;
    for c in inside.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' | '<' | '>' => return false,
            _ => {}
        }
    }
    !escaped
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({})", self.0)
    }
}

/// A value that cannot stand in an SMTP command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not a mailbox.
    #[error("{0:?} cannot stand in an SMTP envelope")]
    Path(String),
    /// Not a host name or address literal.
    #[error("{0:?} is no name for EHLO")]
    Name(String),
    /// Too long, or with a line end in it.
    #[error("an SMTP command may hold no line end and at most {MAX_COMMAND} bytes")]
    Line,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_the_contract_shows_them() {
        let from = Path::parse("a@contoso.example").unwrap();
        for (command, wire) in [
            (Command::Ehlo("client.example"), "EHLO client.example\r\n"),
            (Command::Ehlo("[127.0.0.1]"), "EHLO [127.0.0.1]\r\n"),
            (Command::StartTls, "STARTTLS\r\n"),
            (Command::AuthXoauth2(None), "AUTH XOAUTH2\r\n"),
            (Command::AuthEmpty, "\r\n"),
            (
                Command::Mail { from: Some(&from), size: None, eight_bit: false, utf8: false },
                "MAIL FROM:<a@contoso.example>\r\n",
            ),
            (
                Command::Mail { from: Some(&from), size: Some(7), eight_bit: true, utf8: true },
                "MAIL FROM:<a@contoso.example> SIZE=7 BODY=8BITMIME SMTPUTF8\r\n",
            ),
            (Command::Mail { from: None, size: None, eight_bit: false, utf8: false }, "MAIL FROM:<>\r\n"),
            (Command::Rcpt(&from), "RCPT TO:<a@contoso.example>\r\n"),
            (Command::Data, "DATA\r\n"),
            (Command::Reset, "RSET\r\n"),
            (Command::Quit, "QUIT\r\n"),
        ] {
            assert_eq!(String::from_utf8(command.encode().unwrap()).unwrap(), wire);
        }
    }

    #[test]
    fn no_path_can_end_its_line_or_its_brackets() {
        for (text, good) in [
            ("alice@contoso.example", true),
            ("jörg@köln.example", true),
            ("\"two words\"@contoso.example", true),
            ("\"a\\\"b\"@contoso.example", true),
            ("alice@[192.0.2.1]", true),
            ("alice@contoso.example>\r\nRCPT TO:<eve@evil.example", false),
            ("alice@contoso.example\n", false),
            ("alice@contoso.example\0", false),
            ("alice@contoso.example> SIZE=1", false),
            ("\"a\"b\"@contoso.example", false),
            ("\"a\\\"@contoso.example", false),
            ("\"a\r\nb\"@contoso.example", false),
            ("two words@contoso.example", false),
            ("alice", false),
            ("@contoso.example", false),
            ("alice@", false),
        ] {
            assert_eq!(Path::parse(text).is_ok(), good, "{text:?}");
        }
        assert!(Path::parse(&format!("{}@contoso.example", "a".repeat(260))).is_err());
    }

    #[test]
    fn a_name_for_ehlo_is_one_word() {
        for name in ["", "two words", "a\r\nMAIL", "köln.example"] {
            assert!(Command::Ehlo(name).encode().is_err(), "{name:?}");
        }
    }
}
