use std::sync::{Arc, Mutex};

use postkey_base::Diagnose;
use postkey_store::{
    LocalAppId, RoutePreference, Sender, SenderId, SenderValues, Stage, Submitter, SubmitterId, SubmitterRules,
};

use super::*;
use crate::{known::LastAbilities, quota::Usage};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

fn sender(mailbox: &str, abilities: Option<Abilities>) -> Arc<KnownSender> {
    let id: SenderId = SenderId::random();
    let values = SenderValues {
        mailbox: Some(address(mailbox)),
        route: RoutePreference::Automatic,
        app: Some(LocalAppId::random()),
        ..SenderValues::named(mailbox)
    };
    let sender = Sender {
        id,
        values,
        stage: Stage::Ready,
        staged_secret: false,
        reach: postkey_store::Reach::Unknown,
        last_proof: None,
        test_message_id: None,
        on_unknown: postkey_store::OnUnknown::AtLeastOnce,
        created_at: at(0),
    };
    let last = LastAbilities::from_pointee(abilities);
    Arc::new(KnownSender::of(&sender, Arc::new(last)).unwrap())
}

fn known_with(rules: SubmitterRules, senders: Vec<Arc<KnownSender>>) -> Known {
    let submitter = Submitter {
        id: SubmitterId::random(),
        name: "scanner".into(),
        senders: senders.iter().map(|sender| sender.id).collect(),
        rules,
        disabled_at: None,
        passwords: Vec::new(),
        created_at: at(0),
        updated_at: at(0),
    };
    Known::of(submitter, senders, Arc::new(Mutex::new(Usage::default())))
}

fn known(rules: SubmitterRules) -> Known {
    known_with(rules, vec![sender("noreply@contoso.example", None), sender("billing@contoso.example", None)])
}

fn rules() -> SubmitterRules {
    SubmitterRules::default()
}

/// The reply's code and enhanced code, or where the message goes.
fn admit(known: &Known, from: Option<&str>, to: &[&str], message: &str) -> Result<Admitted, String> {
    let from = from.map(address);
    let to: Vec<_> = to.iter().map(|one| address(one)).collect();
    known.admit(from.as_ref(), &to, message.replace('\n', "\r\n").into_bytes(), at(0)).map_err(|refusal| {
        assert!(!refusal.remedy().is_empty() && !refusal.code().is_empty());
        let reply = refusal.smtp_reply();
        format!("{} {}", reply.code(), reply.enhanced().unwrap())
    })
}

#[test]
fn only_its_own_addresses_may_stand_in_mail_from() {
    let also = SubmitterRules { also_as: vec!["Help@contoso.example".into(), "@reports.example".into()], ..rules() };
    let nobody = SubmitterRules { also_as: vec!["<>".into()], ..rules() };
    for (rules, from, good) in [
        (rules(), Some("NoReply@Contoso.example"), true),
        (rules(), Some("billing@contoso.example"), true),
        (rules(), Some("ceo@contoso.example"), false),
        (rules(), Some("help@contoso.example"), false),
        (rules(), None, false),
        (also.clone(), Some("help@contoso.example"), true),
        (also.clone(), Some("any@Reports.example"), true),
        (also.clone(), Some("any@sub.reports.example"), false),
        (also, None, false),
        (nobody.clone(), None, true),
        (nobody, Some("ceo@contoso.example"), false),
    ] {
        let outcome = known(rules).mail_from(from.map(address).as_ref(), None, at(0));
        assert_eq!(outcome.is_ok(), good, "{from:?}");
        if let Err(refusal) = outcome {
            assert!(refusal.smtp_reply().to_string().starts_with("550 5.7.1 "), "{refusal}");
        }
    }
}

#[test]
fn only_its_own_addresses_may_stand_in_the_header_fields_of_senders() {
    for (headers, good) in [
        ("From: noreply@contoso.example", true),
        ("From: A <noreply@contoso.example>, billing@contoso.example", true),
        ("Subject: no From", true),
        ("From: ceo@contoso.example", false),
        ("From: noreply@contoso.example, ceo@contoso.example", false),
        ("From: noreply@contoso.example\nFrom: ceo@contoso.example", false),
        ("From: nonsense", false),
        ("From: noreply@contoso.example\nSender: ceo@contoso.example", false),
        ("From: noreply@contoso.example\nSender: billing@contoso.example", true),
        ("From: noreply@contoso.example\nResent-From: ceo@contoso.example", false),
        ("From: noreply@contoso.example\nResent-Sender: ceo@contoso.example", false),
        ("From: noreply@contoso.example\nReply-To: ceo@contoso.example", true),
        ("From: noreply@contoso.example\nX-From: ceo@contoso.example", true),
    ] {
        let outcome =
            admit(&known(rules()), Some("noreply@contoso.example"), &["a@x.example"], &format!("{headers}\n\nhi\n"));
        match outcome {
            Ok(_) => assert!(good, "{headers:?}"),
            Err(reply) => {
                assert!(!good, "{headers:?}");
                assert_eq!(reply, "550 5.7.1", "{headers:?}");
            }
        }
    }
}

