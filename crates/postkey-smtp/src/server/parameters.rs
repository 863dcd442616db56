//! What may follow the path of MAIL and RCPT: SIZE, BODY, SMTPUTF8, RET, ENVID, AUTH; NOTIFY, ORCPT.

use super::{
    event::{BodyKind, Mail, Notify, Recipient, Ret},
    path::BLANK,
    settings::SessionSettings,
    write::{Words, words},
};

/// Fills in what MAIL's parameters say.
pub(super) fn of_mail(parameters: &str, mail: &mut Mail, settings: &SessionSettings) -> Result<(), Words> {
    for (name, value) in pairs(parameters) {
        if name.eq_ignore_ascii_case("SIZE") {
            // RFC 1870 §6.1: up to 20 digits.
            let plain = value.is_some_and(|value| {
                (1..=20).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
            });
            let octets = value.filter(|_| plain).ok_or_else(|| invalid("SIZE"))?.parse().unwrap_or(u64::MAX);
            if octets > settings.largest_message() {
                return Err(too_large(settings.largest_message()));
            }
            once(&mut mail.size, octets, "SIZE")?;
        } else if name.eq_ignore_ascii_case("BODY") {
            let kind = match value {
                Some(value) if value.eq_ignore_ascii_case("7BIT") => BodyKind::SevenBit,
                Some(value) if value.eq_ignore_ascii_case("8BITMIME") => BodyKind::EightBitMime,
                _ => return Err(words(555, "5.5.4", "BODY can be 7BIT or 8BITMIME here")),
            };
            once(&mut mail.body, kind, "BODY")?;
        } else if name.eq_ignore_ascii_case("SMTPUTF8") && settings.utf8 {
            if value.is_some() || mail.utf8 {
                return Err(invalid("SMTPUTF8"));
            }
            mail.utf8 = true;
        } else if name.eq_ignore_ascii_case("RET") && settings.dsn {
            let ret = match value {
                Some(value) if value.eq_ignore_ascii_case("FULL") => Ret::Full,
                Some(value) if value.eq_ignore_ascii_case("HDRS") => Ret::Headers,
                _ => return Err(invalid("RET")),
            };
            once(&mut mail.ret, ret, "RET")?;
        } else if name.eq_ignore_ascii_case("ENVID") && settings.dsn {
            let envid = value.filter(|value| value.len() <= 100).and_then(from_xtext);
            once(&mut mail.envid, envid.filter(|text| !text.is_empty()).ok_or_else(|| invalid("ENVID"))?, "ENVID")?;
        } else if name.eq_ignore_ascii_case("AUTH") {
            let auth = match value {
                Some("<>") => Some(String::new()),
                value => value.filter(|value| (1..=500).contains(&value.len())).and_then(from_xtext),
            };
            once(&mut mail.auth, auth.ok_or_else(|| invalid("AUTH"))?, "AUTH")?;
        } else {
            return Err(unknown(name));
        }
    }
    Ok(())
}

/// Fills in what RCPT's parameters say.
pub(super) fn of_recipient(
    parameters: &str,
    recipient: &mut Recipient,
    settings: &SessionSettings,
) -> Result<(), Words> {
    for (name, value) in pairs(parameters) {
        if name.eq_ignore_ascii_case("NOTIFY") && settings.dsn {
            let notify = value.and_then(read_notify).ok_or_else(|| invalid("NOTIFY"))?;
            once(&mut recipient.notify, notify, "NOTIFY")?;
        } else if name.eq_ignore_ascii_case("ORCPT") && settings.dsn {
            let orcpt = value.filter(|value| value.len() <= 500).and_then(read_orcpt);
            once(&mut recipient.orcpt, orcpt.ok_or_else(|| invalid("ORCPT"))?, "ORCPT")?;
        } else {
            return Err(unknown(name));
        }
    }
    Ok(())
}

/// `552 5.3.4`, from MAIL and after a message alike.
pub(super) fn too_large(limit: u64) -> Words {
    Words::made(552, "5.3.4", format!("The message is too large: at most {limit} octets are taken here"))
}

fn pairs(parameters: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let words = parameters.split(BLANK).filter(|word| !word.is_empty());
    words.map(|word| match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    })
}

fn once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), Words> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Words::made(501, "5.5.4", format!("{name} is given twice"))),
    }
}

fn invalid(name: &'static str) -> Words {
    Words::made(501, "5.5.4", format!("The value of {name} cannot be read"))
}

fn unknown(name: &str) -> Words {
    let shown: String = name.chars().filter(char::is_ascii_graphic).take(30).collect();
    Words::made(555, "5.5.4", format!("The parameter {shown} is not offered here"))
}

fn read_notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let seen = match word {
            _ if word.eq_ignore_ascii_case("SUCCESS") => &mut success,
            _ if word.eq_ignore_ascii_case("FAILURE") => &mut failure,
            _ if word.eq_ignore_ascii_case("DELAY") => &mut delay,
            _ => return None,
        };
        if std::mem::replace(seen, true) {
            return None;
        }
    }
    Some(Notify::On { success, failure, delay })
}

