//! The OpenAPI document: gathered from the routes by utoipa, then completed with what its macros cannot say.

use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{problem, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "postkey",
        description = "Hand in mail that goes out through Microsoft 365, and see what became of it. Refusals are \
                       problem details (RFC 9457) with a stable `code`, what to do, and who must do it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        routes::send::send,
        routes::outbox::search,
        routes::outbox::show,
        routes::outbox::content,
        routes::outbox_steps::retry,
        routes::outbox_steps::retry_many,
        routes::outbox_steps::cancel,
        routes::outbox_steps::reschedule,
        routes::senders::list,
        routes::senders::show,
        routes::senders::pause,
        routes::senders::resume,
        routes::pauses::list,
        routes::pauses::add,
        routes::pauses::end,
        routes::submitters::list,
        routes::submitters::show,
        routes::health::health,
        routes::health::ready,
        routes::metrics::metrics,
    ),
    components(schemas(problem::Problem)),
    modifiers(&ApiKey),
    tags(
        (name = "send", description = "Hand in messages."),
        (name = "outbox", description = "What was handed in, and what became of it."),
        (name = "senders", description = "Tenant, app and mailbox under a name."),
        (name = "pauses", description = "What is held, and why."),
        (name = "submitters", description = "Who may hand in mail."),
        (name = "health", description = "Whether it works."),
    ),
    servers((url = "/", description = "This server.")),
)]
struct Document;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("pk_…")
            .description(Some("A key of `postkey api-key add`, with the scopes that the operation needs."))
            .build();
        document.components.get_or_insert_default().add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// What stands in `pattern = "NAME"`: the macros take only one literal, and the expressions want one home.
const PATTERNS: &[(&str, &str)] = &[
    // Up to 64 ASCII characters, or so few others that they fit in 64 bytes; labels joined by dots.
    (
        "ADDRESS",
        "^(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}|[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\\u00a1-\\u167f\\u3001-\\ud7ff-]{1,16})\
         @[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,2}$",
    ),
    ("ONE_LINE", "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
    ("NAME", "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"),
    ("MEDIA_TYPE", "^[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}$"),
    ("BASE64", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"),
    ("CONTENT_ID", "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,200}$"),
    ("EXTRA_HEADER", "^[Xx]-(?![Pp][Oo][Ss][Tt][Kk][Ee][Yy])[A-Za-z0-9-]{1,70}$"),
    ("ENVELOPE_ID", "^[!-*,-<>-~]{1,100}$"),
    ("IDEMPOTENCY_KEY", "^[!-~](?:[ -~]{0,253}[!-~])?$"),
];

/// The document, complete.
pub fn document() -> Value {
    // Everything in it was written by this crate.
    let mut document = serde_json::to_value(Document::openapi()).expect("the document is plain JSON");
    fill_patterns(&mut document);
    no_null_parameters(&mut document["paths"]);
    let schemas = &mut document["components"]["schemas"];
    // Somebody must receive it: not all three lists may be empty or left out.
    let nobody = json!({ "maxItems": 0 });
    schemas["SendRequest"]["not"] = json!({ "properties": { "to": nobody, "cc": nobody, "bcc": nobody } });
    // Which fields there are depends on what happened.
    schemas["TimelineEvent"]["properties"]["detail"] =
        json!({ "description": "More about it; which fields there are depends on the kind." });
    document["paths"]["/openapi.json"] = json!({
        "get": {
            "tags": ["health"],
            "summary": "This document",
            "operationId": "openapi",
            "responses": {
                "200": {
                    "description": "This document.",
                    "content": { "application/json": { "schema": { "type": "object" } } }
                },
            },
            "security": [{}]
        }
    });
    let refusals = document["paths"]["/healthz"]["get"]["responses"].clone();
    if let (Value::Object(all), Some(own)) =
        (refusals, document["paths"]["/openapi.json"]["get"]["responses"].as_object_mut())
    {
        for (status, refusal) in all {
            own.entry(status).or_insert(refusal);
        }
    }
    document
}

/// A parameter is there or not there: nothing in a query or a header is null.
fn no_null_parameters(paths: &mut Value) {
    let operations = paths.as_object_mut().into_iter().flatten();
    for (_, operation) in operations.filter_map(|(_, operations)| operations.as_object_mut()).flatten() {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let schema = &mut parameter["schema"];
            if let Some(one) = schema["type"].as_array().and_then(|types| types.first()).cloned() {
                schema["type"] = one;
            }
            if let Some(mut one) = schema["oneOf"].as_array().and_then(|choices| choices.first()).cloned() {
                one["description"] = schema["description"].take();
                *schema = one;
            }
        }
    }
}

fn fill_patterns(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let known = match (name.as_str(), &*field) {
                    ("pattern", Value::String(text)) => PATTERNS.iter().find(|(short, _)| short == text),
                    _ => None,
                };
                match known {
                    Some((_, expression)) => *field = Value::from(*expression),
                    None => fill_patterns(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fill_patterns),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_that_is_named_is_known() {
        let text = document().to_string();
        for (name, _) in PATTERNS {
            assert!(!text.contains(&format!("\"pattern\":\"{name}\"")), "{name}");
        }
        let mut rest = text.as_str();
        while let Some(at) = rest.find("\"pattern\":\"") {
            rest = &rest[at + 11..];
            assert!(rest.starts_with('^'), "{}", &rest[..40]);
        }
    }
}
