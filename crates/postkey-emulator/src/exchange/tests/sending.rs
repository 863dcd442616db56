//! Sending through Graph: who may, what is refused, where the copies go.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::exchange::administration::Right;

#[test]
fn a_message_goes_to_sent_items_and_to_the_recipients_inbox() {
    let mut world = world();
    let answer = post_json(&mut world, &app("Mail.Send"), MAIL, &hello("bob@contoso.example"));
    assert_eq!(answer.status, 202);
    assert!(matches!(answer.body, Body::Empty));
    assert_eq!(folder(&mut world, "alice@contoso.example", "Sent Items").len(), 1);
    assert_eq!(folder(&mut world, "alice@contoso.example", "Drafts").len(), 0);
    let inbox = folder(&mut world, "bob@contoso.example", "Inbox");
    assert_eq!(inbox[0].subject, "Hello");
    let mime = String::from_utf8(inbox[0].mime.to_vec()).unwrap();
    assert!(mime.starts_with("Received: "), "{mime}");
    assert!(mime.contains("\r\nFrom: \"alice\" <alice@contoso.example>\r\n"), "{mime}");
}

#[test]
fn the_documented_shapes_are_accepted() {
    let mut world = world();
    for body in [
        json!({"message": {"subject": "a", "body": {"contentType": "HTML", "content": "<b>x</b>"},
            "toRecipients": [{"emailAddress": {"address": "bob@contoso.example"}}]}, "saveToSentItems": "false"}),
        json!({"Message": {"subject": "b", "importance": "Low",
            "toRecipients": [{"emailAddress": {"address": "bob@contoso.example", "name": "Bob"}}],
            "internetMessageHeaders": [{"name": "x-group", "value": "Nevada"}]}, "SaveToSentItems": false}),
        json!({"message": {"@odata.type": "#microsoft.graph.message", "subject": "c",
            "toRecipients": [{"emailAddress": {"address": "bob@contoso.example"}}],
            "attachments": [{"@odata.type": "#microsoft.graph.fileAttachment", "name": "attachment.txt",
                "contentType": "text/plain", "contentBytes": "SGVsbG8gV29ybGQh"}]}, "saveToSentItems": false}),
    ] {
        let answer = post_json(&mut world, &app("Mail.Send"), MAIL, &body);
        assert_eq!(answer.status, 202, "{body} {:?}", answer.body);
    }
    assert_eq!(folder(&mut world, "alice@contoso.example", "Sent Items").len(), 0);
    assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 3);
}