#[test]
fn the_sender_whose_mailbox_is_named_carries_the_message() {
    let also = SubmitterRules { also_as: vec!["@contoso.example".into(), "<>".into()], ..rules() };
    for (from, header, carrier) in [
        (Some("noreply@contoso.example"), "noreply@contoso.example", "noreply@contoso.example"),
        (Some("billing@contoso.example"), "noreply@contoso.example", "billing@contoso.example"),
        (Some("other@contoso.example"), "billing@contoso.example", "billing@contoso.example"),
        (Some("other@contoso.example"), "third@contoso.example", "noreply@contoso.example"),
        (None, "billing@contoso.example", "billing@contoso.example"),
    ] {
        let admitted = admit(&known(also.clone()), from, &["a@x.example"], &format!("From: {header}\n\n")).unwrap();
        assert_eq!(admitted.sender.mailbox, address(carrier), "{from:?} {header}");
        assert_eq!(admitted.from, from.map(address));
        assert!(admitted.rewritings.is_empty());
    }
}

#[test]
fn without_rules_every_byte_stays() {
    let raw = "From: noreply@contoso.example\r\nX-Odd:\t  folded\r\n\t here \r\n\r\n.dot\r\n\r\n";
    let known = known(rules());
    let from = address("noreply@contoso.example");
    let admitted = known.admit(Some(&from), &[address("a@x.example")], raw.as_bytes().to_vec(), at(0)).unwrap();
    assert_eq!(admitted.message.raw(), raw.as_bytes());
}

#[test]
fn a_forced_sender_replaces_what_the_device_writes_and_says_so() {
    let rules = SubmitterRules { force_from: Some(address("noreply@contoso.example")), ..rules() };
    let known = known(rules);
    for from in [Some("root@scanner.local"), Some("noreply@contoso.example"), None] {
        let path = known.mail_from(from.map(address).as_ref(), None, at(0)).unwrap();
        assert_eq!(path, Some(address("noreply@contoso.example")));
        let admitted =
            admit(&known, from, &["a@x.example"], "To: a@x.example\nFrom: Scan <root@scanner.local>\n\nhi\n").unwrap();
        assert_eq!(admitted.from, Some(address("noreply@contoso.example")));
        assert_eq!(
            admitted.message.raw(),
            b"To: a@x.example\r\nFrom: Scan <noreply@contoso.example>\r\n\r\nhi\r\n".as_slice()
        );
        let kinds: Vec<_> = admitted.rewritings.iter().map(|one| one.kind).collect();
        let envelope_changed = from != Some("noreply@contoso.example");
        assert_eq!(kinds.contains(&RewritingKind::ForceEnvelope), envelope_changed);
        assert!(kinds.contains(&RewritingKind::ForceFrom));
    }
    let resent = admit(&known, None, &["a@x.example"], "From: a@local\nResent-From: ceo@contoso.example\n\n");
    assert_eq!(resent.unwrap_err(), "550 5.7.1");
}

#[test]
fn recipients_stay_within_their_domains_and_numbers() {
    let rules = SubmitterRules {
        recipient_domains: vec!["contoso.example".into(), "*.fabrikam.example".into()],
        recipients_per_message: Some(2),
        ..rules()
    };
    let known = known(rules);
    for (to, already, code) in [
        ("a@Contoso.example", 0, None),
        ("a@sub.contoso.example", 0, Some("550 5.7.1")),
        ("a@x.fabrikam.example", 1, None),
        ("a@fabrikam.example", 0, Some("550 5.7.1")),
        ("a@evilfabrikam.example", 0, Some("550 5.7.1")),
        ("a@contoso.example", 2, Some("452 4.5.3")),
    ] {
        let outcome = known.rcpt_to(&address(to), already, at(0)).map_err(|refusal| refusal.smtp_reply().to_string());
        match (outcome, code) {
            (Ok(()), None) => {}
            (Err(reply), Some(code)) => assert!(reply.starts_with(code), "{to}: {reply}"),
            (outcome, _) => panic!("{to} {already}: {outcome:?}"),
        }
    }
    let message = "From: noreply@contoso.example\n\n";
    for (to, code) in [
        (vec!["a@evil.example"], "550 5.7.1"),
        (vec!["a@contoso.example", "b@contoso.example", "c@contoso.example"], "452 4.5.3"),
    ] {
        assert_eq!(admit(&known, Some("noreply@contoso.example"), &to, message).unwrap_err(), code);
    }
}

