//! `postkey demo`: the main job from nothing to delivered messages, on the emulator, with nothing to configure.

mod submission;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use postkey_base::{EmailAddress, Who};
use postkey_emulator::{Emulator, EmulatorSettings, environment, visitor::Ended};
use postkey_identity::{Cloud, CustomCloud};
use postkey_setup::{
    automatic::{Automatic, Patience},
    connection::Outside,
    options::{CredentialChoice, Lifetime, Reach, SetupOptions},
    sign_in::{self, Administrator, GRAPH_COMMAND_LINE_TOOLS, SignIn},
};
use postkey_store::Store;
use postkey_transport::{AttachedFile, Composition, Envelope, Message, Stamp, compose};
use uuid::Uuid;

use self::submission::Application;
use super::{administrator::client_id, emulator as emulators, send};
use crate::{
    failure::Failure,
    output::{self, FAINT, GOOD, STRONG, styled},
    progress::Progress,
    settings::{Settings, shell_word},
    signals, wiring,
};

/// Everything on the emulator: one command, nothing to configure. --dir keeps it all; by default it goes with the demo.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Write shell assignments of everything to this file, once all is up
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
    /// Exit after the run instead of staying up
    #[arg(long)]
    once: bool,
}

/// The sender that the demo makes.
const SENDER: &str = "noreply";
/// The settings file: what lies where, for the commands of the second terminal.
const SETTINGS: &str = r#"# Made by `postkey demo`.
data = "data"
master_key_file = "keys/master.key"

# Port 0 takes a free one at each start.
[http]
listen = "127.0.0.1:0"

[[smtp]]
name = "smtp"
listen = "127.0.0.1:0"

[[smtp]]
name = "smtps"
listen = "127.0.0.1:0"
mode = "implicit"
"#;

impl Demo {
    pub(crate) async fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        let began = Instant::now();
        let (folder, _temporary) = emulators::folder(dir)?;
        let settings_file = folder.join("postkey.toml");
        if !settings_file.exists() {
            std::fs::write(&settings_file, SETTINGS)
                .map_err(|cause| Failure::file(&settings_file, "written to", cause))?;
        }
        let mut settings = Settings::load(Some(&folder), None)?;

        output::line(format_args!(
            "{}\n{}\n",
            styled(STRONG, "postkey demo"),
            styled(
                FAINT,
                "A Microsoft 365 tenant in a box, an application set up in it, and the first mail sent through it. Nothing leaves this machine."
            )
        ));
        let emulator =
            emulators::start(EmulatorSettings { dir: Some(folder.join("emulator")), ..EmulatorSettings::default() })
                .await?;
        emulators::describe(&emulator);

        let outside = wiring::open(&settings).await?;
        let administrator = set_up(&emulator, &outside).await?;
        conclude_setup(&administrator);
        let sent = first_mail(&emulator, &outside).await?;
        show_arrival(&emulator, &sent);
        let application = submission::open(&mut settings, &outside).await?;
        submission::hand_in(&application, &emulator, &outside).await?;

        if let Some(path) = &self.env {
            let mut variables = variables(&emulator, &folder);
            variables.extend(submission::variables(&application));
            environment::write(path, &variables).map_err(|cause| Failure::file(path, "written to", cause))?;
        }
        output::line(format_args!(
            "\n{} From nothing to delivered messages in {:.1} s.",
            styled(GOOD, "Done."),
            began.elapsed().as_secs_f32()
        ));
        if !self.once {
            what_next(&settings, &emulator, &application, self.env.as_deref());
            signals::stop_asked().await;
        }
        application.server.shutdown(&settings).await;
        outside.store.close().await;
        emulator.shutdown().await;
        Ok(())
    }
}

/// The emulator as any other cloud with hosts of its own.
fn cloud(emulator: &Emulator) -> Result<Cloud, Failure> {
    let wrong = |what: String| Failure::new("demo.hosts", what, "Please report it.", Who::Postkey);
    let url = |text: String| text.parse::<url::Url>().map_err(|error| wrong(format!("{text} is no address: {error}")));
    Cloud::custom(CustomCloud {
        login: url(emulator.authority())?,
        graph: url(emulator.graph())?,
        smtp: emulator.smtp().parse().map_err(|_| wrong(format!("{} is no host and port", emulator.smtp())))?,
        graph_resource: None,
        exchange_resource: None,
        portal: None,
        ca_file: emulator.ca_path().map(Path::to_path_buf),
    })
    .map_err(|error| wrong(error.to_string()))
}

