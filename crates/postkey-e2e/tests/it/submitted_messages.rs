//! The real messages of `messages`, handed in by SMTP and by HTTP instead of by `postkey send`: every byte arrives.

use std::path::PathBuf;
use std::time::Duration;

use postkey_emulator::exchange::administration::Right;
use postkey_emulator::exchange::limits::Limits;

use crate::messages::{DELIVERED, STAMPED, make_into};
use crate::mime::{Part, differences, with_wire_line_ends};
use crate::serving::{Installation, UNPACED, until};
use crate::setups::Tenant;
use crate::submit::{HttpClient, SmtpClient};

/// The large one is 16 MB on the wire, twice.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_submitted_by_smtp_arrives_with_every_byte() {
    submitted(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_submitted_by_http_arrives_with_every_byte() {
    submitted(true).await;
}

async fn submitted(by_http: bool) {
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| world.mail.limits = Limits::lifted());
    let sample = tenant.emulator.sample().clone();
    open_to_smtp(&tenant, &sample.sender);
    let installation = Installation::new(&tenant, "submitted", UNPACED);
    installation.reading_sender("mail", &sample.sender).await;
    let login = installation.submitter("corpus", &["mail"]).await;
    let serving = installation.serve().await;
    let folder: PathBuf = tenant.folder().join("messages");
    let made = make_into(&folder, &sample.sender, &sample.user_name).await;

    let mut smtp = SmtpClient::signed_in(installation.ports.smtp, &login).await.expect("it may sign in");
    let http = HttpClient::new(installation.ports, &login.api_key);
    for (name, message) in &made {
        let wire = with_wire_line_ends(message);
        let taken = match by_http {
            true => http.send(&sample.sender, &[&sample.user_name], wire).await,
            false => smtp.send(&sample.sender, &[&sample.user_name], &wire).await,
        };
        taken.unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let inbox = until("the arrival of every message", PATIENCE, async || {
        let seen = tenant.emulator.with_world(|world| {
            world.mailbox_contents(tenant.emulator.tenant_id(), &sample.user_name).expect("the sample mailbox stays")
        });
        let inbox: Vec<_> = seen.into_iter().filter(|one| one.folder == "Inbox").collect();
        (inbox.len() >= made.len()).then_some(inbox)
    })
    .await;
    assert_eq!(inbox.len(), made.len(), "each arrives once");
    let mut wrong = Vec::new();
    for (name, message) in &made {
        let sent = Part::read(&with_wire_line_ends(message));
        let id = sent.header("message-id").expect("every made message has an id");
        let arrived = inbox.iter().find(|one| one.message_id.as_deref() == Some(id));
        let arrived = Part::read(&arrived.unwrap_or_else(|| panic!("{name} did not arrive")).mime);
        let found = differences(&sent, &arrived).into_iter();
        wrong.extend(
            found
                .filter(|change| change != STAMPED && !DELIVERED.contains(&change.as_str()))
                .map(|change| format!("{name}: {change}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(serving.stop().await.success());
}

/// What an Exchange administrator does so that the sample application may sign in to a mailbox by SMTP.
pub(crate) fn open_to_smtp(tenant: &Tenant, mailbox: &str) {
    let app = tenant.emulator.sample().client_id;
    tenant.emulator.with_world(|world| {
        let known = world.tenant_mut(tenant.emulator.tenant_id()).expect("the sample tenant stays");
        let mut principals = known.directory.service_principals.iter();
        let principal = principals.find(|one| one.app_id == app).expect("the sample application stays").id;
        known.register_mail_principal(app, principal);
        known.grant(mailbox, Right::FullAccess, principal);
    });
}
