//! Lists, filters, ids, folders, and who sees what.

use super::*;

const DRAFTS: &str = "/users/alice@contoso.example/messages";

fn draft(world: &mut World, subject: &str) -> Value {
    let body = json!({"subject": subject, "body": {"contentType": "HTML", "content": "They were <b>awesome</b>!"},
        "toRecipients": [{"emailAddress": {"address": "bob@contoso.example"}}]});
    let answer = post_json(world, &app("Mail.ReadWrite"), DRAFTS, &body);
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    body_json(&answer)
}

#[test]
fn a_draft_has_every_documented_property() {
    let mut world = world();
    let shown = draft(&mut world, "game");
    for property in [
        "@odata.context",
        "@odata.etag",
        "id",
        "createdDateTime",
        "lastModifiedDateTime",
        "changeKey",
        "categories",
        "receivedDateTime",
        "sentDateTime",
        "hasAttachments",
        "internetMessageId",
        "subject",
        "bodyPreview",
        "importance",
        "parentFolderId",
        "conversationId",
        "conversationIndex",
        "isDeliveryReceiptRequested",
        "isReadReceiptRequested",
        "isRead",
        "isDraft",
        "webLink",
        "inferenceClassification",
        "body",
        "toRecipients",
        "ccRecipients",
        "bccRecipients",
        "replyTo",
        "flag",
    ] {
        assert!(shown.get(property).is_some(), "{property}");
    }
    assert!(shown.get("internetMessageHeaders").is_none() && shown.get("uniqueBody").is_none());
    assert_eq!((&shown["isDraft"], &shown["bodyPreview"]), (&json!(true), &json!("They were awesome!")));
    assert_eq!(shown["@odata.etag"], format!("W/\"{}\"", shown["changeKey"].as_str().unwrap()));
}