/// `postkey setup` as against any tenant; only the administrator's clicks are played.
async fn set_up(emulator: &Emulator, outside: &Outside) -> Result<Administrator, Failure> {
    let sample = emulator.sample();
    let options = SetupOptions {
        name: SENDER.parse()?,
        cloud: cloud(emulator)?,
        tenant: postkey_base::TenantId::new(emulator.tenant_id()).into(),
        mailbox: mailbox(&sample.sender)?,
        credential: CredentialChoice::Certificate(Lifetime::TWELVE_MONTHS),
        reach: Reach::TenantWide,
        // SMTP needs an Exchange administrator as well, whom nobody plays here.
        smtp: false,
        read_write: true,
        test_to: mailbox(&sample.user_name)?,
    };
    forget_other_tenant(outside, &options).await?;
    let progress = Progress::telling();
    let endpoint = outside.endpoint(&options.cloud)?;
    output::line(format_args!(
        "\n{} {}",
        styled(STRONG, "postkey setup"),
        styled(
            FAINT,
            format_args!(
                "as against any tenant; only the sign-in is played: the demo opens the page and types {}'s password",
                sample.admin_user
            )
        )
    ));
    let browser = outside.network.http_client(&options.cloud)?;
    let administrator_at_browser =
        emulator.visitor(&sample.admin_user, &sample.admin_password).map_err(played_badly)?;
    let runtime = tokio::runtime::Handle::current();
    let how = SignIn::Browser {
        open: Box::new(move |url| {
            let (mut person, browser, url) = (administrator_at_browser.clone(), browser.clone(), url.to_string());
            // Ends with the sign-in: the page that postkey serves is the last one it opens.
            runtime.spawn(async move {
                match person.visit(&url).await {
                    Ok(Ended::Left { url, .. }) => {
                        if let Err(error) = browser.get(url).send().await {
                            tracing::error!(%error, "the played administrator did not get back");
                        }
                    }
                    Ok(Ended::Page { status, text }) => {
                        tracing::error!(status, text, "the played administrator is stuck")
                    }
                    Err(error) => tracing::error!(%error, "the played administrator got no page"),
                }
            });
        }),
    };
    let client = client_id(GRAPH_COMMAND_LINE_TOOLS, "the bootstrap client")?;
    let administrator =
        sign_in::sign_in(&endpoint, &options.tenant, client, &options.administrator_scopes(), &how, &progress).await?;
    let setup = Automatic {
        options: &options,
        outside,
        administrator: &administrator,
        watcher: &progress,
        patience: Patience::default(),
    };
    setup.run().await?;
    Ok(administrator)
}

/// A kept folder may hold the sender of an earlier demo, whose tenant is gone.
async fn forget_other_tenant(outside: &Outside, options: &SetupOptions) -> Result<(), Failure> {
    let store: &Store = &outside.store;
    if let Some(known) = store.sender(SENDER).await?
        && known.values.tenant != options.tenant.id()
    {
        store.remove_sender(SENDER).await?;
        store.remove_setup_run(SENDER).await?;
    }
    Ok(())
}

fn played_badly(error: impl std::fmt::Display) -> Failure {
    Failure::new(
        "demo.sign_in",
        format!("the demo could not play the administrator: {error}"),
        "Please report it.",
        Who::Postkey,
    )
}

fn mailbox(address: &str) -> Result<EmailAddress, Failure> {
    address.parse().map_err(|error: postkey_base::address::AddressError| {
        Failure::new("demo.address", error.to_string(), "Please report it.", Who::Postkey)
    })
}

fn conclude_setup(administrator: &Administrator) {
    if let Some(text) = sign_in::how_to_forget(administrator) {
        output::line(format_args!("\n{} {}", styled(FAINT, "·"), styled(FAINT, text)));
    }
}

/// What `postkey send` does.
async fn first_mail(emulator: &Emulator, outside: &Outside) -> Result<String, Failure> {
    let connection = outside.sender(SENDER).await?;
    let sample = emulator.sample();
    let stamp = Stamp { id: Uuid::new_v4(), at: outside.clock.now() };
    let composition = Composition {
        to: vec![mailbox(&sample.user_name)?],
        cc: vec![mailbox(&sample.second_user_name)?],
        subject: "Grüße from postkey".into(),
        text: Some(
            "Hello,\r\n\r\nthis message went through an app registration, a certificate,\r\nan OAuth token and Microsoft Graph, and nobody had to paste \
             anything.\r\n"
                .into(),
        ),
        attachments: vec![AttachedFile { name: "figures.csv".into(), content_type: None, bytes: b"month,mails\r\n2026-11,1\r\n".to_vec() }],
        ..Composition::new(connection.mailbox.clone())
    };
    let failed = |error: postkey_transport::outcome::TransportError| Failure::from(error);
    let mime = compose(&composition, stamp.id, stamp.at).map_err(|error| failed(error.into()))?;
    let message = Message::parse(mime)?;
    let envelope = Envelope::of(&message, connection.mailbox.clone())?;
    let transport = send::transport(&connection, &message, &envelope, None).await?;
    output::line(format_args!("\n{}", styled(STRONG, "postkey send")));
    let report = send::deliver(&transport, &message, &envelope, &stamp, Duration::from_secs(30)).await;
    send::print_report(&message, &report);
    match report.outcome {
        postkey_transport::outcome::Outcome::Accepted(_) => Ok(report.message_id.unwrap_or_default()),
        postkey_transport::outcome::Outcome::Refused(error) => Err(error.into()),
        postkey_transport::outcome::Outcome::Unknown(unknown) => Err(unknown.into()),
    }
}

