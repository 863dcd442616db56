use proptest::prelude::*;

use super::*;

const CLEAR: &str = "220 a.example ready\r\n\
    250-a.example Hello\r\n250-SIZE 157286400\r\n250-STARTTLS\r\n250 SMTPUTF8\r\n\
    220 2.0.0 SMTP server ready\r\n";
const OFFERS: &str =
    "250-a.example Hello\r\n250-SIZE 157286400\r\n250-AUTH LOGIN XOAUTH2\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
const AUTHENTICATED: &str = "334 \r\n235 2.7.0 Authentication successful\r\n";

fn plan() -> Plan {
    Plan {
        name: "client.example".into(),
        protection: Protection::StartTls,
        auth: Some(Xoauth2::new("a@contoso.example", "token").unwrap()),
        auth_in_one_line: false,
        from: Some(Path::parse("a@contoso.example").unwrap()),
        recipients: ["b@example.org", "c@example.org"].map(|path| Path::parse(path).unwrap()).to_vec(),
        size: 10,
        eight_bit: false,
        utf8: Utf8Need::No,
    }
}

/// Drives a session with what a server says before and after TLS, each text cut where `cut` says; gives all that was
/// said and how it ended. The server closes when it has nothing more to say.
fn drive(plan: Plan, clear: &str, secure: &str, mut cut: impl FnMut(usize) -> usize) -> (Vec<String>, End) {
    let mut session = Session::new(plan);
    let mut said = Vec::new();
    let (mut incoming, mut secure) = (clear.as_bytes(), Some(secure.as_bytes()));
    loop {
        match session.next() {
            Action::Write(bytes) => said.push(String::from_utf8(bytes).unwrap()),
            Action::Read(_) if incoming.is_empty() => session.lost(),
            Action::Read(_) => {
                let (now, later) = incoming.split_at(cut(incoming.len()).clamp(1, incoming.len()));
                session.feed(now);
                incoming = later;
            }
            Action::StartTls => {
                said.push("<TLS>".into());
                incoming = secure.take().expect("one handshake");
                session.secured();
            }
            Action::SendBody => {
                said.push("<body>".into());
                session.body_written();
            }
            Action::Finished(end) => return (said, *end),
        }
    }
}

fn run(plan: Plan, secure: &str) -> (Vec<String>, End) {
    drive(plan, CLEAR, secure, |left| left)
}

#[test]
fn the_documented_session_is_spoken_line_for_line() {
    let server = format!(
        "{OFFERS}{AUTHENTICATED}250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n250 2.1.5 Recipient OK\r\n\
         354 Start mail input; end with <CRLF>.<CRLF>\r\n250 2.0.0 OK <id@a.example>\r\n221 2.0.0 Bye\r\n"
    );
    let (said, end) = drive(plan(), CLEAR, &server, |left| left);
    let response = format!("{}\r\n", plan().auth.unwrap().expose());
    assert_eq!(
        said,
        [
            "EHLO client.example\r\n",
            "STARTTLS\r\n",
            "<TLS>",
            "EHLO client.example\r\n",
            "AUTH XOAUTH2\r\n",
            &response,
            "MAIL FROM:<a@contoso.example> SIZE=10\r\n",
            "RCPT TO:<b@example.org>\r\n",
            "RCPT TO:<c@example.org>\r\n",
            "DATA\r\n",
            "<body>",
            ".\r\n",
            "QUIT\r\n",
        ]
    );
    let End::Accepted { reply, recipients } = end else { panic!("{end:?}") };
    assert_eq!(reply.to_string(), "250 2.0.0 OK <id@a.example>");
    assert!(recipients.iter().all(RecipientOutcome::is_accepted));
}

