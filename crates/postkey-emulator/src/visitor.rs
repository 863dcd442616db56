//! A robot that plays a person at a browser: it opens pages, fills in forms, presses buttons. No JavaScript.

use std::collections::BTreeMap;

use reqwest::{Client, Method, StatusCode, Url, header};

/// Who sits at the browser, and what they do.
#[derive(Clone)]
pub struct Visitor {
    /// Trusts the emulator and follows no redirect by itself.
    client: Client,
    /// Origins whose pages it reads; whatever leads elsewhere ends the visit.
    home: Vec<String>,
    user: String,
    password: String,
    decision: Decision,
    cookies: BTreeMap<String, String>,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("user", &self.user).field("decision", &self.decision).finish_non_exhaustive()
    }
}

/// What the person answers when asked for consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes, for themselves.
    Accept,
    /// Yes, for everyone, where the page offers it.
    AcceptForOrganization,
    /// No.
    Cancel,
}

/// Where a visit ended.
#[derive(Clone, PartialEq, Eq)]
pub enum Ended {
    /// The browser would now go to the application: there, and by posting these fields if there are any.
    Left {
        /// With query and fragment.
        url: String,
        /// Fields of a form that posts itself.
        fields: Vec<(String, String)>,
    },
    /// A page with nothing to fill in: an error, or a word of farewell.
    Page {
        /// HTTP status.
        status: u16,
        /// Its text without markup.
        text: String,
    },
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Its query carries a code.
            Self::Left { url, .. } => {
                f.debug_struct("Left").field("url", &url.split(['?', '#']).next()).finish_non_exhaustive()
            }
            Self::Page { status, text } => f.debug_struct("Page").field("status", status).field("text", text).finish(),
        }
    }
}

impl Ended {
    /// A parameter of the answer to the application, from query, fragment or posted fields.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let Self::Left { url, fields } = self else { return None };
        if let Some((_, value)) = fields.iter().find(|(key, _)| key == name) {
            return Some(value.clone());
        }
        let url = Url::parse(url).ok()?;
        let parts = [url.query().unwrap_or_default(), url.fragment().unwrap_or_default()];
        parts.iter().find_map(|part| {
            form_urlencoded::parse(part.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        })
    }
}

/// Why a visit did not end.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// No answer.
    #[error("the page did not answer")]
    NoAnswer(#[from] reqwest::Error),
    /// Not a URL.
    #[error("the page leads to something that is no address")]
    Address,
    /// Round and round.
    #[error("the pages lead round in a circle")]
    Circle,
}

/// No sign-in has more pages.
const PAGES: usize = 16;

impl Visitor {
    /// A person at a browser without cookies. `client` trusts the emulator and follows no redirects; `home` are the
    /// origins (`https://host:port`) whose pages they fill in.
    pub fn new(client: Client, home: Vec<String>, user: &str, password: &str) -> Self {
        Self {
            client,
            home,
            user: user.to_owned(),
            password: password.to_owned(),
            decision: Decision::Accept,
            cookies: BTreeMap::new(),
        }
    }

    /// Decides otherwise when asked for consent.
    pub fn deciding(mut self, decision: Decision) -> Self {
        self.decision = decision;
        self
    }

    /// Opens an address and goes on until the browser would leave or nothing is left to do.
    pub async fn visit(&mut self, url: &str) -> Result<Ended, VisitError> {
        self.go(Url::parse(url).map_err(|_| VisitError::Address)?, None).await
    }

    /// Opens the page of a device sign-in, types the code and goes on to the end.
    pub async fn enter_device_code(&mut self, page: &str, code: &str) -> Result<Ended, VisitError> {
        self.go(Url::parse(page).map_err(|_| VisitError::Address)?, Some(code)).await
    }

    async fn go(&mut self, start: Url, mut device_code: Option<&str>) -> Result<Ended, VisitError> {
        let mut step = (Method::GET, start, Vec::new());
        let mut signed_in = false;
        for _ in 0..PAGES {
            let (method, url, fields) = step;
            if !self.home.contains(&url.origin().ascii_serialization()) {
                return Ok(Ended::Left { url: url.into(), fields });
            }
            let (status, location, html) = self.fetch(&method, &url, &fields).await?;
            if let Some(location) = location {
                step = (Method::GET, url.join(&location).map_err(|_| VisitError::Address)?, Vec::new());
                continue;
            }
            let forms = forms(&html);
            let page = Ended::Page { status: status.as_u16(), text: text(&html) };
            let filled = forms.into_iter().find_map(|form| {
                let has = |name: &str| form.fields.iter().any(|field| field.name == name);
                if has("passwd") {
                    // A second time means that the first was refused.
                    return (!signed_in).then(|| {
                        signed_in = true;
                        form.filled(&[("login", &self.user), ("passwd", &self.password)], None, false)
                    });
                }
                if has("otc") {
                    return device_code.take().map(|code| form.filled(&[("otc", code)], None, false));
                }
                if form.buttons.iter().any(|(name, _)| name == "decision") {
                    let word = if self.decision == Decision::Cancel { "cancel" } else { "accept" };
                    let tick = self.decision == Decision::AcceptForOrganization;
                    return Some(form.filled(&[], Some(("decision", word)), tick));
                }
                let target = url.join(&form.action).ok()?;
                let leaves = !self.home.contains(&target.origin().ascii_serialization());
                leaves.then(|| form.filled(&[], None, false))
            });
            let Some((action, fields)) = filled else { return Ok(page) };
            step = (Method::POST, url.join(&action).map_err(|_| VisitError::Address)?, fields);
        }
        Err(VisitError::Circle)
    }