#[test]
fn quotas_are_counted_when_a_message_is_kept_and_told_with_honest_times() {
    let rules = SubmitterRules { messages_per_minute: Some(1), recipients_per_day: Some(3), ..rules() };
    let known = known(rules);
    let from = Some("noreply@contoso.example");
    let message = "From: noreply@contoso.example\n\n";
    // Not kept: given back.
    drop(admit(&known, from, &["a@x.example"], message).unwrap());
    admit(&known, from, &["a@x.example", "b@x.example"], message).unwrap().charge.keep();
    let full = known.mail_from(Some(&address("noreply@contoso.example")), None, at(10)).unwrap_err();
    assert_eq!(
        full.smtp_reply().to_string(),
        "450 4.7.1 the submitter scanner has used up its messages a minute (1); there is room again in 51 s. Try again after \
         2027-01-15T08:01:01Z, or raise the quota."
    );
    assert_eq!(full.retry_after(), Some(std::time::Duration::from_secs(51)));
    let full = known.rcpt_to(&address("a@x.example"), 1, at(100)).unwrap_err();
    assert!(full.smtp_reply().to_string().starts_with("452 4.5.3 "), "{full}");
    known.rcpt_to(&address("a@x.example"), 0, at(100)).unwrap();
    let never = known.rcpt_to(&address("a@x.example"), 3, at(100)).unwrap_err();
    assert!(never.smtp_reply().to_string().starts_with("550 5.7.1 "), "{never}");
}

#[test]
fn what_no_route_carries_is_refused_at_once_with_number_and_remedies() {
    let only_send = Abilities { graph_send: true, ..Abilities::default() };
    let with_drafts = Abilities { graph_read_write: true, ..only_send.clone() };
    let with_smtp = Abilities { smtp: true, ..only_send.clone() };
    let nothing = Abilities::default();
    let five_megabytes = 5_000_000;
    for (abilities, announced, code) in [
        (Some(only_send.clone()), 1_000, None),
        (Some(only_send), five_megabytes, Some("552 5.3.4")),
        (Some(with_drafts), five_megabytes, None),
        (Some(with_smtp), five_megabytes, None),
        (None, five_megabytes, None),
        (Some(nothing), 1_000, None),
    ] {
        let known = known_with(rules(), vec![sender("noreply@contoso.example", abilities.clone())]);
        let from = address("noreply@contoso.example");
        let reply = known.mail_from(Some(&from), Some(announced), at(0)).map_err(|refusal| refusal.smtp_reply());
        match (&reply, code) {
            (Ok(_), None) => {}
            (Err(reply), Some(code)) => {
                assert!(reply.to_string().starts_with(code), "{reply}");
                assert!(reply.to_string().contains("Mail.ReadWrite") && reply.to_string().contains("SMTP"), "{reply}");
            }
            _ => panic!("{abilities:?} {announced}: {reply:?}"),
        }
        let head = "From: noreply@contoso.example\nContent-Type: application/x-scan\nContent-Disposition: attachment";
        let body = format!("{head}\n\n{}", "0123456789abcdef\n".repeat(announced as usize / 17));
        let whole = admit(&known, Some("noreply@contoso.example"), &["a@x.example"], &body);
        assert_eq!(whole.err().as_deref(), code, "{abilities:?}");
    }
}

#[test]
fn a_sender_announces_what_it_can_carry() {
    let only_send = Abilities { graph_send: true, ..Abilities::default() };
    for (abilities, least, most) in [
        (Some(only_send.clone()), 2_000_000, 3_200_000),
        (
            Some(Abilities { graph_read_write: true, message_limit: 36_700_160, ..only_send.clone() }),
            36_000_000,
            36_700_160,
        ),
        (Some(Abilities { smtp: true, message_limit: 36_700_160, ..only_send }), 36_000_000, 36_700_160),
        (None, MAX, MAX),
    ] {
        let largest = sender("a@x.example", abilities.clone()).largest();
        assert!((least..=most).contains(&largest), "{abilities:?}: {largest}");
    }
    let limited = known(SubmitterRules { message_bytes: Some(100), ..rules() });
    assert_eq!(limited.largest(), 100);
    let reply =
        admit(&limited, Some("noreply@contoso.example"), &["a@x.example"], &format!("A: {}\n\n", "x".repeat(200)));
    assert_eq!(reply.unwrap_err(), "552 5.3.4");
}

