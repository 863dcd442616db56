//! The parts of commands that need taking apart: SASL XOAUTH2, and paths with their parameters.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// `user=…^Aauth=Bearer …^A^A` in base64.
pub(crate) fn parse_xoauth2(response: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(response).ok()?).ok()?;
    let mut fields = text.split('\u{1}');
    let user = fields.next()?.strip_prefix("user=")?;
    let (scheme, token) = fields.next()?.strip_prefix("auth=")?.split_once(' ')?;
    let ended = fields.next() == Some("") && fields.next() == Some("") && fields.next().is_none();
    (ended && scheme.eq_ignore_ascii_case("bearer") && !user.is_empty()).then(|| (user.to_owned(), token.to_owned()))
}

/// `FROM:<path> PARAMETER=…`: the path without its brackets, and the parameters.
pub(crate) fn path(rest: &str, keyword: &str) -> Option<(String, Vec<String>)> {
    let after = rest.get(keyword.len()..).filter(|_| rest[..keyword.len()].eq_ignore_ascii_case(keyword))?;
    let (path, parameters) = after.trim_start().strip_prefix('<')?.split_once('>')?;
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return None;
    }
    Some((path.to_owned(), parameters.split_whitespace().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_vector_is_read_and_nothing_like_it() {
        let vector = "dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ==";
        let (user, token) = parse_xoauth2(vector).unwrap();
        assert_eq!(
            (user.as_str(), token.as_str()),
            ("test@contoso.onmicrosoft.com", "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA")
        );
        for plain in [
            "user=a@b\u{1}auth=Bearer t\u{1}",
            "user=a@b\u{1}auth=Bearer t\u{1}\u{1}\u{1}",
            "user=\u{1}auth=Bearer t\u{1}\u{1}",
            "user=a@b\u{1}auth=Basic t\u{1}\u{1}",
            "n,a=a@b,\u{1}auth=Bearer t\u{1}\u{1}",
            "",
        ] {
            assert!(parse_xoauth2(&STANDARD.encode(plain)).is_none(), "{plain:?}");
        }
    }

    #[test]
    fn a_path_is_in_angle_brackets() {
        let parameters = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (rest, want) in [
            ("FROM:<a@b>", Some(("a@b", parameters(&[])))),
            ("from: <a@b> SIZE=1  X", Some(("a@b", parameters(&["SIZE=1", "X"])))),
            ("FROM:<>", Some(("", parameters(&[])))),
            ("FROM:a@b", None),
            ("FROM:<a@b>SIZE=1", None),
            ("FROM:<a@b", None),
            ("FRO", None),
            ("\u{fc}\u{fc}\u{fc}<a@b>", None),
        ] {
            assert_eq!(path(rest, "FROM:"), want.map(|(path, list)| (path.to_owned(), list)), "{rest}");
        }
    }
}
