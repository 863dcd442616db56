//! The pages a person sees: plain HTML forms that work without JavaScript.

use bytes::Bytes;

use super::{LoginResponse, consent::Asked};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:30em;margin:3em auto;padding:0 1em;color:#222}\
input[type=text],input[type=password]{display:block;width:100%;box-sizing:border-box;padding:.5em;margin:.3em 0 1em;font:inherit}\
button{font:inherit;padding:.4em 1.4em;margin-right:.6em}.error{color:#a80000}dt{font-weight:600}dd{margin:0 0 .6em}";

/// Text for an element or a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn page(status: u16, title: &str, body: &str) -> LoginResponse {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escaped(title)
    );
    LoginResponse {
        status,
        headers: vec![
            ("content-type", "text/html; charset=utf-8".to_owned()),
            ("cache-control", "no-store, no-cache".to_owned()),
            ("pragma", "no-cache".to_owned()),
            ("x-frame-options", "DENY".to_owned()),
        ],
        body: Bytes::from(html),
        app_id: None,
    }
}

fn error_line(error: Option<&str>) -> String {
    error.map_or_else(String::new, |error| format!("<p class=\"error\" id=\"error\">{}</p>\n", escaped(error)))
}

/// Name and password; with `signed_in`, that account can be picked instead.
pub(crate) fn sign_in(
    context: &str,
    app: &str,
    hint: &str,
    signed_in: Option<&str>,
    error: Option<&str>,
) -> LoginResponse {
    let pick = signed_in.map_or_else(String::new, |account| {
        format!(
            "<form method=\"post\" action=\"/common/sign-in\">\n<input type=\"hidden\" name=\"ctx\" value=\"{}\">\n<button type=\"submit\" name=\"account\" value=\"{account}\">Continue as {account}</button>\n</form>\n<p>or use another account:</p>\n",
            escaped(context),
            account = escaped(account),
        )
    });
    page(
        200,
        "Sign in to your account",
        &format!(
            "<h1>Sign in</h1>\n<p>to continue to {}</p>\n{}{pick}<form method=\"post\" action=\"/common/sign-in\" id=\"sign-in\">\n<input type=\"hidden\" name=\"ctx\" value=\"{}\">\n<label>Account <input type=\"text\" name=\"login\" value=\"{}\" autocomplete=\"username\"></label>\n<label>Password <input type=\"password\" name=\"passwd\" autocomplete=\"current-password\"></label>\n<button type=\"submit\">Sign in</button>\n</form>\n",
            escaped(app),
            error_line(error),
            escaped(context),
            escaped(hint),
        ),
    )
}

/// The permissions asked for, by name.
pub(crate) fn consent(context: &str, app: &str, user: &str, asked: &[Asked], for_all: ForAll) -> LoginResponse {
    let items: String = asked
        .iter()
        .map(|one| {
            format!(
                "<dt>{} <small>({})</small></dt><dd>{}</dd>\n",
                escaped(&one.title),
                escaped(&one.name),
                escaped(&one.description)
            )
        })
        .collect();
    let choice = match for_all {
        ForAll::No => "",
        ForAll::Offered => {
            "<p><label><input type=\"checkbox\" name=\"organization\" value=\"yes\"> Consent on behalf of your organization</label></p>\n"
        }
        ForAll::Always => "<p>Permissions requested: review for your organization.</p>\n",
    };
    page(
        200,
        "Permissions requested",
        &format!(
            "<h1>Permissions requested</h1>\n<p>{}</p>\n<p><strong>{}</strong> would like to:</p>\n<dl>\n{items}</dl>\n<form method=\"post\" action=\"/common/consent\" id=\"consent\">\n<input type=\"hidden\" name=\"ctx\" value=\"{}\">\n{choice}<button type=\"submit\" name=\"decision\" value=\"accept\">Accept</button>\n<button type=\"submit\" name=\"decision\" value=\"cancel\">Cancel</button>\n</form>\n",
            escaped(user),
            escaped(app),
            escaped(context),
        ),
    )
}

/// Whether consent may, or must, be for the whole organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForAll {
    No,
    Offered,
    Always,
}

/// Where the code of a device is typed in.
pub(crate) fn device_code(code: &str, error: Option<&str>) -> LoginResponse {
    page(
        200,
        "Sign in to your account",
        &format!(
            "<h1>Enter code</h1>\n<p>Enter the code displayed on your app or device.</p>\n{}<form method=\"post\" action=\"/common/oauth2/deviceauth\" id=\"device-code\">\n<label>Code <input type=\"text\" name=\"otc\" value=\"{}\" autocomplete=\"off\"></label>\n<button type=\"submit\">Next</button>\n</form>\n",
            error_line(error),
            escaped(code),
        ),
    )
}

/// "Are you trying to sign in to …?", before a device is let in.
pub(crate) fn device_confirmation(context: &str, app: &str, user: &str) -> LoginResponse {
    page(
        200,
        "Sign in to your account",
        &format!(
            "<h1>Are you trying to sign in to {}?</h1>\n<p>{}</p>\n<p>Only continue if you started this sign-in on your own device.</p>\n<form method=\"post\" action=\"/common/consent\" id=\"confirm\">\n<input type=\"hidden\" name=\"ctx\" value=\"{}\">\n<button type=\"submit\" name=\"decision\" value=\"accept\">Continue</button>\n<button type=\"submit\" name=\"decision\" value=\"cancel\">Cancel</button>\n</form>\n",
            escaped(app),
            escaped(user),
            escaped(context),
        ),
    )
}

/// The end of a way on which the browser goes nowhere else.
pub(crate) fn notice(title: &str, text: &str) -> LoginResponse {
    page(200, title, &format!("<h1>{}</h1>\n<p id=\"notice\">{}</p>\n", escaped(title), escaped(text)))
}

/// An error that is shown here and not taken to the app.
pub(crate) fn error(status: u16, description: &str) -> LoginResponse {
    page(
        status,
        "Sign in to your account",
        &format!("<h1>Sorry, but we\u{2019}re having trouble signing you in.</h1>\n{}", error_line(Some(description)),),
    )
}

/// Carries an answer to the app by a form that posts itself, or by its button.
pub(crate) fn form_post(target: &str, parameters: &[(&str, String)]) -> LoginResponse {
    let fields: String = parameters
        .iter()
        .map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escaped(value)))
        .collect();
    page(
        200,
        "Working...",
        &format!(
            "<form method=\"post\" action=\"{}\" id=\"hiddenform\" name=\"hiddenform\">\n{fields}<button type=\"submit\">Continue</button>\n</form>\n<script>document.forms[0].submit();</script>\n",
            escaped(target),
        ),
    )
}