const MAX: u64 = postkey_transport::message::MAX_SIZE;

#[test]
fn the_idempotency_field_is_taken_out_and_a_bad_one_refused() {
    let known = known(rules());
    let from = Some("noreply@contoso.example");
    let message = "From: noreply@contoso.example\nX-Postkey-Idempotency-Key: invoice 7\nTo: a@x.example\n\n";
    let admitted = admit(&known, from, &["a@x.example"], message).unwrap();
    assert_eq!(admitted.idempotency_key.as_deref(), Some("invoice 7"));
    assert_eq!(admitted.message.raw(), b"From: noreply@contoso.example\r\nTo: a@x.example\r\n\r\n".as_slice());
    for bad in ["", "ä", &"k".repeat(256)] {
        let message = format!("From: noreply@contoso.example\nX-Postkey-Idempotency-Key: {bad}\n\n");
        assert_eq!(admit(&known, from, &["a@x.example"], &message).unwrap_err(), "554 5.6.0", "{bad:?}");
    }
    // The field alone is no message.
    let alone = admit(&known, from, &["a@x.example"], "X-Postkey-Idempotency-Key: k\n\n");
    assert_eq!(alone.unwrap_err(), "554 5.6.0");
}

#[test]
fn a_message_may_ask_for_less_priority_but_not_for_more() {
    for (rule, header, want) in [
        (Priority::Normal, "X-Priority: 1 (Highest)", Priority::Normal),
        (Priority::Normal, "Importance: High", Priority::Normal),
        (Priority::Normal, "Importance: Low", Priority::Low),
        (Priority::High, "X-Priority: 5", Priority::Low),
        (Priority::High, "Subject: x", Priority::High),
        (Priority::Low, "Importance: High", Priority::Low),
        (Priority::Normal, "Precedence: bulk", Priority::Low),
    ] {
        let known = known(SubmitterRules { priority: rule, ..rules() });
        let message = format!("From: noreply@contoso.example\n{header}\n\n");
        let admitted = admit(&known, Some("noreply@contoso.example"), &["a@x.example"], &message).unwrap();
        assert_eq!(admitted.priority, want, "{rule:?} {header}");
    }
}

#[test]
fn a_network_without_password_needs_a_forced_sender_domains_and_a_quota() {
    let whole = SubmitterRules {
        unauthenticated_from: vec!["192.0.2.0/24".into()],
        force_from: Some(address("noreply@contoso.example")),
        recipient_domains: vec!["contoso.example".into()],
        messages_per_day: Some(100),
        ..rules()
    };
    let without = |change: fn(&mut SubmitterRules)| {
        let mut rules = whole.clone();
        change(&mut rules);
        known(rules).unauthenticated().len()
    };
    assert_eq!(without(|_| ()), 1);
    assert_eq!(without(|rules| rules.force_from = None), 0);
    assert_eq!(without(|rules| rules.recipient_domains.clear()), 0);
    assert_eq!(without(|rules| rules.messages_per_day = None), 0);
    assert_eq!(without(|rules| rules.unauthenticated_from = vec!["everywhere".into()]), 0);
}

#[test]
fn networks_that_cannot_be_read_let_nobody_in() {
    for (networks, from, good) in [
        (vec![], "203.0.113.1", true),
        (vec!["192.0.2.0/24"], "192.0.2.9", true),
        (vec!["192.0.2.0/24"], "::ffff:192.0.2.9", true),
        (vec!["192.0.2.9"], "192.0.2.9", true),
        (vec!["192.0.2.0/24"], "203.0.113.1", false),
        (vec!["office"], "203.0.113.1", false),
        (vec!["office", "203.0.113.0/24"], "203.0.113.1", true),
        (vec!["2001:db8::/32"], "2001:db8::1", true),
    ] {
        let rules = SubmitterRules { networks: networks.iter().map(|&one| one.to_owned()).collect(), ..rules() };
        assert_eq!(known(rules).may_connect_from(from.parse().unwrap()), good, "{networks:?} {from}");
    }
}