fn read_orcpt(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let named = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let address = from_xtext(address)?;
    (named && !address.is_empty()).then(|| format!("{kind};{address}"))
}

/// RFC 3461 §4. What does not decode to printable ASCII is refused: it will stand in the header of a report, where a line
/// end would begin a header of the client's choice.
fn from_xtext(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'+' => nibble(bytes.next()?)? << 4 | nibble(bytes.next()?)?,
            b'=' => return None,
            _ => byte,
        };
        if !(b' '..=b'~').contains(&decoded) {
            return None;
        }
        text.push(char::from(decoded));
    }
    Some(text)
}

/// Upper case only: RFC 3461 §4 says so, and lower case would make two spellings of one identifier.
fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::Path, server::Quirks};

    fn mail(parameters: &str) -> Result<Mail, String> {
        let settings = SessionSettings { size: Some(1000), ..SessionSettings::new("mx.example") };
        let mut mail = Mail {
            from: None,
            size: None,
            body: None,
            utf8: false,
            ret: None,
            envid: None,
            auth: None,
            quirks: Quirks::default(),
        };
        let refused = |words: Words| format!("{} {}", words.code, words.enhanced);
        of_mail(parameters, &mut mail, &settings).map(|()| mail).map_err(refused)
    }

    fn recipient(parameters: &str) -> Result<Recipient, String> {
        let to = Path::parse("a@b.example").unwrap();
        let mut recipient = Recipient { to, notify: None, orcpt: None, quirks: Quirks::default() };
        let settings = SessionSettings::new("mx.example");
        let refused = |words: Words| format!("{} {}", words.code, words.enhanced);
        of_recipient(parameters, &mut recipient, &settings).map(|()| recipient).map_err(refused)
    }

    #[test]
    fn every_parameter_of_mail_is_read() {
        let read = mail("SIZE=1000 body=8bitmime SMTPUTF8 RET=HDRS ENVID=QQ+2B314 AUTH=e+3Dmc2@example.com").unwrap();
        assert_eq!(read.size, Some(1000));
        assert_eq!(read.body, Some(BodyKind::EightBitMime));
        assert!(read.utf8);
        assert_eq!(read.ret, Some(Ret::Headers));
        assert_eq!(read.envid.as_deref(), Some("QQ+314"));
        assert_eq!(read.auth.as_deref(), Some("e=mc2@example.com"));
        assert_eq!(mail("AUTH=<>").unwrap().auth.as_deref(), Some(""));
    }

    #[test]
    fn what_cannot_be_read_or_is_not_offered_is_refused() {
        for (parameters, code) in [
            ("SIZE=1001", "552 5.3.4"),
            ("SIZE=99999999999999999999", "552 5.3.4"),
            ("SIZE=999999999999999999999", "501 5.5.4"),
            ("SIZE=", "501 5.5.4"),
            ("SIZE", "501 5.5.4"),
            ("SIZE=-1", "501 5.5.4"),
            ("SIZE=+1", "501 5.5.4"),
            ("SIZE=1 SIZE=2", "501 5.5.4"),
            ("BODY=BINARYMIME", "555 5.5.4"),
            ("SMTPUTF8=yes", "501 5.5.4"),
            ("RET=BODY", "501 5.5.4"),
            ("ENVID=", "501 5.5.4"),
            ("ENVID=a+0D+0ABcc:+20eve@evil.example", "501 5.5.4"),
            ("ENVID=a+zz", "501 5.5.4"),
            ("ENVID=a+", "501 5.5.4"),
            ("AUTH=a=b", "501 5.5.4"),
            ("HOLDFOR=60", "555 5.5.4"),
            ("X", "555 5.5.4"),
        ] {
            assert_eq!(mail(parameters).unwrap_err(), code, "{parameters}");
        }
        for (parameters, code) in [
            ("NOTIFY=", "501 5.5.4"),
            ("NOTIFY=NEVER,SUCCESS", "501 5.5.4"),
            ("NOTIFY=DELAY,DELAY", "501 5.5.4"),
            ("ORCPT=a@b.example", "501 5.5.4"),
            ("ORCPT=rfc822;", "501 5.5.4"),
            ("ORCPT=rfc822;a+0Ab", "501 5.5.4"),
            ("SIZE=1", "555 5.5.4"),
        ] {
            assert_eq!(recipient(parameters).unwrap_err(), code, "{parameters}");
        }
    }

    #[test]
    fn notify_and_orcpt_are_read() {
        let read = recipient("NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c.example").unwrap();
        assert_eq!(read.notify, Some(Notify::On { success: true, failure: false, delay: true }));
        assert_eq!(read.orcpt.as_deref(), Some("rfc822;a+b@c.example"));
        assert_eq!(recipient("NOTIFY=NEVER").unwrap().notify, Some(Notify::Never));
    }
}