#[test]
fn pages_are_ten_and_links_keep_the_options() {
    let mut world = world();
    for n in 0..25 {
        draft(&mut world, &format!("m{n}"));
    }
    let caller = app("Mail.Read");
    let mut link = format!("{DRAFTS}?$select=subject&$count=true");
    let mut seen = Vec::new();
    loop {
        let page = get(&mut world, &caller, &link.replace("%20", " "));
        assert_eq!(page["@odata.count"], 25);
        seen.extend(
            page["value"].as_array().unwrap().iter().map(|message| message["subject"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["@odata.nextLink"].as_str() else { break };
        assert!(next.starts_with("https://localhost:4430/v1.0/users/"), "{next}");
        assert!(next.contains("$select=subject"), "{next}");
        link = next.strip_prefix("https://localhost:4430/v1.0").unwrap().to_owned();
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 25);
    for (top, status) in [("0", 400), ("1", 200), ("1000", 200), ("1001", 400), ("x", 400)] {
        assert_eq!(call(&mut world, &caller, "GET", &format!("{DRAFTS}?$top={top}"), &[], "").status, status, "{top}");
    }
}

#[test]
fn filters_select_and_the_order_rule_holds() {
    let mut world = world();
    let first = draft(&mut world, "it's one");
    draft(&mut world, "two");
    let caller = app("Mail.Read");
    let id = first["internetMessageId"].as_str().unwrap();
    for (filter, hits) in [
        (format!("internetMessageId eq '{id}'"), 1),
        ("subject eq 'it''s one'".into(), 1),
        ("isDraft eq true".into(), 2),
        ("isDraft eq false".into(), 0),
        ("receivedDateTime ge 2017-04-01".into(), 2),
        ("receivedDateTime ge 2117-04-01T00:00:00Z".into(), 0),
        ("contains(subject,'TWO')".into(), 1),
        ("toRecipients eq 'x'".into(), 0),
        ("from/emailAddress/address eq 'x@y'".into(), 0),
    ] {
        let page = get(&mut world, &caller, &format!("{DRAFTS}?$filter={filter}"));
        assert_eq!(page["value"].as_array().unwrap().len(), hits, "{filter}");
    }
    for (query, status) in [
        ("$filter=isDraft eq true&$orderby=subject", 400),
        ("$filter=subject ne 'x' and isDraft eq true&$orderby=subject", 200),
        ("$filter=isDraft eq true and subject ne 'x'&$orderby=subject", 400),
        ("$orderby=subject desc", 200),
        ("$filter=bogus", 400),
        ("$select=nothing", 400),
    ] {
        let answer = call(&mut world, &caller, "GET", &format!("{DRAFTS}?{query}"), &[], "");
        assert_eq!(answer.status, status, "{query}");
        if query.contains("orderby") && status == 400 {
            assert_eq!(code(&answer), "InefficientFilter");
        }
    }
}

#[test]
fn a_marker_on_the_draft_can_be_found() {
    let mut world = world();
    let marker = "String {00020329-0000-0000-C000-000000000046} Name postkey";
    let body = json!({"subject": "x", "singleValueExtendedProperties": [{"id": marker, "value": "K"}]});
    assert_eq!(post_json(&mut world, &app("Mail.ReadWrite"), DRAFTS, &body).status, 201);
    let filter = |value: &str| {
        format!("{DRAFTS}?$filter=singleValueExtendedProperties/Any(ep: ep/id eq '{marker}' and ep/value eq '{value}')")
    };
    assert_eq!(get(&mut world, &app("Mail.Read"), &filter("K"))["value"].as_array().unwrap().len(), 1);
    assert_eq!(get(&mut world, &app("Mail.Read"), &filter("L"))["value"].as_array().unwrap().len(), 0);
}

#[test]
fn the_default_id_changes_with_the_folder_and_the_immutable_one_does_not() {
    let mut world = world();
    let caller = app("Mail.ReadWrite Mail.Send");
    let prefer = [("prefer", "IdType=\"ImmutableId\""), ("content-type", "application/json")];
    let body = json!({"subject": "x", "toRecipients": [{"emailAddress": {"address": "bob@contoso.example"}}]});
    let made = call(&mut world, &caller, "POST", DRAFTS, &prefer, body.to_string());
    assert!(made.headers.iter().any(|(name, _)| *name == "preference-applied"));
    let immutable = body_json(&made)["id"].as_str().unwrap().to_owned();
    let before = get(&mut world, &caller, &format!("{DRAFTS}/{immutable}"));
    assert_eq!(call(&mut world, &caller, "POST", &format!("{DRAFTS}/{immutable}/send"), &[], "").status, 202);
    let after = call(&mut world, &caller, "GET", &format!("{DRAFTS}/{immutable}"), &prefer[..1], "");
    assert_eq!((&body_json(&after)["id"], &body_json(&after)["isDraft"]), (&json!(immutable), &json!(false)));
    let old = before["id"].as_str().unwrap();
    let gone = call(&mut world, &caller, "GET", &format!("{DRAFTS}/{old}"), &[], "");
    assert_eq!((gone.status, code(&gone).as_str()), (404, "ErrorItemNotFound"));
    let malformed = call(&mut world, &caller, "GET", &format!("{DRAFTS}/a b"), &[], "");
    assert_eq!((malformed.status, code(&malformed).as_str()), (400, "ErrorInvalidIdMalformed"));
}

#[test]
fn each_operation_needs_its_permission() {
    for (roles, method, path, allowed) in [
        ("Mail.Send", "GET", "messages", false),
        ("Mail.ReadBasic.All", "GET", "messages", true),
        ("Mail.Read", "GET", "messages", true),
        ("Mail.Read", "POST", "messages", false),
        ("Mail.ReadWrite", "POST", "messages", true),
        ("Mail.ReadWrite", "POST", "messages/{}/send", false),
        ("Mail.Send", "POST", "messages/{}/send", true),
        ("Mail.ReadBasic", "GET", "messages/{}", true),
        ("Mail.ReadBasic", "GET", "messages/{}/$value", false),
        ("Mail.ReadBasic", "GET", "messages/{}/attachments", false),
        ("Mail.Read", "DELETE", "messages/{}", false),
        ("Mail.Read", "GET", "mailFolders", true),
        ("Mail.Read", "POST", "mailFolders", false),
    ] {
        let mut world = world();
        let id = draft(&mut world, "x")["id"].as_str().unwrap().to_owned();
        let path = format!("/users/{ALICE}/{}", path.replace("{}", &id));
        let answer = call(&mut world, &app(roles), method, &path, &[("content-type", "application/json")], "{}");
        assert_eq!(answer.status != 403, allowed, "{roles} {method} {path}: {}", answer.status);
    }
}

#[test]
fn basic_reading_hides_what_was_written() {
    let mut world = world();
    draft(&mut world, "x");
    let basic = &get(&mut world, &app("Mail.ReadBasic"), &format!("{DRAFTS}?$expand=attachments"))["value"][0];
    assert_eq!(basic["subject"], "x");
    for hidden in ["body", "bodyPreview", "attachments"] {
        assert!(basic.get(hidden).is_none(), "{hidden}");
    }
}

#[test]
fn a_message_moves_is_copied_and_deleted() {
    let mut world = world();
    let caller = app("Mail.ReadWrite");
    let id = draft(&mut world, "x")["id"].as_str().unwrap().to_owned();
    let moved = post_json(&mut world, &caller, &format!("{DRAFTS}/{id}/move"), &json!({"destinationId": "Archive"}));
    assert_eq!(moved.status, 201);
    let moved = body_json(&moved)["id"].as_str().unwrap().to_owned();
    assert_ne!(moved, id);
    let copied = post_json(&mut world, &caller, &format!("{DRAFTS}/{moved}/copy"), &json!({"DestinationId": "inbox"}));
    assert_eq!(copied.status, 201);
    assert_eq!(call(&mut world, &caller, "DELETE", &format!("{DRAFTS}/{moved}"), &[], "").status, 204);
    assert_eq!(folder(&mut world, "alice@contoso.example", "Deleted Items").len(), 1);
    assert_eq!(folder(&mut world, "alice@contoso.example", "Inbox").len(), 1);
    let copied = body_json(&copied)["id"].as_str().unwrap().to_owned();
    assert_eq!(call(&mut world, &caller, "POST", &format!("{DRAFTS}/{copied}/permanentDelete"), &[], "").status, 204);
    assert_eq!(world.mailbox_contents(TENANT, "alice@contoso.example").unwrap().len(), 1);
}

#[test]
fn drafts_change_and_sent_mail_does_not() {
    let mut world = world();
    let caller = app("Mail.ReadWrite Mail.Send");
    let shown = draft(&mut world, "x");
    let path = format!("{DRAFTS}/{}", shown["id"].as_str().unwrap());
    let json = [("content-type", "application/json")];
    let stale = [("content-type", "application/json"), ("if-match", "W/\"old\"")];
    assert_eq!(call(&mut world, &caller, "PATCH", &path, &stale, "{\"subject\":\"y\"}").status, 412);
    let changed =
        call(&mut world, &caller, "PATCH", &path, &json, "{\"subject\":\"y\",\"internetMessageId\":\"<own@x>\"}");
    assert_eq!((changed.status, &body_json(&changed)["subject"]), (200, &json!("y")));
    assert_ne!(body_json(&changed)["changeKey"], shown["changeKey"]);
    assert_eq!(call(&mut world, &caller, "POST", &format!("{path}/send"), &[], "").status, 202);
    let sent = get(&mut world, &caller, &format!("{DRAFTS}?$filter=internetMessageId eq '<own@x>'"));
    let path = format!("{DRAFTS}/{}", sent["value"][0]["id"].as_str().unwrap());
    assert_eq!(call(&mut world, &caller, "PATCH", &path, &json, "{\"subject\":\"z\"}").status, 400);
    assert_eq!(
        call(&mut world, &caller, "PATCH", &path, &json, "{\"isRead\":false,\"categories\":[\"red\"]}").status,
        200
    );
    assert_eq!(call(&mut world, &caller, "POST", &format!("{path}/send"), &[], "").status, 400);
}

#[test]
fn folders_have_names_ids_and_children() {
    let mut world = world();
    let caller = app("Mail.ReadWrite");
    let base = "/users/alice@contoso.example/mailFolders";
    let all = get(&mut world, &caller, base);
    assert_eq!(all["value"].as_array().unwrap().len(), 8);
    let made = post_json(&mut world, &caller, base, &json!({"displayName": "Reports"}));
    assert_eq!(made.status, 201);
    let id = body_json(&made)["id"].as_str().unwrap().to_owned();
    assert_eq!(code(&post_json(&mut world, &caller, base, &json!({"displayName": "reports"}))), "ErrorFolderExists");
    assert_eq!(code(&post_json(&mut world, &caller, base, &json!({"name": "x"}))), "RequestBodyRead");
    assert_eq!(
        post_json(&mut world, &caller, &format!("{base}/{id}/childFolders"), &json!({"displayName": "2026"})).status,
        201
    );
    assert_eq!(get(&mut world, &caller, &format!("{base}/{id}"))["childFolderCount"], 1);
    let in_inbox = post_json(&mut world, &caller, &format!("{base}('inbox')/messages"), &json!({"subject": "x"}));
    assert_eq!(in_inbox.status, 201);
    assert_eq!(get(&mut world, &caller, &format!("{base}/Inbox"))["totalItemCount"], 1);
    let json = [("content-type", "application/json")];
    assert_eq!(
        call(&mut world, &caller, "PATCH", &format!("{base}/{id}"), &json, "{\"displayName\":\"Old\"}").status,
        200
    );
    assert_eq!(call(&mut world, &caller, "DELETE", &format!("{base}/{id}"), &[], "").status, 204);
    assert_eq!(call(&mut world, &caller, "GET", &format!("{base}/{id}"), &[], "").status, 404);
    assert_eq!(call(&mut world, &caller, "DELETE", &format!("{base}/inbox"), &[], "").status, 400);
}

#[test]
fn answers_to_a_message() {
    let mut world = world();
    let caller = app("Mail.ReadWrite Mail.Send");
    let mut body = hello("bob@contoso.example");
    body["message"]["ccRecipients"] = json!([{"emailAddress": {"address": "team@contoso.example"}}]);
    post_json(&mut world, &app("Mail.Send"), MAIL, &body);
    let bob = "/users/bob@contoso.example/messages";
    let id = get(&mut world, &caller, bob)["value"][0]["id"].as_str().unwrap().to_owned();
    let draft = post_json(&mut world, &caller, &format!("{bob}/{id}/createReplyAll"), &json!({"comment": "thanks"}));
    assert_eq!(draft.status, 201);
    let draft = body_json(&draft);
    assert_eq!(draft["subject"], "RE: Hello");
    assert_eq!(draft["toRecipients"][0]["emailAddress"]["address"], "alice@contoso.example");
    assert_eq!(draft["ccRecipients"][0]["emailAddress"]["address"], "team@contoso.example");
    let both = json!({"comment": "x", "message": {"body": {"contentType": "text", "content": "y"}}});
    assert_eq!(post_json(&mut world, &caller, &format!("{bob}/{id}/reply"), &both).status, 400);
    assert_eq!(post_json(&mut world, &caller, &format!("{bob}/{id}/forward"), &json!({"comment": "x"})).status, 400);
    let to = json!({"toRecipients": [{"emailAddress": {"address": "team@contoso.example"}}]});
    assert_eq!(post_json(&mut world, &caller, &format!("{bob}/{id}/forward"), &to).status, 202);
    assert_eq!(post_json(&mut world, &caller, &format!("{bob}/{id}/reply"), &json!({"comment": "ok"})).status, 202);
    let reply = folder(&mut world, "alice@contoso.example", "Inbox").remove(0);
    let mime = String::from_utf8_lossy(&reply.mime).into_owned();
    assert!(mime.contains("In-Reply-To: <"), "{mime}");
}