#[test]
fn a_send_is_refused_as_documented() {
    let to = json!([{"emailAddress": {"address": "bob@contoso.example"}}]);
    let many: Vec<Value> =
        (0..501).map(|n| json!({"emailAddress": {"address": format!("u{n}@else.example")}})).collect();
    let headers: Vec<Value> = (0..6).map(|n| json!({"name": format!("x-{n}"), "value": "1"})).collect();
    let send = "Mail.Send";
    for (roles, path, body, status, want) in [
        ("", MAIL, json!({"message": {}}), 403, "ErrorAccessDenied"),
        ("Mail.ReadWrite", MAIL, hello("bob@contoso.example"), 403, "ErrorAccessDenied"),
        ("", "/users/nomail@contoso.example/sendMail", json!({}), 403, "ErrorAccessDenied"),
        (send, MAIL, json!({"message": {"toRecipients": []}}), 400, "ErrorInvalidRecipients"),
        (
            send,
            MAIL,
            json!({"message": {"toRecipients": [{"emailAddress": {"address": "bob"}}]}}),
            400,
            "ErrorInvalidRecipients",
        ),
        (send, MAIL, json!({"message": {"toRecipients": many}}), 400, "ErrorMessageTooManyRecipients"),
        (send, MAIL, json!({"message": {"toRecipients": to, "subjct": "x"}}), 400, "RequestBodyRead"),
        (send, MAIL, json!({"message": {"toRecipients": to}, "save": true}), 400, "RequestBodyRead"),
        (send, MAIL, json!({"toRecipients": to}), 400, "RequestBodyRead"),
        (
            send,
            MAIL,
            json!({"message": {"toRecipients": to, "internetMessageHeaders": [{"name": "List-Id", "value": "x"}]}}),
            400,
            "InvalidInternetMessageHeader",
        ),
        (
            send,
            MAIL,
            json!({"message": {"toRecipients": to, "internetMessageHeaders": headers}}),
            400,
            "InvalidInternetMessageHeaderCollection",
        ),
        (
            send,
            MAIL,
            json!({"message": {"toRecipients": to, "from": {"emailAddress": {"address": "bob@contoso.example"}}}}),
            403,
            "ErrorSendAsDenied",
        ),
        (
            send,
            "/users/nomail@contoso.example/sendMail",
            hello("bob@contoso.example"),
            404,
            "MailboxNotEnabledForRESTAPI",
        ),
        (send, "/users/ghost@contoso.example/sendMail", hello("bob@contoso.example"), 404, "ErrorInvalidUser"),
        (
            send,
            "/users/00000000-0000-0000-0000-00000000dead/sendMail",
            hello("bob@contoso.example"),
            404,
            "ResourceNotFound",
        ),
        (send, "/me/sendMail", hello("bob@contoso.example"), 400, "BadRequest"),
    ] {
        let mut world = world();
        let answer = post_json(&mut world, &app(roles), path, &body);
        assert_eq!((answer.status, code(&answer).as_str()), (status, want), "{path} {body}");
        let inner = &body_json(&answer)["error"]["innerError"];
        assert_eq!(inner["client-request-id"], "client-id");
        assert!(folder(&mut world, "bob@contoso.example", "Inbox").is_empty());
        assert!(world.mailbox_contents(TENANT, "alice@contoso.example").unwrap().is_empty());
    }
}

#[test]
fn mime_that_is_none_is_refused() {
    let mut world = world();
    let text = [("content-type", "text/plain")];
    for (body, want) in [
        ("RnJvb*not base64", "ErrorMimeContentInvalidBase64String"),
        ("", "ErrorMimeContentInvalidBase64String"),
        ("bm8gaGVhZGVyIGF0IGFsbA==", "ErrorMimeContentInvalid"),
        ("U3ViamVjdDogeA0KDQpubyByZWNpcGllbnRz", "ErrorInvalidRecipients"),
    ] {
        let answer = call(&mut world, &app("Mail.Send"), "POST", MAIL, &text, body);
        assert_eq!((answer.status, code(&answer).as_str()), (400, want), "{body}");
    }
    let big = vec![b'A'; 4 * 1024 * 1024 + 4];
    assert_eq!(call(&mut world, &app("Mail.Send"), "POST", MAIL, &text, big).status, 413);
}

#[test]
fn an_exchange_role_with_a_scope_allows_what_the_token_does_not_say() {
    let mut world = world();
    world.assign_mail_role(TENANT, PRINCIPAL, "Application Mail.Send", Some(&["Alice@contoso.example"]));
    let empty = json!({"message": {}});
    let allowed = post_json(&mut world, &app(""), MAIL, &empty);
    assert_eq!((allowed.status, code(&allowed).as_str()), (400, "ErrorInvalidRecipients"));
    let outside = post_json(&mut world, &app(""), "/users/bob@contoso.example/sendMail", &empty);
    assert_eq!((outside.status, code(&outside).as_str()), (403, "ErrorAccessDenied"));
    // A union: the unscoped grant of Entra makes the scope meaningless.
    let union = post_json(
        &mut world,
        &app("Mail.Send"),
        "/users/bob@contoso.example/sendMail",
        &hello("alice@contoso.example"),
    );
    assert_eq!(union.status, 202);
}

#[test]
fn a_role_assignment_waits_for_the_cache() {
    let mut world = world();
    world.mail.role_cache = Duration::from_secs(1800);
    world.assign_mail_role(TENANT, PRINCIPAL, "Application Mail.Send", None);
    assert_eq!(post_json(&mut world, &app(""), MAIL, &hello("bob@contoso.example")).status, 403);
    world.clock.advance(Duration::from_secs(1801));
    assert_eq!(post_json(&mut world, &app(""), MAIL, &hello("bob@contoso.example")).status, 202);
}