#[test]
fn a_failed_authentication_ends_the_same_whichever_way_the_server_tells_it() {
    let refusal = "535 5.7.3 Authentication unsuccessful\r\n";
    for (one_line, exchange, consoled) in [
        (false, format!("334 \r\n{refusal}"), false),
        (false, refusal.to_owned(), false),
        (false, format!("334 \r\n334 eyJzdGF0dXMiOiI0MDAifQ==\r\n{refusal}"), true),
        (true, refusal.to_owned(), false),
        (true, format!("334 eyJzdGF0dXMiOiI0MDAifQ==\r\n{refusal}"), true),
    ] {
        let plan = Plan { auth_in_one_line: one_line, ..plan() };
        let (said, end) = run(plan, &format!("{OFFERS}{exchange}221 Bye\r\n"));
        assert!(
            matches!(&end, End::Refused { stage: Stage::Auth, reply, .. } if reply.code() == 535),
            "{exchange:?}: {end:?}"
        );
        assert_eq!(said.contains(&"\r\n".to_owned()), consoled, "{exchange:?}");
        assert_eq!(said.last().unwrap(), "QUIT\r\n");
    }
}

#[test]
fn a_server_that_repeats_our_token_does_not_make_us_repeat_it() {
    let response = plan().auth.unwrap().expose().to_owned();
    for answer in [format!("500 5.5.2 unknown: {response}"), format!("unknown: {response}")] {
        let (_, end) = run(plan(), &format!("{OFFERS}334 \r\n{answer}\r\n221 Bye\r\n"));
        let said = format!("{end:?}");
        assert!(!said.contains(&response) && said.contains("unknown: [removed]"), "{said}");
    }
}

#[test]
fn without_recipients_the_session_signs_in_and_leaves() {
    let plan = Plan { recipients: Vec::new(), ..plan() };
    let (said, end) = run(plan, &format!("{OFFERS}{AUTHENTICATED}221 Bye\r\n"));
    assert_eq!(end, End::SignedIn { size: Some(157_286_400) });
    assert_eq!(said.last().unwrap(), "QUIT\r\n");
    assert!(!said.iter().any(|line| line.starts_with("MAIL")), "{said:?}");
}

#[test]
fn endless_challenges_end_the_session() {
    let (_, end) = run(plan(), &format!("{OFFERS}334 \r\n334 e30=\r\n334 e30=\r\n221 Bye\r\n"));
    assert!(matches!(end, End::Refused { stage: Stage::Auth, .. }), "{end:?}");
}