    async fn fetch(
        &mut self,
        method: &Method,
        url: &Url,
        fields: &[(String, String)],
    ) -> Result<(StatusCode, Option<String>, String), VisitError> {
        let mut request = self.client.request(method.clone(), url.clone());
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        if *method == Method::POST {
            request = request.form(fields);
        }
        let answer = request.send().await?;
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().ok().and_then(|text| text.split(';').next()?.split_once('='));
            if let Some((name, value)) = pair {
                if value.is_empty() {
                    self.cookies.remove(name);
                } else {
                    self.cookies.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        let status = answer.status();
        let location = answer.headers().get(header::LOCATION).filter(|_| status.is_redirection());
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((status, location, answer.text().await?))
    }
}

#[derive(Debug, Default)]
struct Form {
    action: String,
    fields: Vec<Field>,
    buttons: Vec<(String, String)>,
}

#[derive(Debug)]
struct Field {
    name: String,
    value: String,
    checkbox: bool,
}

impl Form {
    /// Where it goes and what it sends, filled in with `values`, by pressing `button`.
    fn filled(
        &self,
        values: &[(&str, &str)],
        button: Option<(&str, &str)>,
        tick: bool,
    ) -> (String, Vec<(String, String)>) {
        let mut sent: Vec<(String, String)> = self
            .fields
            .iter()
            .filter(|field| !field.checkbox || tick)
            .map(|field| {
                let typed = values.iter().find(|(name, _)| *name == field.name).map(|(_, value)| (*value).to_owned());
                (field.name.clone(), typed.unwrap_or_else(|| field.value.clone()))
            })
            .collect();
        sent.extend(button.map(|(name, value)| (name.to_owned(), value.to_owned())));
        (self.action.clone(), sent)
    }
}

/// The forms of a page. Enough of HTML for forms that are written to be read by anything.
fn forms(html: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut open = false;
    for tag in html.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let name = tag.split([' ', '\n', '/']).next().unwrap_or_default();
        let attribute = |wanted: &str| attribute(tag, wanted);
        match name {
            "form" => {
                forms.push(Form { action: attribute("action").unwrap_or_default(), ..Form::default() });
                open = true;
            }
            "input" if open => {
                if let (Some(form), Some(name)) = (forms.last_mut(), attribute("name")) {
                    let checkbox = attribute("type").as_deref() == Some("checkbox");
                    form.fields.push(Field { name, value: attribute("value").unwrap_or_default(), checkbox });
                }
            }
            "button" if open => {
                if let (Some(form), Some(name)) = (forms.last_mut(), attribute("name")) {
                    form.buttons.push((name, attribute("value").unwrap_or_default()));
                }
            }
            _ => {}
        }
        if tag == "/form" {
            open = false;
        }
    }
    forms
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let behind = tag.split_once(&format!(" {name}=\""))?.1;
    Some(unescaped(behind.split('"').next()?))
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

/// A page's words without its markup.
fn text(html: &str) -> String {
    let body = html.split_once("<body>").map_or(html, |(_, body)| body);
    let words: String =
        body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect::<Vec<_>>().join(" ");
    unescaped(&words.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_filled_in_as_a_browser_would() {
        let html = "<body><p>Hi &amp; welcome</p><form method=\"post\" action=\"/go?a=1&amp;b=2\"><input type=\"hidden\" name=\"ctx\" value=\"x&quot;y\"><input type=\"checkbox\" name=\"organization\" value=\"yes\"><input type=\"password\" name=\"passwd\"><button type=\"submit\" name=\"decision\" value=\"accept\">Yes</button></form></body>";
        let form = &forms(html)[0];
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (action, sent) = form.filled(&[("passwd", "p")], Some(("decision", "accept")), false);
        assert_eq!(action, "/go?a=1&b=2");
        assert_eq!(sent, [pair("ctx", "x\"y"), pair("passwd", "p"), pair("decision", "accept")]);
        assert!(form.filled(&[], None, true).1.contains(&pair("organization", "yes")));
        assert_eq!(text(html), "Hi & welcome Yes");
    }
}
