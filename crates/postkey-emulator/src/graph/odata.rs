//! Query options of a directory request, and the collections and entities that answer them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{
    errors::{Answer, Refusal, json_answer},
    filter::Filter,
};
use crate::request::{ApiRequest, ApiResponse, Body};

/// What a resource type lets a query do.
#[derive(Debug)]
pub(crate) struct Resource {
    /// `microsoft.graph.application`'s short name, for messages.
    pub(crate) entity: &'static str,
    /// Every property that `$select` may name.
    pub(crate) properties: &'static [&'static str],
    /// What comes without `$select`; empty = everything the handler made.
    pub(crate) defaults: &'static [&'static str],
    /// Properties that `$filter` may name; empty = any.
    pub(crate) filterable: &'static [&'static str],
    /// `ne`, `not`, `endsWith` and sorted filters need `ConsistencyLevel: eventual` and `$count=true`.
    pub(crate) directory: bool,
    pub(crate) default_page: usize,
    pub(crate) largest_page: usize,
}

/// The `$` options of one request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Options {
    pub(crate) select: Option<Vec<String>>,
    pub(crate) filter: Option<Filter>,
    pub(crate) search: Option<String>,
    pub(crate) order: Option<(String, bool)>,
    pub(crate) expand: Vec<String>,
    pub(crate) top: Option<usize>,
    pub(crate) skip: usize,
    pub(crate) count: bool,
    /// `ConsistencyLevel: eventual` was sent.
    pub(crate) eventual: bool,
}

impl Options {
    /// Reads the options. Graph takes the names it knows without the `$` too.
    pub(crate) fn read(request: &ApiRequest, resource: &Resource) -> Result<Self, Refusal> {
        let eventual = request
            .headers
            .get("consistencylevel")
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.eq_ignore_ascii_case("eventual"));
        let mut options = Self { eventual, ..Self::default() };
        for (name, value) in &request.query {
            match name.strip_prefix('$').unwrap_or(name).to_ascii_lowercase().as_str() {
                "select" => options.select = Some(selection(value, resource)?),
                "filter" => options.filter = Some(Filter::parse(value).map_err(invalid_filter)?),
                "search" => options.search = Some(value.clone()),
                "orderby" => options.order = order(value, resource)?,
                "expand" => options.expand = expansion(value, resource)?,
                "top" => options.top = Some(page_size(value, resource)?),
                "count" => options.count = value.eq_ignore_ascii_case("true"),
                "skip" if !resource.directory => options.skip = number(value, "$skip")?,
                "skip" => return Err(Refusal::bad_request("'$skip' is not supported by the service.")),
                "skiptoken" => options.skip = read_skip_token(value)?,
                "format" => {}
                _ if name.starts_with('$') => {
                    // (unverified wording)
                    return Err(Refusal::bad_request(format!("Unrecognized query argument specified: '{name}'.")));
                }
                _ => {}
            }
        }
        options.check(resource)?;
        Ok(options)
    }

    /// Which queries need the index store, and which properties cannot be filtered at all.
    fn check(&self, resource: &Resource) -> Result<(), Refusal> {
        let advanced = self.eventual && self.count;
        if self.search.is_some() && !self.eventual && resource.directory {
            return Err(Refusal::unsupported_query(
                "Request with $search query parameter only works through MSGraph with a special request header: \
                 'ConsistencyLevel: eventual'",
            ));
        }
        let Some(filter) = &self.filter else { return Ok(()) };
        for (property, operator) in filter.uses() {
            let filterable = resource.filterable.is_empty() || resource.filterable.contains(&property.as_str());
            if !filterable {
                return Err(Refusal::unsupported_query(format!(
                    "Unsupported or invalid query filter clause specified for property '{property}' of resource '{}'.",
                    capital(resource.entity)
                )));
            }
            if resource.directory && !advanced && matches!(operator, "ne" | "not" | "endsWith") {
                return Err(Refusal::unsupported_query(format!(
                    "Operator '{operator}' is not supported because the required parameters might be missing. Try adding \
                     $count=true query parameter and ConsistencyLevel:eventual header. Refer to \
                     https://aka.ms/graph-docs/advanced-queries for more information"
                )));
            }
            if resource.directory && operator == "contains" {
                return Err(Refusal::unsupported_query("The 'contains' function is not supported by the service.")); // (unverified wording)
            }
        }
        if resource.directory && self.order.is_some() && !advanced {
            // (unverified wording)
            return Err(Refusal::unsupported_query("Sorting not supported for current query."));
        }
        Ok(())
    }
}

