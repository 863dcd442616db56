//! Redirect URIs: which registered one a request names, and how an answer goes there.

use super::grants::RedirectKind;
use crate::directory::Application;

/// The platform under which this URI is registered, if it is.
pub(crate) fn registered(app: &Application, uri: &str) -> Option<RedirectKind> {
    [
        (&app.web_redirect_uris, RedirectKind::Web),
        (&app.spa_redirect_uris, RedirectKind::Spa),
        (&app.public_redirect_uris, RedirectKind::Public),
    ]
    .into_iter()
    .find(|(uris, _)| uris.iter().any(|known| same(known, uri)))
    .map(|(_, kind)| kind)
}

/// Exact and case-sensitive; only a loopback address may differ in its port.
fn same(known: &str, asked: &str) -> bool {
    if known == asked {
        return true;
    }
    match (loopback(known), loopback(asked)) {
        (Some(known), Some(asked)) => known == asked,
        _ => false,
    }
}

/// Whether `asked` lies below `known`: the same with further path segments.
pub(crate) fn extends(known: &str, asked: &str) -> bool {
    let below = |known: &str, asked: &str| {
        let parts = asked.strip_prefix(&format!("{}/", known.trim_end_matches('/')));
        parts.is_some_and(|parts| !parts.split('/').any(|part| [".", ".."].contains(&part)))
    };
    match (loopback(known), loopback(asked)) {
        (Some((known_host, known)), Some((host, asked))) => known_host == host && below(known, asked),
        _ => below(known, asked),
    }
}

/// Host and what follows the port of `http://localhost…` or `http://127.0.0.1…`; no path is the same as `/`. // unverified
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let numbered = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let behind = if behind.is_empty() { "/" } else { behind };
    (["localhost", "127.0.0.1"].contains(&host) && numbered).then_some((host, behind))
}

/// How an answer reaches the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

/// The URL that carries `parameters` to the app, for query and fragment.
pub(crate) fn url(uri: &str, mode: ResponseMode, parameters: &[(&str, String)]) -> String {
    let encoded: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let mut url = uri.to_owned();
    // A URI without a path comes back with one.
    if url.split_once("://").is_some_and(|(_, rest)| !rest.contains(['/', '?', '#'])) {
        url.push('/');
    }
    match mode {
        ResponseMode::Fragment => format!("{url}#{encoded}"),
        _ if url.contains('?') => format!("{url}&{encoded}"),
        _ => format!("{url}?{encoded}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_port_may_differ_from_what_is_registered() {
        for (known, asked, want) in [
            ("http://localhost", "http://localhost", true),
            ("http://localhost", "http://localhost:51234", true),
            ("http://localhost", "http://localhost:51234/", true),
            ("http://localhost", "http://localhost:51234/other", false),
            ("http://localhost", "http://127.0.0.1:51234", false),
            ("http://localhost", "https://localhost:51234", false),
            ("http://localhost", "http://localhost.evil.example", false),
            ("http://localhost", "http://localhost:80@evil.example", false),
            ("http://localhost/myapps/", "http://localhost:8080/myapps/", true),
            ("http://localhost/myapps/", "http://localhost:8080/myapps", false),
            ("http://localhost/myapps/", "http://localhost:8080/MyApps/", false),
            ("http://localhost/myapps/", "http://localhost%2myapps/", false),
            ("https://app.example/cb", "https://app.example/cb", true),
            ("https://app.example/cb", "https://app.example:8443/cb", false),
            ("https://app.example/cb", "https://app.example/cb/", false),
            ("https://app.example/CB", "https://app.example/cb", false),
            ("https://app.example/cb", "https://app.example/cb?x=1", false),
        ] {
            assert_eq!(same(known, asked), want, "{known} {asked}");
        }
    }

    #[test]
    fn further_segments_lie_below_what_is_registered_on_any_loopback_port() {
        for (known, asked, want) in [
            ("http://localhost/myapps/", "http://localhost:5000/myapps/extra/x", true),
            ("http://localhost/myapps/", "http://localhost/myapps/extra", true),
            ("http://localhost/myapps/", "http://localhost:5000/other", false),
            ("http://localhost/myapps/", "http://localhost:5000/myapps/../other", false),
            ("http://localhost/myapps/", "http://127.0.0.1:5000/myapps/extra", false),
            ("https://app.example/cb", "https://app.example/cb/more", true),
            ("https://app.example/cb", "https://app.example/cbmore", false),
            ("https://app.example/cb", "https://app.example:444/cb/more", false),
        ] {
            assert_eq!(extends(known, asked), want, "{known} {asked}");
        }
    }

    #[test]
    fn an_answer_is_appended_to_whatever_the_uri_has() {
        let code = [("code", "a b".to_owned())];
        for (uri, mode, want) in [
            ("http://localhost:1", ResponseMode::Query, "http://localhost:1/?code=a+b"),
            ("http://localhost:1/x?y=1", ResponseMode::Query, "http://localhost:1/x?y=1&code=a+b"),
            ("https://a.example", ResponseMode::Fragment, "https://a.example/#code=a+b"),
        ] {
            assert_eq!(url(uri, mode, &code), want);
        }
    }
}