/// The message as it lies in the recipient's Inbox.
fn show_arrival(emulator: &Emulator, message_id: &str) {
    let sample = emulator.sample();
    let seen =
        emulator.with_world(|world| world.mailbox_contents(sample.tenant_id, &sample.user_name)).unwrap_or_default();
    let Some(found) = seen.iter().rev().find(|message| message.message_id.as_deref() == Some(message_id)) else {
        return;
    };
    output::line(format_args!("\n{}", styled(STRONG, format_args!("In {}'s {}", sample.user_name, found.folder))));
    for line in as_read(&found.mime) {
        output::line(format_args!("  {} {line}", styled(FAINT, "│")));
    }
    output::line(format_args!(
        "  {} {}",
        styled(FAINT, "└"),
        styled(FAINT, format_args!("{} bytes in all", found.mime.len()))
    ));
}

/// A message as a reader shows it: who, what, and the text that our own composition put first.
fn as_read(mime: &[u8]) -> Vec<String> {
    let Ok(message) = Message::parse(mime.to_vec()) else { return Vec::new() };
    let people = |field: &str| {
        let all: Vec<String> = message.addresses(field).iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| format!("{field}: {}", all.join(", ")))
    };
    let mut lines: Vec<String> = ["From", "To", "Cc"].into_iter().filter_map(people).collect();
    lines.extend(message.subject().map(|subject| format!("Subject: {subject}")));
    lines.extend(message.message_id().map(|id| format!("Message-ID: {id}")));
    lines.push(String::new());
    let raw = String::from_utf8_lossy(message.body());
    let text = raw.split_once("\r\n\r\n").map_or("", |(_, rest)| rest);
    lines.extend(text.lines().take_while(|line| !line.starts_with("--")).map(str::to_owned));
    lines.extend(
        message
            .shape()
            .attachments
            .iter()
            .map(|file| format!("[{}, {} bytes]", file.name.as_deref().unwrap_or("attachment"), file.size)),
    );
    lines
}

fn variables(emulator: &Emulator, folder: &Path) -> Vec<(String, String)> {
    let mut variables = emulator.environment();
    variables.push(("DEMO_DIR".into(), folder.display().to_string()));
    variables.push(("DEMO_SENDER".into(), SENDER.into()));
    variables
}

fn what_next(settings: &Settings, emulator: &Emulator, application: &Application, env: Option<&Path>) {
    // `cargo run` leaves the program where no shell finds it by name.
    let program = std::env::args().next().filter(|program| program.contains('/'));
    let command = match program {
        Some(program) => settings.command().replacen("postkey", &shell_word(&program), 1),
        None => settings.command(),
    };
    let sample = emulator.sample();
    output::line(format_args!("\n{}", styled(STRONG, "Try next, in a second terminal")));
    let tries = [
        (format!("{command} send --to {} --subject Hello --body 'It works'", sample.user_name), "send a message"),
        (format!("{command} message list"), "see what was handed in, and where it stands"),
        (format!("{command} doctor"), "check every link of the chain"),
        (format!("{command} send --to bob+429@{} --subject Later", emulator.domain()), "meet throttling"),
        (format!("{command} credential list"), "see when the certificate ends"),
        (format!("{command} sender limit {SENDER} --denied {}", sample.user_name), "limit the app to its mailbox"),
        (format!("curl -s {}/mailboxes/{}/messages", emulator.management(), sample.user_name), "look into a mailbox"),
    ];
    for (line, what) in submission::tries(application, emulator) {
        output::line(format_args!("  {}\n  {line}", styled(FAINT, format_args!("# {what}"))));
    }
    output::line("");
    let width = tries.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default();
    for (line, what) in &tries {
        output::line(format_args!("  {line:<width$}  {}", styled(FAINT, format_args!("# {what}"))));
    }
    if let Some(path) = env {
        output::line(format_args!(
            "  {:<width$}  {}",
            format!(". {}", shell_word(&path.display().to_string())),
            styled(FAINT, "# everything as variables")
        ));
    }
    output::line(format_args!("\n{}", styled(FAINT, "Ctrl-C ends the demo.")));
}