/// A collection: filtered, sorted, cut to a page, with the link to the next.
pub(crate) fn collection(
    request: &ApiRequest,
    resource: &Resource,
    context: &str,
    options: &Options,
    mut items: Vec<Value>,
) -> Answer {
    if let Some(filter) = &options.filter {
        items.retain(|item| filter.matches(item));
    }
    if let Some(search) = &options.search {
        let search = Search::parse(search)?;
        items.retain(|item| search.matches(item));
    }
    if let Some((property, descending)) = &options.order {
        items.sort_by_key(|item| item[property.as_str()].as_str().map(str::to_lowercase));
        if *descending {
            items.reverse();
        }
    }
    let total = items.len();
    let size = options.top.unwrap_or(resource.default_page);
    let page: Vec<Value> =
        items.into_iter().skip(options.skip).take(size).map(|item| select(item, resource, options)).collect();
    let end = options.skip.saturating_add(page.len());
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!(metadata(request, &selected(context, options))));
    if options.count && (options.eventual || !resource.directory) {
        body.insert("@odata.count".into(), json!(total));
    }
    if end < total {
        body.insert("@odata.nextLink".into(), json!(next_link(request, end)));
    }
    body.insert("value".into(), Value::Array(page));
    Ok(json_answer(200, Value::Object(body)))
}

/// One object with its context.
pub(crate) fn entity(
    status: u16,
    request: &ApiRequest,
    resource: &Resource,
    context: &str,
    options: &Options,
    item: Value,
) -> Answer {
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!(metadata(request, &format!("{}/$entity", selected(context, options)))));
    if let Value::Object(item) = select(item, resource, options) {
        body.extend(item);
    }
    Ok(json_answer(status, Value::Object(body)))
}

/// The answer of a `$count` segment: a number in plain text, from the index store only.
pub(crate) fn count_only(options: &Options, items: Vec<Value>) -> Answer {
    if !options.eventual {
        return Err(Refusal::bad_request("$count is not currently supported."));
    }
    let count = items.iter().filter(|item| options.filter.as_ref().is_none_or(|filter| filter.matches(item))).count();
    Ok(ApiResponse {
        status: 200,
        headers: Vec::new(),
        body: Body::Raw { content_type: "text/plain", bytes: count.to_string().into() },
    })
}

/// `{origin}/{version}/$metadata#{what}`.
pub(crate) fn metadata(request: &ApiRequest, what: &str) -> String {
    format!("{}/{}/$metadata#{what}", request.origin, request.version)
}

fn selected(context: &str, options: &Options) -> String {
    match &options.select {
        Some(names) => format!("{context}({})", names.join(",")),
        None => context.to_owned(),
    }
}

fn select(item: Value, resource: &Resource, options: &Options) -> Value {
    let Value::Object(mut item) = item else { return item };
    let wanted: Vec<&str> = match &options.select {
        Some(names) => names.iter().map(String::as_str).collect(),
        None if resource.defaults.is_empty() => return Value::Object(item),
        None => resource.defaults.to_vec(),
    };
    let mut kept = Map::new();
    for name in wanted.into_iter().chain(options.expand.iter().map(String::as_str)) {
        if let Some((name, value)) = item.remove_entry(name) {
            kept.insert(name, value);
        }
    }
    // Type annotations are not subject to $select.
    kept.extend(item.into_iter().filter(|(name, _)| name.starts_with('@')));
    Value::Object(kept)
}

fn selection(value: &str, resource: &Resource) -> Result<Vec<String>, Refusal> {
    value
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            resource
                .properties
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name))
                .map(|known| (*known).to_owned())
                .ok_or_else(|| unknown_property(name, resource))
        })
        .collect()
}