#[test]
fn an_access_policy_takes_the_permission_away() {
    for (deny, members, status) in [
        (false, "alice@contoso.example", 202),
        (false, "bob@contoso.example", 403),
        (true, "alice@contoso.example", 403),
        (true, "bob@contoso.example", 202),
    ] {
        let mut world = world();
        world.tenants[0].add_access_policy(APP, &[members], deny);
        let answer = post_json(&mut world, &app("Mail.Send"), MAIL, &hello("bob@contoso.example"));
        assert_eq!(answer.status, status, "{deny} {members}");
    }
}

#[test]
fn a_user_sends_from_their_own_mailbox_and_as_others_only_with_the_right() {
    let mut world = world();
    assert_eq!(
        post_json(&mut world, &delegated(ALICE, "Mail.Send"), "/me/sendMail", &hello("bob@contoso.example")).status,
        202
    );
    assert_eq!(
        post_json(&mut world, &delegated(ALICE, "User.Read"), "/me/sendMail", &hello("bob@contoso.example")).status,
        403
    );
    let mut as_team = hello("bob@contoso.example");
    as_team["message"]["from"] = json!({"emailAddress": {"address": "team@contoso.example"}});
    let caller = delegated(ALICE, "Mail.Send Mail.Send.Shared");
    let denied = post_json(&mut world, &caller, "/me/sendMail", &as_team);
    assert_eq!((denied.status, code(&denied).as_str()), (403, "ErrorSendAsDenied"));
    world.tenants[0].grant("team@contoso.example", Right::SendOnBehalf, ALICE);
    assert_eq!(post_json(&mut world, &caller, "/me/sendMail", &as_team).status, 202);
    let mime = String::from_utf8(folder(&mut world, "bob@contoso.example", "Inbox")[1].mime.to_vec()).unwrap();
    assert!(
        mime.contains("From: \"team\" <team@contoso.example>\r\nSender: \"alice\" <alice@contoso.example>"),
        "{mime}"
    );
    assert_eq!(post_json(&mut world, &caller, "/users/team@contoso.example/sendMail", &as_team).status, 403);
    world.tenants[0].grant("team@contoso.example", Right::FullAccess, ALICE);
    assert_eq!(post_json(&mut world, &caller, "/users/team@contoso.example/sendMail", &as_team).status, 202);
    assert_eq!(folder(&mut world, "team@contoso.example", "Sent Items").len(), 1);
}

#[test]
fn full_access_to_a_mailbox_is_no_right_to_send_as_it() {
    let through_team = |rights: &[Right]| {
        let mut world = world();
        for right in rights {
            world.tenants[0].grant("team@contoso.example", *right, ALICE);
        }
        let caller = delegated(ALICE, "Mail.Send Mail.Send.Shared");
        let to_bob = hello("bob@contoso.example");
        let answer = post_json(&mut world, &caller, "/users/team@contoso.example/sendMail", &to_bob);
        let got = folder(&mut world, "bob@contoso.example", "Inbox");
        let mime = got.first().map(|mail| String::from_utf8(mail.mime.to_vec()).unwrap()).unwrap_or_default();
        let sender = mime.lines().find_map(|line| line.strip_prefix("Sender: ")).map(str::to_owned);
        (answer.status, mime.contains("From: \"team\" <team@contoso.example>"), sender)
    };
    let alice = Some("\"alice\" <alice@contoso.example>".to_owned());
    assert_eq!(through_team(&[Right::FullAccess]), (403, false, None));
    assert_eq!(through_team(&[Right::FullAccess, Right::SendOnBehalf]), (202, true, alice));
    assert_eq!(through_team(&[Right::FullAccess, Right::SendAs]), (202, true, None));
}

#[test]
fn until_transport_has_it_the_message_is_a_draft() {
    let mut world = world();
    world.mail.settle = Duration::from_secs(10);
    post_json(&mut world, &app("Mail.Send"), MAIL, &hello("bob@contoso.example"));
    let drafts = folder(&mut world, "alice@contoso.example", "Drafts");
    assert!(drafts[0].is_draft);
    assert!(folder(&mut world, "bob@contoso.example", "Inbox").is_empty());
    world.clock.advance(Duration::from_secs(11));
    assert!(!folder(&mut world, "alice@contoso.example", "Sent Items")[0].is_draft);
    assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 1);
}

