use super::*;

fn small() -> Traits {
    Traits { size: 10_000, smtp_carries_lines: true, ..Traits::default() }
}

fn large() -> Traits {
    Traits { size: 12_000_000, largest_attachment: 9_000_000, ..small() }
}

fn all() -> Abilities {
    Abilities { graph_send: true, graph_read_write: true, smtp: true, ..Abilities::default() }
}

fn graph() -> Abilities {
    Abilities { graph_read_write: false, smtp: false, ..all() }
}

fn drafts() -> Abilities {
    Abilities { smtp: false, ..all() }
}

fn smtp() -> Abilities {
    Abilities { graph_send: false, graph_read_write: false, ..all() }
}

#[test]
fn base64_leaves_three_million_bytes_of_four() {
    assert_eq!(graph().graph_mime_limit(), 3_000_000);
    assert_eq!(all().faithful_limit(), 157_286_400);
    assert_eq!(drafts().faithful_limit(), 3_000_000);
    assert_eq!(Abilities::default().faithful_limit(), 0);
    // Unwrapped base64 of the largest message is exactly the limit.
    assert_eq!(graph().graph_mime_limit().div_ceil(3) * 4, 4_000_000);
}

#[test]
fn the_route_follows_from_message_and_permission() {
    let beyond = vec!["x@y.example".parse().unwrap()];
    let at = |size| Traits { size, ..small() };
    for (traits, abilities, route, reason) in [
        (small(), all(), Route::GraphMime, RouteReason::FitsOneRequest),
        (small(), graph(), Route::GraphMime, RouteReason::FitsOneRequest),
        (small(), smtp(), Route::Smtp, RouteReason::OnlySmtp),
        (small(), Abilities { preference: Preference::Smtp, ..all() }, Route::Smtp, RouteReason::OnlySmtp),
        (at(3_000_000), all(), Route::GraphMime, RouteReason::FitsOneRequest),
        (at(3_000_001), all(), Route::Smtp, RouteReason::TooLargeForOneRequest),
        (large(), all(), Route::Smtp, RouteReason::TooLargeForOneRequest),
        (large(), drafts(), Route::GraphDraftUpload, RouteReason::TooLargeForOneRequest),
        (
            large(),
            Abilities { preference: Preference::Graph, ..all() },
            Route::GraphDraftUpload,
            RouteReason::TooLargeForOneRequest,
        ),
        (Traits { signed: true, ..large() }, all(), Route::Smtp, RouteReason::TooLargeForOneRequest),
        (Traits { signed: true, ..small() }, graph(), Route::GraphMime, RouteReason::FitsOneRequest),
        (
            Traits { header_recipients_beyond: beyond.clone(), ..small() },
            all(),
            Route::Smtp,
            RouteReason::EnvelopeDiffersFromHeaders,
        ),
        (
            Traits { header_recipients_beyond: beyond.clone(), ..small() },
            graph(),
            Route::GraphMime,
            RouteReason::FitsOneRequest,
        ),
        // Line ends that SMTP cannot carry keep it with Graph.
        (
            Traits { header_recipients_beyond: beyond, smtp_carries_lines: false, ..small() },
            all(),
            Route::GraphMime,
            RouteReason::FitsOneRequest,
        ),
        (
            Traits { smtp_carries_lines: false, ..large() },
            all(),
            Route::GraphDraftUpload,
            RouteReason::TooLargeForOneRequest,
        ),
    ] {
        let choice = choose(&traits, &abilities).unwrap();
        assert_eq!((choice.route, choice.reason), (route, reason), "{traits:?} {abilities:?}");
    }
}

