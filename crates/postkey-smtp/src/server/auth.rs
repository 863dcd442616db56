//! SASL PLAIN (RFC 4616) and LOGIN in the spellings that devices use, within AUTH (RFC 4954).

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::{
    event::{Credentials, Mechanism, Password},
    write::{Words, words},
};

/// How far an exchange has come: what the client's next line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    Plain,
    LoginName,
    LoginPassword { name: String },
}

/// What follows a line of the client's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `334` with this, and another line is awaited.
    Challenge(&'static str, Exchange),
    /// All is there.
    Credentials(Credentials),
    /// The exchange is over.
    Refused(Words),
}

/// "Username:" and "Password:", in base64: some devices look for these very words.
const ASK_NAME: &str = "VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// Padding may be there, or missing, or too much; spare bits may be set. Devices do all of that.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Begins with what stands behind AUTH: a mechanism, perhaps an initial response.
pub(super) fn begin(argument: &[u8]) -> Step {
    let mut parts = argument.split(|byte| b" \t".contains(byte)).filter(|part| !part.is_empty());
    let (mechanism, initial) = (parts.next().unwrap_or_default(), parts.next());
    if parts.next().is_some() {
        return refused("AUTH takes a mechanism and at most one response");
    }
    let first = if mechanism.eq_ignore_ascii_case(b"PLAIN") {
        Exchange::Plain
    } else if mechanism.eq_ignore_ascii_case(b"LOGIN") {
        Exchange::LoginName
    } else {
        return Step::Refused(words(504, "5.5.4", "AUTH can be PLAIN or LOGIN here"));
    };
    match (first, initial) {
        (Exchange::Plain, None) => Step::Challenge("", Exchange::Plain),
        // A lone `=` is an empty response (RFC 4954 §4).
        (Exchange::LoginName, None | Some(b"=")) => Step::Challenge(ASK_NAME, Exchange::LoginName),
        (first, Some(response)) => first.hear(response),
        (first, None) => Step::Challenge(ASK_NAME, first),
    }
}

impl Exchange {
    /// Takes the client's next line.
    pub(super) fn hear(self, line: &[u8]) -> Step {
        let line = line.trim_ascii();
        if line == b"*" {
            return Step::Refused(words(501, "5.7.0", "The sign-in was cancelled, as you asked"));
        }
        let Some(decoded) = decode(line) else {
            return refused("The response is not base64");
        };
        match self {
            Self::Plain => plain(&decoded),
            Self::LoginName => match name(&decoded) {
                Some(name) => Step::Challenge(ASK_PASSWORD, Self::LoginPassword { name }),
                None => refused("The user name is empty or cannot be read"),
            },
            Self::LoginPassword { name } => Step::Credentials(Credentials {
                mechanism: Mechanism::Login,
                authorization: None,
                name,
                password: password(&decoded),
            }),
        }
    }
}

fn plain(decoded: &[u8]) -> Step {
    let mut parts = decoded.split(|&byte| byte == 0);
    let (Some(authorization), Some(authentication), Some(secret), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return refused("The response holds no user name and password");
    };
    let Some(found) = name(authentication) else {
        return refused("The user name is empty or cannot be read");
    };
    let authorization = match authorization {
        b"" => None,
        text => match name(text) {
            Some(text) => Some(text).filter(|text| *text != found),
            None => return refused("The authorization identity cannot be read"),
        },
    };
    let password = password(secret);
    Step::Credentials(Credentials { mechanism: Mechanism::Plain, authorization, name: found, password })
}

fn name(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// A password that is not UTF-8 is handed on with the bad parts replaced: it is wrong, and counts as an attempt.
fn password(bytes: &[u8]) -> Password {
    Password::new(Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()))
}

fn decode(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let padding = line.iter().rev().take_while(|&&byte| byte == b'=').count();
    LENIENT.decode(&line[..line.len() - padding]).ok().map(Zeroizing::new)
}

fn refused(text: &'static str) -> Step {
    Step::Refused(words(501, "5.5.2", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(mechanism: Mechanism, name: &str, password: &str) -> Step {
        Step::Credentials(Credentials {
            mechanism,
            authorization: None,
            name: name.to_owned(),
            password: Password::new(Zeroizing::new(password.to_owned())),
        })
    }

    /// All lines after one another; the last step counts.
    fn played(lines: &[&str]) -> Step {
        let mut step = begin(lines[0].as_bytes());
        for line in &lines[1..] {
            let Step::Challenge(_, exchange) = step else { panic!("no challenge before {line:?} of {lines:?}") };
            step = exchange.hear(line.as_bytes());
        }
        step
    }

    #[test]
    fn plain_and_login_are_understood_in_every_spelling() {
        for lines in [
            &["PLAIN AHByaW50ZXIAc2VzYW1l"][..],
            &["plain", "AHByaW50ZXIAc2VzYW1l"],
            &["PLAIN  AHByaW50ZXIAc2VzYW1l "],
            // The name as authorization identity, too.
            &["PLAIN cHJpbnRlcgBwcmludGVyAHNlc2FtZQ=="],
            &["PLAIN cHJpbnRlcgBwcmludGVyAHNlc2FtZQ"],
        ] {
            assert_eq!(played(lines), credentials(Mechanism::Plain, "printer", "sesame"), "{lines:?}");
        }
        for lines in [
            &["LOGIN", "cHJpbnRlcg==", "c2VzYW1l"][..],
            &["login", "cHJpbnRlcg", "c2VzYW1l=="],
            &["Login cHJpbnRlcg==", "c2VzYW1l"],
            &["LOGIN =", "cHJpbnRlcg=", " c2VzYW1l "],
            // Spare bits set.
            &["LOGIN", "cHJpbnRlch==", "c2VzYW1l"],
        ] {
            assert_eq!(played(lines), credentials(Mechanism::Login, "printer", "sesame"), "{lines:?}");
        }
    }

    #[test]
    fn the_challenges_are_the_words_devices_look_for() {
        assert!(matches!(played(&["LOGIN"]), Step::Challenge("VXNlcm5hbWU6", _)));
        assert!(matches!(played(&["LOGIN cHJpbnRlcg=="]), Step::Challenge("UGFzc3dvcmQ6", _)));
        assert!(matches!(played(&["PLAIN"]), Step::Challenge("", _)));
    }

    #[test]
    fn what_cannot_be_credentials_is_refused() {
        for (lines, code) in [
            (&["CRAM-MD5"][..], 504),
            (&[""], 504),
            (&["PLAIN", "*"], 501),
            (&["LOGIN", "cHJpbnRlcg==", "*"], 501),
            (&["PLAIN ="], 501),
            (&["PLAIN !!!!"], 501),
            (&["PLAIN cHJpbnRlcg=="], 501),
            (&["PLAIN AAA="], 501),
            (&["PLAIN AHByaW50ZXIAc2VzYW1lAA=="], 501),
            (&["LOGIN", ""], 501),
            (&["LOGIN a b"], 501),
            (&["LOGIN", "YQ0KYg=="], 501),
        ] {
            let Step::Refused(words) = played(lines) else { panic!("{lines:?}") };
            assert_eq!(words.code, code, "{lines:?}");
        }
    }

    #[test]
    fn another_identity_is_told_and_no_debug_output_shows_a_password() {
        let Step::Credentials(found) = played(&["PLAIN Ym9zcwBwcmludGVyAHNlc2FtZQ=="]) else { panic!() };
        assert_eq!(found.authorization.as_deref(), Some("boss"));
        assert!(!format!("{found:?}").contains("sesame"));
    }
}
