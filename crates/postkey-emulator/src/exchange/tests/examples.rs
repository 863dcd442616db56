//! The request and answer pairs of Microsoft's reference articles about mail: same request, same status, the same members.

use super::*;
use crate::exchange::administration::Right;

const EXAMPLES: &str = include_str!("../../../tests/data/examples/exchange.json");

/// Operations of the articles that these rooms serve.
const SERVED: [&str; 23] = [
    "user-sendmail",
    "user-post-messages",
    "message-send",
    "message-createreply",
    "message-createreplyall",
    "message-createforward",
    "message-reply",
    "message-forward",
    "message-get",
    "message-update",
    "message-delete",
    "message-move",
    "user-list-messages",
    "mailfolder-list-messages",
    "attachment-createuploadsession",
    "message-post-attachments",
    "message-list-attachments",
    "user-list-mailfolders",
    "user-post-mailfolders",
    "mailfolder-get",
    "mailfolder-update",
    "mailfolder-delete",
    "mailfolder-list-childfolders",
];

/// A 201 in the text of these articles, 200 in their first example.
const TEXT_SAYS_201: [&str; 2] = ["message-createreply", "message-createreplyall"];

#[test]
fn the_documented_mail_requests_are_answered_as_documented() {
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).unwrap();
    let mut replayed = 0;
    for example in &examples {
        let (operation, request) = (example["operation"].as_str().unwrap(), &example["request"]);
        if !SERVED.contains(&operation) {
            continue;
        }
        if example["response"]["body"]["@odata.type"] == "#microsoft.graph.mailSearchFolder" {
            continue; // search folders are not served
        }
        let body = match &request["body"] {
            Value::String(text) if text.contains("...") || text.len() >= 150 => continue, // cut: no whole MIME
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            body => body.to_string(),
        };
        // One article sends the message without its wrapper: a slip, not a second shape.
        if operation == "user-sendmail" && request["body"].is_object() && request["body"].get("message").is_none() {
            continue;
        }
        let mut world = world();
        let caller = delegated(ALICE, "Mail.Send Mail.ReadWrite");
        let mut first = hello("alice@contoso.example");
        first["message"]["attachments"] =
            json!([{"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.txt", "contentBytes": "aGk="}]);
        let draft = post_json(&mut world, &caller, "/me/messages", &first["message"]);
        let draft = body_json(&draft)["id"].as_str().unwrap().to_owned();
        post_json(&mut world, &caller, "/me/sendMail", &first);
        let inbox = get(&mut world, &caller, "/me/mailFolders/inbox/messages");
        let received = inbox["value"][0]["id"].as_str().unwrap().to_owned();
        let made = post_json(&mut world, &caller, "/me/mailFolders", &json!({"displayName": "Mine"}));
        let folder = body_json(&made)["id"].as_str().unwrap().to_owned();

        let needs_draft =
            ["message-send", "message-update", "attachment-createuploadsession", "message-post-attachments"];
        let message = if needs_draft.contains(&operation) { draft } else { received };
        let path: Vec<String> = request["path"].as_str().unwrap().split('/').map(str::to_owned).collect();
        let mut filled = path.clone();
        for at in 2..path.len() {
            let before = path[at - 1].to_ascii_lowercase();
            let key = path[at].split('?').next().unwrap_or_default().to_owned();
            if key.is_empty() || key.eq_ignore_ascii_case("inbox") {
                continue;
            }
            if before == "messages" {
                filled[at] = path[at].replace(&key, &message);
            } else if before == "mailfolders" {
                filled[at] = path[at].replace(&key, &folder);
            }
        }
        let path = filled.join("/").replace("/?", "?");
        let headers: Vec<(&str, &str)> = request["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"))
            .collect();
        let method = request["method"].as_str().unwrap();
        let answer =
            call(&mut world, &caller, method, &path, &headers, body.replace("address-value", "bob@contoso.example"));
        let mut status = example["response"]["status"].as_u64().unwrap();
        if TEXT_SAYS_201.contains(&operation) && status == 200 {
            status = 201;
        }
        assert_eq!(u64::from(answer.status), status, "{operation} {path}: {:?}", answer.body);
        if let (Body::Json(got), Some(want)) = (&answer.body, example["response"]["body"].as_object())
            && status < 300
        {
            same_members(operation, want, got);
        }
        replayed += 1;
    }
    assert!(replayed >= 25, "{replayed}");
}

/// Members that an article shows and another kind of object, or a newer service, has not.
const MEMBERS_LEFT_OUT: [&str; 2] = ["@odata.type", "@odata.nextLink"];

fn same_members(operation: &str, want: &serde_json::Map<String, Value>, got: &Value) {
    for (name, value) in want {
        if MEMBERS_LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        assert!(got.get(name).is_some(), "{operation}: {name} is missing in {got:#}");
        if let (Some(want), Some(got)) = (value.get(0).and_then(Value::as_object), got[name].get(0))
            && name == "value"
        {
            same_members(operation, want, got);
        }
    }
}

#[test]
fn sending_as_somebody_else_is_answered_as_documented() {
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).unwrap();
    for example in examples.iter().filter(|example| example["operation"] == "outlook-send-mail-from-other-user") {
        let status = example["response"]["status"].as_u64().unwrap();
        let mut world = world();
        let mut body = example["request"]["body"].clone();
        body["message"]["from"]["emailAddress"]["address"] = json!("team@contoso.example");
        if status == 202 {
            world.tenants[0].grant("team@contoso.example", Right::SendAs, ALICE);
        }
        let caller = delegated(ALICE, "Mail.Send Mail.Send.Shared");
        let answer = post_json(&mut world, &caller, "/me/sendmail", &body);
        assert_eq!(u64::from(answer.status), status);
        if status == 403 {
            let (want, got) = (&example["response"]["body"]["error"], &body_json(&answer)["error"]);
            assert_eq!((&got["code"], &got["message"]), (&want["code"], &want["message"]));
        }
    }
}