#[test]
fn each_recipient_keeps_its_own_answer() {
    let (said, end) = run(
        plan(),
        &format!(
            "{OFFERS}{AUTHENTICATED}250 ok\r\n550 5.1.10 Recipient not found\r\n250 2.1.5 ok\r\n354 go\r\n250 taken\r\n221 Bye\r\n"
        ),
    );
    assert!(said.contains(&"DATA\r\n".to_owned()));
    let End::Accepted { recipients, .. } = end else { panic!("{end:?}") };
    assert_eq!(recipients.iter().map(RecipientOutcome::is_accepted).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn with_every_recipient_refused_no_data_is_sent() {
    let (said, end) =
        run(plan(), &format!("{OFFERS}{AUTHENTICATED}250 ok\r\n550 5.1.10 first\r\n550 5.1.10 second\r\n221 Bye\r\n"));
    assert!(!said.contains(&"DATA\r\n".to_owned()));
    let End::Refused { stage: Stage::Rcpt, reply, recipients } = end else { panic!("{end:?}") };
    assert_eq!((reply.text().as_str(), recipients.len()), ("first", 2));
}

#[test]
fn nothing_is_said_in_clear_text_but_ehlo_and_starttls() {
    for clear in [
        // STARTTLS not offered: stripped, or not there.
        "220 ready\r\n250-a.example\r\n250 AUTH XOAUTH2\r\n221 Bye\r\n",
        // Refused.
        "220 ready\r\n250-a.example\r\n250 STARTTLS\r\n454 4.7.0 TLS not available\r\n221 Bye\r\n",
        // More behind the answer than the answer.
        "220 ready\r\n250-a.example\r\n250 STARTTLS\r\n220 go\r\n250 injected\r\n",
        "220 ready\r\n250-a.example\r\n250 STARTTLS\r\n220 go\r\ngarbage\r\n",
    ] {
        let (said, end) = drive(plan(), clear, "", |left| left);
        assert!(said.iter().all(|line| !line.contains("AUTH") && !line.contains("MAIL")), "{said:?}");
        assert!(
            matches!(
                end,
                End::Missing(Missing::StartTls) | End::Refused { stage: Stage::StartTls, .. } | End::InjectedBeforeTls
            ),
            "{clear:?}: {end:?}"
        );
    }
}

#[test]
fn what_the_message_needs_and_the_server_lacks_stops_it_before_authentication() {
    let bare = "250-a.example\r\n250-SIZE 5\r\n250 AUTH XOAUTH2\r\n221 Bye\r\n";
    let accented = Path::parse("jörg@example.org").unwrap();
    for (plan, expected) in [
        (Plan { eight_bit: true, ..plan() }, End::Missing(Missing::EightBit)),
        (Plan { utf8: Utf8Need::Required, recipients: vec![accented], ..plan() }, End::Missing(Missing::Utf8)),
        (plan(), End::TooLarge { size: 10, limit: 5 }),
    ] {
        let (said, end) = run(plan, bare);
        assert_eq!(end, expected);
        assert!(!said.iter().any(|line| line.contains("AUTH")), "{said:?}");
    }
    let (_, end) = run(plan(), "250-a.example\r\n250 AUTH LOGIN PLAIN\r\n221 Bye\r\n");
    assert_eq!(end, End::Missing(Missing::Xoauth2(vec!["LOGIN".into(), "PLAIN".into()])));
}

#[test]
fn extensions_are_asked_for_only_when_needed_and_offered() {
    let bare = "250-a.example\r\n250 AUTH XOAUTH2\r\n";
    for (plan, offers, mail) in [
        (plan(), OFFERS, "MAIL FROM:<a@contoso.example> SIZE=10\r\n"),
        (plan(), bare, "MAIL FROM:<a@contoso.example>\r\n"),
        (
            Plan { eight_bit: true, utf8: Utf8Need::IfOffered, ..plan() },
            OFFERS,
            "MAIL FROM:<a@contoso.example> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n",
        ),
        (Plan { utf8: Utf8Need::IfOffered, ..plan() }, bare, "MAIL FROM:<a@contoso.example>\r\n"),
    ] {
        let (said, _) = run(plan, &format!("{offers}{AUTHENTICATED}"));
        assert_eq!(said.last().unwrap(), mail);
    }
}

#[test]
fn only_a_connection_lost_after_the_final_dot_leaves_the_outcome_unknown() {
    let upto = |replies: &str| run(plan(), &format!("{OFFERS}{AUTHENTICATED}{replies}")).1;
    assert!(matches!(upto(""), End::Lost { stage: Stage::Mail }));
    assert!(matches!(upto("250 ok\r\n"), End::Lost { stage: Stage::Rcpt }));
    assert!(matches!(upto("250 ok\r\n250 ok\r\n250 ok\r\n"), End::Lost { stage: Stage::DataStart }));
    let after_dot = "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n";
    assert!(matches!(upto(after_dot), End::Unknown { recipients } if recipients.len() == 2));
    assert!(matches!(upto(&format!("{after_dot}nonsense\r\n")), End::Unknown { .. }));
    assert!(matches!(upto(&format!("{after_dot}250 taken\r\n")), End::Accepted { .. }), "QUIT needs no answer");
    assert!(matches!(upto(&format!("{after_dot}554 5.2.0 no\r\n")), End::Refused { stage: Stage::DataEnd, .. }));
}

#[test]
fn a_refusal_sent_while_the_body_still_flows_is_heard() {
    let mut session = Session::new(Plan { protection: Protection::Already, auth: None, ..plan() });
    session.feed(b"220 a\r\n250 a\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    while !matches!(session.next(), Action::SendBody) {}
    session.feed(b"552 5.3.4 too big\r\n");
    session.lost();
    let Action::Finished(end) = session.next() else { panic!() };
    assert!(matches!(*end, End::Refused { stage: Stage::Body, reply, .. } if reply.code() == 552));
}

#[test]
fn a_421_ends_the_session_at_any_stage() {
    for (secure, stage) in [
        ("421 4.3.2 Service not available\r\n".to_owned(), Stage::Ehlo),
        (format!("{OFFERS}421 4.7.0 Try later\r\n"), Stage::Auth),
        (format!("{OFFERS}{AUTHENTICATED}250 ok\r\n421 4.3.2 no\r\n"), Stage::Rcpt),
    ] {
        let (_, end) = run(plan(), &secure);
        assert!(
            matches!(&end, End::Refused { stage: found, reply, .. } if *found == stage && reply.code() == 421),
            "{end:?}"
        );
    }
}

#[test]
fn nothing_of_a_token_shows_in_debug_output() {
    let mut session = Session::new(Plan { protection: Protection::Already, auth_in_one_line: true, ..plan() });
    session.feed(format!("220 a\r\n{OFFERS}").as_bytes());
    let secret = plan().auth.unwrap().expose().to_owned();
    let mut shown = String::new();
    loop {
        let action = session.next();
        shown.push_str(&format!("{action:?} {session:?}"));
        if matches!(action, Action::Read(_)) {
            break;
        }
    }
    assert!(!shown.contains(&secret), "{shown}");
}

proptest! {
    #[test]
    fn any_packet_split_gives_the_same_session(
        cuts in proptest::collection::vec(1usize..40, 1..60),
        which in 0usize..4,
    ) {
        let tail = [
            "250 ok\r\n250 ok\r\n550-5.1.10 two\r\n550 5.1.10 lines\r\n354 go\r\n250 2.0.0 taken\r\n221 Bye\r\n",
            "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n554-5.2.252 SendAsDenied\r\n554 5.2.252 more\r\n221 Bye\r\n",
            "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
            "550 5.7.60 no\r\n221 Bye\r\n",
        ][which];
        let server = format!("{OFFERS}{AUTHENTICATED}{tail}");
        let whole = run(plan(), &server);
        let mut cuts = cuts.into_iter().cycle();
        let split = drive(plan(), CLEAR, &server, move |_| cuts.next().expect("endless"));
        prop_assert_eq!(whole, split);
    }
}

const PIPELINING: &str = "250-a.example\r\n250-PIPELINING\r\n250-AUTH XOAUTH2\r\n250 SIZE 1000\r\n";

#[test]
fn where_the_server_takes_it_a_message_is_announced_in_one_go() {
    let tail = "250 ok\r\n550 5.1.10 no\r\n250 ok\r\n354 go\r\n250 taken\r\n221 Bye\r\n";
    let (said, end) = run(plan(), &format!("{PIPELINING}{AUTHENTICATED}{tail}"));
    assert_eq!(
        said[6],
        "MAIL FROM:<a@contoso.example> SIZE=10\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
    );
    let End::Accepted { recipients, .. } = end else { panic!("{end:?}") };
    assert_eq!(recipients.iter().map(RecipientOutcome::is_accepted).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_refusal_within_a_group_is_told_by_the_command_that_met_it() {
    for (tail, stage, code, abandons) in [
        // What follows a refused MAIL is refused for its sake.
        ("550 5.7.60 no\r\n503 first\r\n503 first\r\n503 first\r\n", Stage::Mail, 550, false),
        ("250 ok\r\n550 5.1.10 no\r\n551 no\r\n554 no valid recipients\r\n", Stage::Rcpt, 550, false),
        // A server that asks for the message all the same gets a lone dot.
        ("250 ok\r\n550 5.1.10 no\r\n551 no\r\n354 go\r\n554 no valid recipients\r\n", Stage::Rcpt, 550, true),
        ("250 ok\r\n550 5.1.10 no\r\n551 no\r\n354 go\r\n", Stage::Rcpt, 550, true),
        ("250 ok\r\n250 ok\r\n250 ok\r\n451 4.3.0 later\r\n", Stage::DataStart, 451, false),
        ("250 ok\r\n421 4.3.2 closing\r\n", Stage::Rcpt, 421, false),
    ] {
        let (said, end) = run(plan(), &format!("{PIPELINING}{AUTHENTICATED}{tail}221 Bye\r\n"));
        let End::Refused { stage: found, reply, .. } = end else { panic!("{tail}: {end:?}") };
        assert_eq!((found, reply.code()), (stage, code), "{tail}");
        assert_eq!(said.contains(&".\r\n".to_owned()), abandons, "{tail}");
        assert!(!said.contains(&"<body>".to_owned()), "{tail}");
    }
}

#[test]
fn many_recipients_are_asked_in_groups() {
    let recipients = (0..250).map(|n| Path::parse(&format!("r{n}@example.org")).unwrap()).collect::<Vec<_>>();
    let tail = format!("250 ok\r\n{}354 go\r\n250 taken\r\n221 Bye\r\n", "250 ok\r\n".repeat(250));
    let (said, end) = run(Plan { recipients, ..plan() }, &format!("{PIPELINING}{AUTHENTICATED}{tail}"));
    assert!(matches!(end, End::Accepted { recipients, .. } if recipients.len() == 250));
    let groups: Vec<_> = said.iter().filter(|text| text.contains("RCPT")).map(|text| text.lines().count()).collect();
    assert_eq!(groups, [100, 100, 52]);
}

/// An open session that has carried one message, which ended as `tail` says.
fn after_one(tail: &str) -> Session {
    let mut session = Session::new(Plan { protection: Protection::Already, ..plan() }).keeping();
    session.feed(format!("220 ready\r\n{PIPELINING}{AUTHENTICATED}{tail}").as_bytes());
    loop {
        match session.next() {
            Action::Write(_) => {}
            Action::SendBody => session.body_written(),
            Action::Finished(_) => return session,
            action => panic!("{action:?}"),
        }
    }
}

fn another() -> Mail {
    Mail {
        from: Some(Path::parse("a@contoso.example").unwrap()),
        recipients: vec![Path::parse("d@example.org").unwrap()],
        size: 20,
        eight_bit: false,
        utf8: Utf8Need::No,
    }
}

#[test]
fn a_kept_session_carries_the_next_message_and_resets_what_was_left_half_done() {
    for (tail, first) in [
        ("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n", "MAIL FROM"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n554 5.2.252 SendAsDenied\r\n", "RSET\r\nMAIL FROM"),
        ("550 5.7.60 no\r\n503 no\r\n503 no\r\n503 no\r\n", "RSET\r\nMAIL FROM"),
    ] {
        let mut session = after_one(tail);
        assert!(session.is_open(), "{tail}");
        session.begin(another());
        assert!(!session.has_heard());
        let Action::Write(bytes) = session.next() else { panic!("{tail}") };
        let said = String::from_utf8(bytes).unwrap();
        assert!(said.starts_with(first) && said.ends_with("SIZE=20\r\nRCPT TO:<d@example.org>\r\nDATA\r\n"), "{said}");
        let reset = if first.starts_with("RSET") { "250 reset\r\n" } else { "" };
        session.feed(format!("{reset}250 ok\r\n250 ok\r\n354 go\r\n").as_bytes());
        assert!(matches!(session.next(), Action::SendBody) && session.has_heard());
        session.body_written();
        assert!(matches!(session.next(), Action::Write(dot) if dot == b".\r\n"));
        session.feed(b"250 taken\r\n");
        assert!(matches!(session.next(), Action::Finished(end) if matches!(*end, End::Accepted { .. })));
        session.leave();
        assert!(matches!(session.next(), Action::Write(quit) if quit == b"QUIT\r\n") && !session.is_open());
    }
}

#[test]
fn a_kept_session_that_died_meanwhile_shows_that_nothing_was_heard() {
    let taken = "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n";
    let mut session = after_one(taken);
    session.begin(another());
    let _ = session.next();
    session.lost();
    assert!(matches!(session.next(), Action::Finished(end) if *end == End::Lost { stage: Stage::Mail }));
    assert!(!session.has_heard() && !session.is_open());

    // What this server cannot carry costs nothing, and the session stays.
    let mut session = after_one(taken);
    session.begin(Mail { size: 5_000, ..another() });
    let Action::Finished(end) = session.next() else { panic!() };
    assert_eq!((*end, session.is_open()), (End::TooLarge { size: 5_000, limit: 1_000 }, true));
}

#[test]
fn a_session_that_may_not_stay_is_not_kept() {
    for tail in ["421 4.3.2 closing\r\n", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n354 what\r\n221 Bye\r\n"] {
        assert!(!after_one(tail).is_open(), "{tail}");
    }
}