/// Related objects that can come along: owners, where there are any. (unverified wording)
fn expansion(value: &str, resource: &Resource) -> Result<Vec<String>, Refusal> {
    let offered = matches!(resource.entity, "application" | "servicePrincipal");
    let names = value.split(',').map(|name| name.trim().split('(').next().unwrap_or_default().to_owned());
    names
        .map(|name| if offered && name == "owners" { Ok(name) } else { Err(unknown_property(&name, resource)) })
        .collect()
}

fn order(value: &str, resource: &Resource) -> Result<Option<(String, bool)>, Refusal> {
    let mut words = value.split_whitespace();
    let Some(property) = words.next() else { return Ok(None) };
    if !resource.properties.contains(&property) {
        return Err(unknown_property(property, resource));
    }
    match words.next() {
        None | Some("asc") => Ok(Some((property.to_owned(), false))),
        Some("desc") => Ok(Some((property.to_owned(), true))),
        Some(other) => Err(Refusal::bad_request(format!("Syntax error at '{other}' in '{value}'."))),
    }
}

/// (unverified wording)
fn unknown_property(name: &str, resource: &Resource) -> Refusal {
    Refusal::bad_request(format!(
        "Could not find a property named '{name}' on type 'microsoft.graph.{}'.",
        resource.entity
    ))
}

fn page_size(value: &str, resource: &Resource) -> Result<usize, Refusal> {
    let size = number(value, "$top")?;
    if size == 0 || size > resource.largest_page {
        // (unverified wording)
        return Err(Refusal::bad_request(format!(
            "Invalid page size specified: '{value}'. Must be between 1 and {} inclusive.",
            resource.largest_page
        )));
    }
    Ok(size)
}

fn number(value: &str, option: &str) -> Result<usize, Refusal> {
    value.parse().map_err(|_| Refusal::bad_request(format!("Invalid value '{value}' for {option} query option found.")))
}

fn invalid_filter(why: String) -> Refusal {
    Refusal::bad_request(format!("Invalid filter clause: {why}")) // (unverified wording)
}

/// Opaque to clients: only the emulator reads it.
fn read_skip_token(token: &str) -> Result<usize, Refusal> {
    BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("after:")?.parse().ok())
        .ok_or_else(|| Refusal::bad_request("The provided skip token is not valid.")) // (unverified wording)
}

fn next_link(request: &ApiRequest, offset: usize) -> String {
    let token = BASE64_URL_SAFE_NO_PAD.encode(format!("after:{offset}"));
    let mut link = format!("{}/{}/{}?", request.origin, request.version, request.path.join("/").replace(' ', "%20"));
    for (name, value) in &request.query {
        let plain = name.strip_prefix('$').unwrap_or(name);
        if !plain.eq_ignore_ascii_case("skiptoken") && !plain.eq_ignore_ascii_case("skip") {
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            link.push_str(&format!("{name}={}&", value.replace('+', "%20")));
        }
    }
    link.push_str(&format!("$skiptoken={token}"));
    link
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `"property:words"`, several of them joined by OR or AND.
struct Search {
    terms: Vec<(String, String)>,
    every: bool,
}

impl Search {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let quoted: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
        let terms: Option<Vec<_>> = quoted
            .iter()
            .map(|term| term.split_once(':').map(|(name, words)| (name.to_owned(), words.to_lowercase())))
            .collect();
        match terms {
            Some(terms) if !terms.is_empty() => Ok(Self { terms, every: !text.contains("\" OR \"") }),
            // (unverified wording)
            _ => Err(Refusal::bad_request(
                "A $search clause must be of the form \"property:value\", enclosed in double quotes.",
            )),
        }
    }

    fn matches(&self, item: &Value) -> bool {
        let met = |(name, words): &(String, String)| {
            item[name.as_str()].as_str().is_some_and(|value| value.to_lowercase().contains(words))
        };
        if self.every { self.terms.iter().all(met) } else { self.terms.iter().any(met) }
    }
}
