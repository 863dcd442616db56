//! What a token opens, whose name a message may carry, and how the submission reaches mailboxes.

use super::*;
use crate::exchange::{
    administration::Right,
    smtp::Envelope,
    submission::{Login, authenticate, leave, recipient, submit},
};

const HOST: &str = "mail.example";

/// A world that can sign tokens.
fn world() -> World {
    World { keys: SigningKeys::generate().unwrap(), ..super::world() }
}

fn token(world: &World, aud: &str, user: Option<Uuid>, granted: &str) -> String {
    let now = world.clock.now().as_second();
    let mut claims = json!({"aud": aud, "iat": now, "nbf": now, "exp": now + 3600, "tid": TENANT, "appid": APP});
    match user {
        Some(user) => {
            claims["oid"] = json!(user);
            claims["idtyp"] = json!("user");
            claims["scp"] = json!(granted);
        }
        None => {
            claims["oid"] = json!(PRINCIPAL);
            claims["idtyp"] = json!("app");
            claims["roles"] = granted.split_whitespace().collect();
        }
    }
    world.keys.sign(&claims, true)
}

const EXCHANGE: &str = "https://outlook.office365.com";

fn log_in(world: &mut World, user: &str) -> Login {
    world.assign_mail_role(TENANT, PRINCIPAL, "Application SMTP.SendAsApp", None);
    let bearer = token(world, EXCHANGE, None, "");
    authenticate(world, HOST, user, &bearer).unwrap()
}

fn envelope(from: &str, to: &[&str], mime: &str) -> Envelope {
    Envelope {
        from: from.into(),
        recipients: to.iter().map(|address| (*address).to_owned()).collect(),
        mime: mime.as_bytes().to_vec(),
    }
}

#[test]
fn an_app_needs_its_registration_and_the_mailbox_permission() {
    let alice = "alice@contoso.example";
    let wrong_object = Uuid::from_u128(0xdead);
    for (object_id, full_access, opens) in [
        (Some(PRINCIPAL), true, true),
        (Some(wrong_object), true, false),
        (None, true, false),
        (Some(PRINCIPAL), false, false),
    ] {
        let mut world = world();
        if let Some(object_id) = object_id {
            world.tenants[0].register_mail_principal(APP, object_id);
        }
        if full_access {
            world.tenants[0].grant(alice, Right::FullAccess, PRINCIPAL);
        }
        let bearer = token(&world, EXCHANGE, None, "SMTP.SendAsApp");
        let judged = authenticate(&mut world, HOST, alice, &bearer);
        assert_eq!(judged.is_ok(), opens, "{object_id:?} {full_access}");
        if let Err(reply) = judged {
            assert_eq!(reply, "535 5.7.3 Authentication unsuccessful [mail.example]");
        }
    }
}

#[test]
fn an_exchange_role_replaces_the_registration_unless_the_claim_is_there() {
    let mut world = world();
    world.assign_mail_role(TENANT, PRINCIPAL, "Application SMTP.SendAsApp", Some(&["alice@contoso.example"]));
    for (user, roles, opens) in [
        ("alice@contoso.example", "", true),
        ("bob@contoso.example", "", false),
        ("alice@contoso.example", "SMTP.SendAsApp", false),
    ] {
        let bearer = token(&world, EXCHANGE, None, roles);
        assert_eq!(authenticate(&mut world, HOST, user, &bearer).is_ok(), opens, "{user} {roles}");
    }
}

#[test]
fn a_users_token_opens_their_own_mailbox_and_shared_ones() {
    let mut world = world();
    world.tenants[0].grant("team@contoso.example", Right::FullAccess, ALICE);
    for (aud, user, scopes, mailbox, opens) in [
        ("https://outlook.office.com", ALICE, "SMTP.Send", "alice@contoso.example", true),
        ("https://outlook.office.com", ALICE, "SMTP.Send", "AL@contoso.example", true),
        ("https://outlook.office.com", ALICE, "SMTP.Send", "team@contoso.example", true),
        ("https://outlook.office.com", ALICE, "SMTP.Send", "bob@contoso.example", false),
        ("https://outlook.office.com", ALICE, "IMAP.AccessAsUser.All", "alice@contoso.example", false),
        ("https://graph.microsoft.com", ALICE, "SMTP.Send", "alice@contoso.example", false),
        ("https://outlook.office.com", ALICE, "SMTP.Send", "ghost@contoso.example", false),
    ] {
        let bearer = token(&world, aud, Some(user), scopes);
        let judged = authenticate(&mut world, HOST, mailbox, &bearer);
        assert_eq!(judged.is_ok(), opens, "{aud} {scopes} {mailbox}");
        if let Ok(login) = judged {
            leave(&mut world, &login);
        }
    }
    assert!(authenticate(&mut world, HOST, "alice@contoso.example", "junk").is_err());
}

#[test]
fn switches_say_whose_they_are_and_the_mailbox_wins() {
    for (organization, mailbox, want) in [
        (false, None, None),
        (true, None, Some("Tenant")),
        (true, Some(false), None),
        (false, Some(true), Some("Mailbox")),
    ] {
        let mut world = world();
        world.tenants[0].exchange.smtp_auth_disabled = organization;
        world.tenants[0].mailbox_mut("alice@contoso.example").unwrap().smtp_auth_disabled = mailbox;
        world.assign_mail_role(TENANT, PRINCIPAL, "Application SMTP.SendAsApp", None);
        let bearer = token(&world, EXCHANGE, None, "");
        let judged = authenticate(&mut world, HOST, "alice@contoso.example", &bearer).err();
        assert_eq!(judged.is_some(), want.is_some());
        if let (Some(reply), Some(of)) = (judged, want) {
            assert!(reply.starts_with("535 5.7.139 ") && reply.contains(&format!("disabled for the {of}.")), "{reply}");
        }
    }
}