#[test]
fn what_cannot_go_is_refused_with_the_number_and_the_remedies() {
    let beyond: Vec<EmailAddress> = vec!["x@y.example".parse().unwrap()];
    let too_large =
        |size, limit, remedies: &[Remedy]| RouteError::TooLarge { size, limit, remedies: remedies.to_vec() };
    for (traits, abilities, error) in [
        (small(), Abilities::default(), RouteError::NoRoute),
        (small(), Abilities { preference: Preference::Smtp, ..graph() }, RouteError::NoRoute),
        (
            large(),
            graph(),
            too_large(12_000_000, 3_000_000, &[Remedy::AllowSmtp, Remedy::AllowReadWrite, Remedy::MakeSmaller]),
        ),
        (
            Traits { signed: true, ..large() },
            graph(),
            too_large(12_000_000, 3_000_000, &[Remedy::AllowSmtp, Remedy::MakeSmaller]),
        ),
        (
            Traits { signed: true, calendar: true, ..large() },
            drafts(),
            RouteError::WouldBeRewritten {
                size: 12_000_000,
                limit: 3_000_000,
                why: vec!["signed", "an invitation"],
                remedies: vec![Remedy::AllowSmtp, Remedy::MakeSmaller],
            },
        ),
        (Traits { size: 200_000_000, ..large() }, all(), too_large(200_000_000, 157_286_400, &[Remedy::MakeSmaller])),
        (
            large(),
            Abilities { message_limit: 10_000_000, ..smtp() },
            too_large(12_000_000, 10_000_000, &[Remedy::MakeSmaller]),
        ),
        (
            Traits { signed: true, header_recipients_beyond: beyond.clone(), ..small() },
            graph(),
            RouteError::SignedForOthers(beyond),
        ),
        (Traits { smtp_carries_lines: false, ..small() }, smtp(), RouteError::LineEnds),
    ] {
        assert_eq!(choose(&traits, &abilities).unwrap_err(), error, "{traits:?} {abilities:?}");
    }
}

#[test]
fn a_refusal_for_size_is_a_552() {
    let error = choose(&large(), &graph()).unwrap_err();
    let (code, enhanced, text) = error.smtp_reply();
    assert_eq!((code, enhanced), (552, "5.3.4"));
    assert_eq!(
        text,
        "the message has 12,000,000 bytes; this sender can send 3,000,000. Allow the SMTP route (SMTP.SendAsApp, and SMTP AUTH \
         switched on for the mailbox); or grant Mail.ReadWrite, so that it can go by draft and upload session; or make the \
         message smaller, or send a link to the files."
    );
}

#[test]
fn a_draft_keeps_five_custom_headers_ours_among_them() {
    let message = Message::parse(
        &b"Received: from a\r\nFrom: a@x.example\r\nIn-Reply-To: <1@x>\r\nReferences: <1@x>\r\nX-One: 1\r\nX-Two: 2\r\n\
           X-Three: 3\r\nX-Four: 4\r\nX-Five: 5\r\nList-Id: l\r\nReferences: <2@x>\r\nContent-Type: text/plain\r\n\r\n"[..],
    )
    .unwrap();
    assert_eq!(losses(&message), ["In-Reply-To", "References", "X-Five", "List-Id"]);
}

#[test]
fn what_repairs_add_counts_against_the_limit() {
    let traits = Traits { size: 2_999_500, room: 1_024, ..small() };
    let error = choose(&traits, &graph()).unwrap_err();
    assert!(
        error.to_string().starts_with("the message has 2,999,500 bytes; this sender can send 2,998,976"),
        "{error}"
    );
    assert_eq!(grouped(999), "999");
    assert_eq!(grouped(1_000), "1,000");
}

#[test]
fn json_only_when_asked_permitted_harmless_and_small_enough() {
    let asked = SendWish { graph_json: true };
    let filled = |attachment_bytes| Traits { size: 10_000, attachment_bytes, ..small() };
    for (traits, abilities, wish, route) in [
        (small(), all(), asked, Route::GraphJson),
        (small(), all(), SendWish::default(), Route::GraphMime),
        (small(), smtp(), asked, Route::Smtp),
        (Traits { signed: true, ..small() }, all(), asked, Route::GraphMime),
        (Traits { calendar: true, ..small() }, all(), asked, Route::GraphMime),
        (filled(2_700_000), all(), asked, Route::GraphJson),
        (filled(3_000_000), all(), asked, Route::GraphMime),
        (Traits { text_bytes: 2_000_000, ..small() }, all(), asked, Route::GraphMime),
        // In JSON as in a draft the envelope decides.
        (
            Traits { header_recipients_beyond: vec!["x@y.example".parse().unwrap()], ..small() },
            all(),
            asked,
            Route::GraphJson,
        ),
    ] {
        assert_eq!(choose_wished(&traits, &abilities, &wish).unwrap().route, route, "{traits:?} {wish:?}");
    }
}
