//! Federated identity credentials of an application: trust in another issuer's tokens instead of a secret.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Call, applications,
    errors::{Answer, Refusal, no_content},
    odata::{self, Options, Resource},
    shape::{self, Kind, Property, TEXTS, firm, open, shown},
};
use crate::directory::FederatedCredential;

const FEDERATED: Resource = Resource {
    entity: "federatedIdentityCredential",
    properties: &["id", "audiences", "description", "issuer", "name", "subject"],
    defaults: &[],
    filterable: &["name", "issuer", "subject"],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

const WRITABLE: &[Property] = &[
    shown("id"),
    firm("name", Kind::Text),
    firm("issuer", Kind::Text),
    firm("subject", Kind::Text),
    firm("audiences", TEXTS),
    open("description", Kind::Text),
];

/// Credentials of one application.
const MOST: usize = 20;

fn context(app: Uuid) -> String {
    format!("applications('{app}')/federatedIdentityCredentials")
}

fn one(call: &Call<'_>, app: usize) -> Result<usize, Refusal> {
    // By id, or by name as an alternate key.
    let wanted = call.behind_key(1);
    call.directory().applications[app]
        .federated
        .iter()
        .position(|credential| credential.id.to_string() == wanted || credential.name == wanted)
        .ok_or_else(|| Refusal::not_found(wanted))
}

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &FEDERATED)?;
    let app = &call.directory().applications[applications::named(call)?];
    let items = app.federated.iter().map(federated_json).collect();
    odata::collection(call.request, &FEDERATED, &context(app.id), &options, items)
}

pub(crate) fn get(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &FEDERATED)?;
    let at = applications::named(call)?;
    let app = &call.directory().applications[at];
    let item = federated_json(&app.federated[one(call, at)?]);
    odata::entity(200, call.request, &FEDERATED, &context(app.id), &options, item)
}

pub(crate) fn create(call: &mut Call<'_>) -> Answer {
    let at = applications::named_to_change(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, WRITABLE, "FederatedIdentityCredential")?;
    for name in ["name", "issuer", "subject", "audiences"] {
        if !body.contains_key(name) {
            // (unverified wording)
            return Err(Refusal::bad_request(format!(
                "A value is required for property '{name}' of resource 'FederatedIdentityCredential'."
            )));
        }
    }
    let mut credential = FederatedCredential {
        id: Uuid::new_v4(),
        name: String::new(),
        issuer: String::new(),
        subject: String::new(),
        audiences: Vec::new(),
        description: None,
    };
    change(&mut credential, &body)?;
    let app = &mut call.directory_mut().applications[at];
    if app.federated.len() >= MOST {
        return Err(Refusal::bad_request("The application already has 20 federated identity credentials.")); // (unverified)
    }
    if app.federated.iter().any(|other| other.name == credential.name) {
        return Err(Refusal::new(
            409,
            "Request_MultipleObjectsWithSameKeyValue",
            "FederatedIdentityCredential with that name already exists.",
        )); // (unverified)
    }
    unique(&app.federated, &credential)?;
    let item = federated_json(&credential);
    let id = app.id;
    app.federated.push(credential);
    odata::entity(201, call.request, &FEDERATED, &context(id), &Options::default(), item)
}

pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    let at = applications::named_to_change(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, WRITABLE, "FederatedIdentityCredential")?;
    let place = one(call, at)?;
    let app = &mut call.directory_mut().applications[at];
    let mut credential = app.federated[place].clone();
    if body.get("name").and_then(Value::as_str).is_some_and(|name| name != credential.name) {
        return Err(Refusal::bad_request("Property 'name' is immutable and cannot be changed.")); // (unverified)
    }
    change(&mut credential, &body)?;
    let others: Vec<FederatedCredential> =
        app.federated.iter().filter(|other| other.id != credential.id).cloned().collect();
    unique(&others, &credential)?;
    app.federated[place] = credential;
    Ok(no_content())
}

pub(crate) fn delete(call: &mut Call<'_>) -> Answer {
    let at = applications::named_to_change(call)?;
    let place = one(call, at)?;
    call.directory_mut().applications[at].federated.remove(place);
    Ok(no_content())
}

fn unique(others: &[FederatedCredential], credential: &FederatedCredential) -> Result<(), Refusal> {
    let twin = others.iter().any(|other| other.issuer == credential.issuer && other.subject == credential.subject);
    // (unverified status and wording)
    if twin {
        Err(Refusal::bad_request("The combination of issuer and subject must be unique on the application."))
    } else {
        Ok(())
    }
}

fn change(credential: &mut FederatedCredential, body: &Map<String, Value>) -> Result<(), Refusal> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (name, value) in body {
        match name.as_str() {
            "name" => credential.name = text(value),
            "issuer" => credential.issuer = text(value),
            "subject" => credential.subject = text(value),
            "audiences" => credential.audiences = value.as_array().into_iter().flatten().map(text).collect(),
            _ => credential.description = value.as_str().map(str::to_owned),
        }
    }
    let holds = |text: &str, longest: usize| !text.is_empty() && text.chars().count() <= longest;
    for (name, fits) in [
        ("name", holds(&credential.name, 120)),
        ("issuer", holds(&credential.issuer, 600)),
        ("subject", holds(&credential.subject, 600)),
        ("audiences", credential.audiences.len() == 1 && holds(&credential.audiences[0], 600)),
    ] {
        if !fits {
            return Err(Refusal::invalid_value(name, "FederatedIdentityCredential"));
        }
    }
    Ok(())
}

fn federated_json(credential: &FederatedCredential) -> Value {
    json!({
        "id": credential.id,
        "name": credential.name,
        "issuer": credential.issuer,
        "subject": credential.subject,
        "description": credential.description,
        "audiences": credential.audiences,
    })
}