#[test]
fn three_connections_and_no_more() {
    let mut world = world();
    let logins: Vec<Login> = (0..3).map(|_| log_in(&mut world, "alice@contoso.example")).collect();
    let bearer = token(&world, EXCHANGE, None, "");
    let refused = authenticate(&mut world, HOST, "alice@contoso.example", &bearer).unwrap_err();
    assert!(refused.starts_with("432 4.3.2 "), "{refused}");
    assert!(authenticate(&mut world, HOST, "bob@contoso.example", &bearer).is_ok());
    leave(&mut world, &logins[0]);
    assert!(authenticate(&mut world, HOST, "alice@contoso.example", &bearer).is_ok());
}

#[test]
fn the_envelope_decides_who_receives() {
    let mut world = world();
    let login = log_in(&mut world, "alice@contoso.example");
    let mime = "From: alice@contoso.example\r\nTo: team@contoso.example\r\nBcc: x@else.example\r\nMessage-ID: <own@x>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nbody\r\n";
    let to = ["bob@contoso.example", "y@else.example"];
    let answer = submit(&mut world, HOST, &login, envelope("alice@contoso.example", &to, mime));
    assert_eq!(answer.reply, "250 2.0.0 OK <own@x> [Hostname=mail.example]");
    assert_eq!(folder(&mut world, "alice@contoso.example", "Sent Items")[0].mime, mime.as_bytes());
    assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 1);
    assert!(folder(&mut world, "team@contoso.example", "Inbox").is_empty());
    let outside: Vec<&str> = world.outside_mail().iter().map(|mail| mail.to.as_str()).collect();
    assert_eq!(outside, ["y@else.example"]);
}

#[test]
fn a_foreign_from_is_denied_after_the_data() {
    for (path, header, granted, accepted) in [
        ("alice@contoso.example", "bob@contoso.example", false, false),
        ("bob@contoso.example", "alice@contoso.example", false, false),
        ("alice@contoso.example", "someone@else.example", false, false),
        ("al@contoso.example", "Alice <ALICE@contoso.example>", false, true),
        ("bob@contoso.example", "bob@contoso.example", true, true),
        ("", "alice@contoso.example", false, true),
    ] {
        let mut world = world();
        let login = log_in(&mut world, "alice@contoso.example");
        if granted {
            world.tenants[0].grant("bob@contoso.example", Right::SendAs, PRINCIPAL);
        }
        let mime = format!("From: {header}\r\nSubject: x\r\n\r\nbody\r\n");
        let reply = submit(&mut world, HOST, &login, envelope(path, &["team@contoso.example"], &mime)).reply;
        assert_eq!(reply.starts_with("250 "), accepted, "{path} {header} {reply}");
        if !accepted {
            assert!(
                reply.starts_with("554 5.2.252 SendAsDenied; alice@contoso.example not allowed to send as "),
                "{reply}"
            );
            assert!(folder(&mut world, "team@contoso.example", "Inbox").is_empty());
        }
    }
}

#[test]
fn addresses_ask_for_faults_here_too() {
    let mut world = world();
    let login = log_in(&mut world, "alice@contoso.example");
    for (address, want) in [
        ("bob@contoso.example", ""),
        ("bob+451@contoso.example", "451 4.7.0"),
        ("bob+550@contoso.example", "550 5.1.10"),
        ("bob+503@contoso.example", "451 4.7.0"),
        ("bob+504-delivered@contoso.example", ""),
    ] {
        let judged = recipient(&mut world, &login, 0, address).err().unwrap_or_default();
        assert!(judged.starts_with(want) && judged.is_empty() == want.is_empty(), "{address} {judged}");
    }
    assert!(recipient(&mut world, &login, 500, "bob@contoso.example").unwrap_err().starts_with("452 4.5.3"));
    let mime = "From: alice@contoso.example\r\n\r\nbody\r\n";
    for (address, cut, reply, delivered) in [
        ("bob+504-delivered@contoso.example", false, "451", 1),
        ("bob+drop-delivered@contoso.example", true, "250", 2),
        ("bob+drop@contoso.example", true, "", 2),
    ] {
        let answer = submit(&mut world, HOST, &login, envelope("alice@contoso.example", &[address], mime));
        assert_eq!((answer.cut, answer.reply.starts_with(reply)), (cut, true), "{address} {}", answer.reply);
        assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), delivered, "{address}");
    }
}

#[test]
fn more_than_thirty_a_minute_are_carried_over() {
    let mut world = world();
    let login = log_in(&mut world, "alice@contoso.example");
    let mime = "From: alice@contoso.example\r\n\r\nbody\r\n";
    for _ in 0..31 {
        let sent = submit(&mut world, HOST, &login, envelope("alice@contoso.example", &["bob@contoso.example"], mime));
        assert!(sent.reply.starts_with("250 "));
    }
    assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 30);
    world.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(folder(&mut world, "bob@contoso.example", "Inbox").len(), 31);
}

#[test]
fn a_mailbox_throttled_for_continuous_errors_refuses_good_mail_too() {
    let mut world = world();
    let login = log_in(&mut world, "alice@contoso.example");
    let reply = "550 5.2.252 Sender throttled due to continuous send as denied errors.";
    world.tenants[0].mailbox_mut("alice@contoso.example").unwrap().submission_refusal = Some(reply.into());
    let mime = "From: alice@contoso.example\r\n\r\nbody\r\n";
    let sent = submit(&mut world, HOST, &login, envelope("alice@contoso.example", &["bob@contoso.example"], mime));
    assert_eq!(sent.reply, reply);
    assert!(folder(&mut world, "bob@contoso.example", "Inbox").is_empty());
}
