//! Text on the wire: paths, queries and dates, and a response from its parts.

use bytes::Bytes;
use http::Response;

/// Decoded path segments, empty ones dropped.
pub(crate) fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect()
}

/// Decodes `%XX`; what is no such escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            // `from_str_radix` alone would take a sign for a digit.
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Decoded name and value pairs of a query or a form.
pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

pub(crate) fn http_date(at: jiff::Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A response from parts that this crate wrote itself; a header that cannot be one is left out.
pub(crate) fn made<V: AsRef<str>>(status: u16, headers: &[(&'static str, V)], body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = value.as_ref().parse() {
            response.headers_mut().append(*name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_no_digit_of_an_escape() {
        for (text, want) in
            [("%41%2f", "A/"), ("%+1", "%+1"), ("%-f", "%-f"), ("%4", "%4"), ("%", "%"), ("%ff", "\u{fffd}")]
        {
            assert_eq!(percent_decode(text), want);
        }
    }
}