#[test]
fn an_unknown_address_of_our_domain_comes_back_and_a_foreign_one_leaves() {
    let mut world = world();
    let mut body = hello("ghost@contoso.example");
    body["message"]["ccRecipients"] = json!([{"emailAddress": {"address": "someone@elsewhere.example"}}]);
    assert_eq!(post_json(&mut world, &app("Mail.Send"), MAIL, &body).status, 202);
    let report = folder(&mut world, "alice@contoso.example", "Inbox");
    assert_eq!(report[0].subject, "Undeliverable: Hello");
    let text = String::from_utf8(report[0].mime.to_vec()).unwrap();
    assert!(text.contains("Status: 5.1.10") && text.contains("ghost@contoso.example"), "{text}");
    let outside = world.outside_mail();
    assert_eq!((outside.len(), outside[0].to.as_str()), (1, "someone@elsewhere.example"));
}

#[test]
fn an_address_asks_for_a_fault() {
    for (tag, status, delivered) in [
        ("429", 429, 0),
        ("503", 503, 0),
        ("504", 504, 0),
        ("504-delivered", 504, 1),
        ("500-delivered", 500, 1),
        ("drop", 500, 0),
        ("drop-delivered", 500, 1),
        ("slow", 202, 1),
        ("ndr", 202, 0),
        ("news", 202, 1),
        ("202", 202, 1),
        ("200", 200, 0),
        ("200-delivered", 200, 1),
        ("sendas", 403, 0),
        ("stop251", 202, 1),
        ("terrl", 202, 0),
    ] {
        let mut world = world();
        let answer = post_json(&mut world, &app("Mail.Send"), MAIL, &hello(&format!("bob+{tag}@contoso.example")));
        assert_eq!(answer.status, status, "{tag}");
        let header = |name: &str| answer.headers.iter().any(|(held, _)| *held == name);
        assert_eq!(header("retry-after"), [429, 503].contains(&status) || tag == "202", "{tag}");
        assert_eq!(header("x-emulator-drop"), tag.starts_with("drop"), "{tag}");
        assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), delivered, "{tag}");
    }
}

#[test]
fn limits_answer_429_with_retry_after() {
    let mut world = world();
    world.mail.limits.requests_per_ten_minutes = 2;
    let caller = app("Mail.Send Mail.Read");
    for status in [200, 200, 429] {
        let answer = call(&mut world, &caller, "GET", "/users/alice@contoso.example/messages", &[], "");
        assert_eq!(answer.status, status);
        if status == 429 {
            assert_eq!(code(&answer), "ApplicationThrottled");
            assert!(
                answer
                    .headers
                    .iter()
                    .any(|(name, value)| *name == "retry-after" && value.parse::<u32>().unwrap() > 500)
            );
        }
    }
    // Another mailbox is not concerned, and the window passes.
    assert_eq!(call(&mut world, &caller, "GET", "/users/bob@contoso.example/messages", &[], "").status, 200);
    world.clock.advance(Duration::from_secs(601));
    assert_eq!(call(&mut world, &caller, "GET", "/users/alice@contoso.example/messages", &[], "").status, 200);
}

#[test]
fn a_used_up_day_comes_back_as_a_report() {
    let mut world = world();
    world.mail.limits.recipients_per_day = 1;
    for _ in 0..2 {
        assert_eq!(post_json(&mut world, &app("Mail.Send"), MAIL, &hello("bob@contoso.example")).status, 202);
    }
    assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 1);
    let report = folder(&mut world, "alice@contoso.example", "Inbox");
    assert!(String::from_utf8_lossy(&report[0].mime).contains("5.1.90"));
}

