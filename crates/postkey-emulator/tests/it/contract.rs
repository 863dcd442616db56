//! Holds an answer of the emulator to Microsoft's OpenAPI: the schema of its path, method and status, nothing unknown.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

const DOCUMENTS: [&str; 2] =
    [include_str!("../data/graph-directory.openapi.json"), include_str!("../data/graph-exchange.openapi.json")];

/// What a path and method must answer.
pub(crate) struct Operation {
    document: usize,
    template: String,
    operation: Value,
}

struct Document {
    paths: Map<String, Value>,
    /// `components`, as JSON Schema 2020-12 understands it.
    components: Value,
    /// As written, to look responses up.
    raw: Value,
}

static READ: LazyLock<Vec<Document>> = LazyLock::new(|| {
    DOCUMENTS
        .iter()
        .map(|text| {
            let raw: Value = serde_json::from_str(text).unwrap();
            let mut components = json!({ "schemas": raw["components"]["schemas"] });
            for schema in components["schemas"].as_object_mut().unwrap().values_mut() {
                rewrite(schema, false);
            }
            Document { paths: raw["paths"].as_object().unwrap().clone(), components, raw }
        })
        .collect()
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Panics unless the answer to `method path` (behind the version, without its query) is one that the OpenAPI describes.
/// Paths it does not describe are refused too.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, body: Option<&Value>) {
    if path.trim_matches('/') == "$batch" || method == "PUT" {
        return; // described in prose only
    }
    if status >= 400 {
        let body = body.unwrap_or_else(|| panic!("{method} {path}: {status} without a body"));
        let error = json!({ "$ref": "#/components/schemas/microsoft.graph.ODataErrors.ODataError" });
        return hold("error", 0, &error, body, &format!("{method} {path}"));
    }
    let found = operation(method, path).unwrap_or_else(|| panic!("{method} {path} is not in the OpenAPI"));
    let what = format!("{method} {}", found.template);
    let documented = &found.operation["x-documented-success-status"];
    let right = match documented {
        Value::Number(number) => number.as_u64() == Some(status.into()),
        Value::Array(numbers) => numbers.iter().any(|number| number.as_u64() == Some(status.into())),
        _ => true,
    };
    assert!(right, "{what}: documented status {documented}, answered {status}");
    let document = &READ[found.document];
    let mut response = &found.operation["responses"]["2XX"];
    for exact in [status.to_string(), "2XX".to_owned()] {
        if let Some(named) = found.operation["responses"].get(&exact) {
            response = named;
            break;
        }
    }
    if let Some(name) = response["$ref"].as_str() {
        response = document.raw.pointer(name.trim_start_matches('#')).unwrap();
    }
    match (response.pointer("/content/application~1json/schema"), body) {
        (Some(schema), Some(body)) => {
            let mut schema = schema.clone();
            rewrite(&mut schema, true);
            hold(&what, found.document, &schema, body, &what);
        }
        (None, Some(body)) if body.is_object() && response.get("content").is_none() => {
            panic!("{what} answers {body} where no body is described")
        }
        _ => {}
    }
}

/// The operation that a path means; exact segments before placeholders.
pub(crate) fn operation(method: &str, path: &str) -> Option<Operation> {
    let path = path.trim_matches('/').replacen("users('", "users/", 1);
    let path = match path.strip_prefix("me") {
        Some(rest) if rest.starts_with('/') => format!("users/me{rest}"),
        _ => path,
    };
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut best: Option<(usize, Operation)> = None;
    for (number, document) in READ.iter().enumerate() {
        for (template, item) in &document.paths {
            let Some(operation) = item.get(method.to_lowercase()) else { continue };
            let Some(exact) = fits(template, &segments) else { continue };
            if best.as_ref().is_none_or(|(known, _)| exact > *known) {
                let found = Operation { document: number, template: template.clone(), operation: operation.clone() };
                best = Some((exact, found));
            }
        }
    }
    best.map(|(_, operation)| operation)
}

/// How many segments match word for word; None = the path is another.
fn fits(template: &str, segments: &[&str]) -> Option<usize> {
    let parts: Vec<&str> = template.trim_matches('/').split('/').collect();
    if parts.len() != segments.len() {
        return None;
    }
    parts.iter().zip(segments).try_fold(0, |exact, (part, segment)| match part.split_once('{') {
        None => (part == segment).then_some(exact + 2),
        Some((before, rest)) => {
            let after = rest.split_once('}')?.1;
            let inner = segment.strip_prefix(before)?.strip_suffix(after)?;
            let keyed = !before.is_empty();
            (!inner.is_empty() && (keyed || !inner.contains(['(', '$']))).then_some(exact + usize::from(keyed))
        }
    })
}

#[track_caller]
fn hold(key: &str, document: usize, schema: &Value, body: &Value, what: &str) {
    let validator = {
        let mut known = VALIDATORS.lock().unwrap();
        let make = || {
            let mut whole = schema.clone();
            whole["components"] = READ[document].components.clone();
            Arc::new(jsonschema::options().with_draft(Draft::Draft202012).build(&whole).unwrap())
        };
        known.entry(format!("{document} {key} {schema}")).or_insert_with(make).clone()
    };
    let faults: Vec<String> =
        validator.iter_errors(body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(
        faults.is_empty(),
        "{what} answers {body:#}\nwhich is not what Microsoft describes:\n{}",
        faults.join("\n")
    );
}

/// Schemas whose objects may be of a derived type with more properties, or are open by nature.
const OPEN: [&str; 7] = [
    "microsoft.graph.directoryObject",
    "microsoft.graph.entity",
    "microsoft.graph.outlookItem",
    "microsoft.graph.attachment",
    "microsoft.graph.extension",
    "microsoft.graph.customSecurityAttributeValue",
    "microsoft.graph.ODataErrors.InnerError",
];

/// OpenAPI 3.0 into JSON Schema: `nullable` becomes a type, and where an object is used (not where it is inherited)
/// properties that no schema names are refused, annotations apart.
fn rewrite(schema: &mut Value, used: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("additionalProperties");
    let nullable = object.remove("nullable") == Some(json!(true));
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        for choice in choices.iter_mut() {
            let only_null =
                choice["type"] == "object" && choice["nullable"] == true && choice.get("properties").is_none();
            if only_null {
                *choice = json!({ "type": "null" });
            } else {
                rewrite(choice, true);
            }
        }
    }
    if let Some(Value::Array(parts)) = object.get_mut("allOf") {
        parts.iter_mut().for_each(|part| rewrite(part, false));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(|property| rewrite(property, true));
    }
    if let Some(items) = object.get_mut("items") {
        rewrite(items, true);
    }
    if nullable {
        if let Some(kind @ Value::String(_)) = object.get_mut("type") {
            *kind = json!([kind.clone(), "null"]);
        }
        if let Some(Value::Array(values)) = object.get_mut("enum") {
            values.push(Value::Null);
        }
    }
    let target = object.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()).map(str::to_owned);
    let closed = match target {
        Some(name) => used && !OPEN.contains(&name.as_str()),
        None => used && object.contains_key("allOf"),
    };
    if closed {
        object.insert("patternProperties".into(), json!({ "@odata\\.|@microsoft\\.": {} }));
        // Enums and numbers behind a $ref are not touched by a rule about properties.
        object.insert("unevaluatedProperties".into(), json!(false));
    }
}

