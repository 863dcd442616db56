//! Reports as Exchange Online writes them.

use super::*;

const REPORT: &str = "From: Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.example>\r\n\
To: noreply@contoso.example\r\nSubject: Undeliverable: Invoice\r\n\
Content-Type: multipart/report; report-type=delivery-status; boundary=\"b1\"\r\nMIME-Version: 1.0\r\n\r\n\
--b1\r\nContent-Type: text/plain\r\n\r\nYour message couldn't be delivered.\r\n\
--b1\r\nContent-Type: message/delivery-status\r\n\r\n\
Reporting-MTA: dns;AM0PR04.eurprd04.prod.outlook.com\r\nArrival-Date: Sun, 1 Mar 2026 10:00:00 +0000\r\n\r\n\
Final-Recipient: rfc822;nobody@fabrikam.example\r\nAction: failed\r\nStatus: 5.1.10\r\n\
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound;\r\n Recipient not found\r\n\r\n\
Final-Recipient: rfc822;slow@fabrikam.example\r\nAction: delayed\r\nStatus: 4.4.7\r\n\r\n\
--b1\r\nContent-Type: message/rfc822\r\n\r\n\
Received: from x\r\n by y\r\nX-Postkey-Id: 0195f2a0-0000-7000-8000-000000000001\r\n\
Message-ID: <1@contoso.example>\r\nSubject: Invoice\r\n\r\nbody\r\n\r\n--b1--\r\n";

#[test]
fn a_report_tells_of_each_recipient_and_of_which_message() {
    let bounce = read(REPORT.as_bytes()).unwrap();
    assert_eq!(bounce.stamp.map(|id| id.to_string()).as_deref(), Some("0195f2a0-0000-7000-8000-000000000001"));
    assert_eq!(bounce.message_id.as_deref(), Some("<1@contoso.example>"));
    let lines: Vec<_> =
        bounce.recipients.iter().map(|one| format!("{} {} {}", one.address, one.action, one.status)).collect();
    assert_eq!(lines, ["nobody@fabrikam.example failed 5.1.10", "slow@fabrikam.example delayed 4.4.7"]);
    assert!(bounce.recipients[0].diagnostic.ends_with("Recipient not found"));
    assert_eq!(hold_of(&bounce), None);
}

#[test]
fn some_codes_speak_of_more_than_one_message() {
    for (says, scope, probes) in [
        ("5.7.233", ScopeKind::Tenant, Probes::Quota),
        ("5.7.705", ScopeKind::Tenant, Probes::Quota),
        ("5.1.90", ScopeKind::Sender, Probes::Quota),
        ("5.1.8 Access denied, bad outbound sender", ScopeKind::Sender, Probes::Quota),
    ] {
        let bounce = read(REPORT.replace("5.1.10", says).as_bytes()).unwrap();
        let hold = hold_of(&bounce).unwrap();
        assert_eq!((hold.scope, hold.probes), (scope, probes), "{says}");
    }
}

#[test]
fn what_another_server_says_of_one_message_holds_nobody() {
    for says in [
        "5.1.8 <noreply@contoso.example>: Sender address rejected: Domain not found",
        "5.7.1 Client host [10.5.1.8] blocked",
        "5.7.1 rejected by 205.1.90.3, bad outbound sender",
        "5.7.1 Client host [15.7.233.9] blocked",
    ] {
        let bounce = read(REPORT.replace("5.1.10", says).as_bytes()).unwrap();
        assert_eq!(hold_of(&bounce), None, "{says}");
    }
}

#[test]
fn other_mail_is_no_report() {
    assert_eq!(read(b"Subject: hello\r\n\r\nhi\r\n"), None);
    assert_eq!(read(b""), None);
    assert_eq!(
        read(b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n"),
        None
    );
}