#[test]
fn an_organization_s_external_recipients_run_out_and_its_own_people_do_not_notice() {
    let mut world = world();
    world.mail.limits.external_recipients_per_day = 1;
    for who in ["alice", "bob"] {
        let mut body = hello("team@contoso.example");
        body["message"]["ccRecipients"] = json!([{"emailAddress": {"address": "someone@elsewhere.example"}}]);
        let path = format!("/users/{who}@contoso.example/sendMail");
        assert_eq!(post_json(&mut world, &app("Mail.Send"), &path, &body).status, 202);
    }
    assert_eq!((world.outside_mail().len(), folder(&mut world, "team@contoso.example", "Inbox").len()), (1, 2));
    assert!(folder(&mut world, "alice@contoso.example", "Inbox").is_empty());
    let report = folder(&mut world, "bob@contoso.example", "Inbox");
    let text = String::from_utf8(report[0].mime.to_vec()).unwrap();
    assert!(text.contains("Status: 5.7.233") && !text.contains("team@contoso.example"), "{text}");
    world.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let body = hello("someone@elsewhere.example");
    assert_eq!(post_json(&mut world, &app("Mail.Send"), MAIL, &body).status, 202);
    assert_eq!(world.outside_mail().len(), 2, "the window has passed");
}

#[test]
fn what_is_not_kept_is_counted_and_its_sent_copy_is_found_by_its_names() {
    const STAMP: &str = "00000000-0000-0000-0000-000000000007";
    let mime = format!(
        "X-Postkey-Id: {STAMP}\r\nFrom: alice@contoso.example\r\nTo: bob@contoso.example, x@elsewhere.example\r\n\
         Message-ID: <1@contoso.example>\r\nSubject: hello\r\n\r\nHi\r\n"
    );
    for (keep, sent, inbox) in [(Keep::All, 1, 1), (Keep::Ids, 1, 0), (Keep::None, 0, 0)] {
        let mut world = world();
        world.mail.keep = keep;
        let caller = app("Mail.Send Mail.ReadWrite");
        for _ in 0..2 {
            assert_eq!(post_mime(&mut world, &caller, MAIL, mime.as_bytes()).status, 202);
        }
        let arrival = world.mail.arrivals.of(STAMP).unwrap();
        assert_eq!((arrival.accepted, arrival.copies, arrival.altered), (2, 4, false), "{keep:?}");
        assert_eq!(world.mail.arrivals.totals().repeated, 1);
        let found = get(
            &mut world,
            &caller,
            "/users/alice@contoso.example/mailFolders/sentitems/messages?$filter=internetMessageId eq \
             '<1@contoso.example>'&$select=id,isDraft,internetMessageHeaders",
        );
        let found = found["value"].as_array().unwrap();
        assert_eq!(found.len(), 2 * sent, "{keep:?}");
        for copy in found {
            let headers = copy["internetMessageHeaders"].as_array().unwrap();
            assert!(headers.iter().any(|header| header["value"] == STAMP), "{keep:?} {headers:?}");
        }
        assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 2 * inbox, "{keep:?}");
        assert_eq!(world.outside_mail().len(), 2 * inbox);
        assert!(folder(&mut world, "alice@contoso.example", "Drafts").is_empty());
    }
}

#[test]
fn a_draft_deleted_before_transport_came_goes_nowhere() {
    let mut world = world();
    world.set_settle(Duration::from_secs(60));
    let caller = app("Mail.Send Mail.ReadWrite");
    assert_eq!(post_json(&mut world, &caller, MAIL, &hello("bob@contoso.example")).status, 202);
    assert_eq!(post_json(&mut world, &caller, MAIL, &hello("team@contoso.example")).status, 202);
    let drafts = get(&mut world, &caller, "/users/alice@contoso.example/mailFolders/drafts/messages");
    let id = drafts["value"][0]["id"].as_str().unwrap();
    let path = format!("/users/alice@contoso.example/messages/{id}/permanentDelete");
    assert_eq!(call(&mut world, &caller, "POST", &path, &[], "").status, 204);
    world.clock.advance(Duration::from_secs(61));
    let arrived = ["bob", "team"].map(|who| folder(&mut world, &format!("{who}@contoso.example"), "Inbox").len());
    assert_eq!(arrived.iter().sum::<usize>(), 1);
}