#[test]
fn what_microsoft_does_not_describe_does_not_pass() {
    let app = json!({ "@odata.context": "x", "id": "1", "displayName": "x", "web": { "redirectUris": [] } });
    let with = |pointer: &str, name: &str, value: Value| {
        let mut app = app.clone();
        app.pointer_mut(pointer).unwrap()[name] = value;
        app
    };
    for (body, good) in [
        (app.clone(), true),
        (with("", "displayname", json!("x")), false),
        (with("", "displayName", json!(1)), false),
        (with("", "displayName", json!(null)), true),
        (with("", "createdDateTime", json!("yesterday")), false),
        (with("", "passwordCredentials", json!([{ "keyid": "x" }])), false),
        (with("/web", "redirectUri", json!([])), false),
    ] {
        let checked = std::panic::catch_unwind(|| check("GET", "applications/1", 200, Some(&body)));
        assert_eq!(checked.is_ok(), good, "{body}");
        let list = json!({ "value": [body] });
        let checked = std::panic::catch_unwind(|| check("GET", "applications", 200, Some(&list)));
        assert_eq!(checked.is_ok(), good, "{list}");
    }
    for (method, path, status) in
        [("GET", "aplications", 200), ("POST", "applications", 200), ("PATCH", "applications/1", 200)]
    {
        assert!(std::panic::catch_unwind(|| check(method, path, status, None)).is_err(), "{method} {path} {status}");
    }
}
