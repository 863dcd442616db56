//! Runs one session: bytes between the link and the SMTP session, each wait with its deadline.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use postkey_smtp::{
    EnhancedCode, Reply,
    server::{AuthOffer, End, Event, Expects, Session, SessionSettings, TlsState},
};
use postkey_transport::message::MAX_SIZE;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    conversation::{Conversation, Said},
    link::{Link, LinkError},
    service::House,
    settings::Mode,
};

/// A session and all it needs.
pub(crate) struct Driver {
    house: Arc<House>,
    link: Option<Link>,
    session: Session,
    conversation: Conversation,
    tls: Option<Arc<ServerConfig>>,
    buffer: BytesMut,
    /// The last read filled the buffer: more is to come.
    filled: bool,
    /// When what the session waits for must be there.
    due: Instant,
    waits_for: Expects,
    /// Something came that was more than a part of a line or of a message.
    understood: bool,
    sign_in_due: Instant,
    said_stop: bool,
}

/// How a session ended, for its last line in the log.
enum Ended {
    Session(End),
    Client,
    Slow(&'static str),
    Link(LinkError),
    Stopped,
}

impl Driver {
    /// For a connection that is ready for its greeting.
    pub(crate) fn new(
        house: Arc<House>,
        link: Link,
        conversation: Conversation,
        mode: Mode,
        on_loopback: bool,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let secured = matches!(link, Link::Secured(_));
        let mut settings = SessionSettings::new(house.settings.host_name.clone());
        settings.tls = if secured {
            TlsState::Secured
        } else {
            TlsState::Plain { starttls: mode == Mode::StartTls && tls.is_some() }
        };
        settings.auth = match mode {
            Mode::Plain => AuthOffer::Never,
            _ if on_loopback => AuthOffer::Always,
            _ => AuthOffer::WhenSecured,
        };
        settings.login_required = conversation.needs_sign_in();
        settings.size = Some(conversation.announces());
        // Up to there the rules say what is too large, with the number and what would help.
        settings.refuse_beyond = Some(MAX_SIZE);
        settings.max_recipients = house.settings.most_recipients;
        let now = Instant::now();
        Self {
            session: Session::new(settings),
            due: now + house.settings.command_within,
            sign_in_due: now + house.settings.sign_in_within,
            house,
            link: Some(link),
            conversation,
            tls,
            buffer: BytesMut::new(),
            filled: false,
            waits_for: Expects::Command,
            understood: true,
            said_stop: false,
        }
    }

    /// Until the session has ended, however it ends.
    pub(crate) async fn run(mut self) {
        let ended = self.talk().await;
        self.conversation.dropped();
        let why = match &ended {
            Ended::Session(end) => format!("{end:?}"),
            Ended::Client => "the client went away".into(),
            Ended::Slow(what) => format!("the client was too slow: {what}"),
            Ended::Link(error) => {
                let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
                format!("{error}{cause}")
            }
            Ended::Stopped => "postkey stops".into(),
        };
        let has_last_word = matches!(&ended, Ended::Session(end) if *end != End::Quit);
        self.part(has_last_word).await;
        self.conversation.ended(&self.session, &why);
    }

    /// Says goodbye to TLS and to TCP; whoever does not answer is not waited for long.
    async fn part(&mut self, has_last_word: bool) {
        let Some(link) = &mut self.link else { return };
        let buffer = &mut self.buffer;
        let goodbye = async {
            link.shutdown().await?;
            // A connection that is closed with bytes unread is reset, and our last reply with it.
            while has_last_word && link.read_buf(buffer).await? > 0 {
                buffer.clear();
            }
            io::Result::Ok(())
        };
        tokio::select! {
            _ = timeout(GOODBYE, goodbye) => {}
            () = self.house.stopping.cancelled(), if has_last_word => {}
        }
    }

    async fn talk(&mut self) -> Ended {
        loop {
            let event = self.session.next();
            if event == Event::NeedsInput {
                match self.read().await {
                    Ok(()) => continue,
                    Err(ended) => return ended,
                }
            }
            self.understood = true;
            let said = match event {
                Event::NeedsInput => continue,
                Event::Write => match self.write().await {
                    Ok(()) => continue,
                    Err(ended) => return ended,
                },
                Event::StartTls { discarded } => {
                    if discarded > 0 {
                        tracing::warn!(bytes = discarded, "bytes behind STARTTLS were thrown away");
                    }
                    match self.secure().await {
                        Ok(()) => continue,
                        Err(ended) => return ended,
                    }
                }
                Event::Authenticate(credentials) => {
                    let said = self.conversation.authenticate(&credentials);
                    self.session.set_size(Some(self.conversation.announces()));
                    said
                }
                Event::Mail(mail) => self.conversation.mail(&mail),
                Event::Rcpt(recipient) => self.conversation.rcpt(&recipient),
                Event::Data { .. } => self.conversation.data(),
                Event::Message(received) => self.conversation.message(*received, &self.session).await,
                Event::Dropped(_) => {
                    self.conversation.dropped();
                    continue;
                }
                Event::Closed(_) if self.said_stop => return Ended::Stopped,
                Event::Closed(end) => return Ended::Session(end),
            };
            let Said { answer, wait } = said;
            if wait > Duration::ZERO {
                // Only the guesser waits; a stop ends the wait.
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.house.stopping.cancelled() => {}
                }
            }
            self.session.answer(answer);
        }
    }

    async fn read(&mut self) -> Result<(), Ended> {
        self.set_deadline();
        let message = self.waits_for == Expects::Message;
        if self.house.stopping.is_cancelled() && self.stop_if_idle() {
            return Ok(());
        }
        let settings = &self.house.settings;
        let mut due = self.due;
        if message {
            // A trickle that never stops is slow, too: what is missing to the lowest rate shortens the wait.
            let earned = Duration::from_secs(self.conversation.bytes_received() / settings.bytes_per_second.max(1));
            due = (self.due + earned).min(Instant::now() + settings.data_within);
        } else if !self.conversation.is_signed_in() {
            due = due.min(self.sign_in_due);
        }
        let wanted = if message && self.filled { LARGE_READ } else { USUAL_READ };
        if self.buffer.capacity() < wanted || (wanted == USUAL_READ && self.buffer.capacity() > wanted) {
            self.buffer = BytesMut::with_capacity(wanted);
        }
        let Some(link) = &mut self.link else { return Err(Ended::Client) };
        // Both lose nothing when dropped: a read that did not finish took no byte.
        let outcome = tokio::select! {
            outcome = timeout_at(due, link.read_buf(&mut self.buffer)) => outcome,
            () = self.house.stopping.cancelled(), if !self.said_stop && self.session.is_idle() => {
                self.stop_if_idle();
                return Ok(());
            }
        };
        match outcome {
            Err(_) => {
                let what = if message { "its message did not come" } else { "no command came" };
                self.say_and_close("4.4.2", &format!("Timeout: {what}"));
                Ok(())
            }
            Ok(Err(error)) => Err(Ended::Link(LinkError::Broken(error))),
            Ok(Ok(0)) => Err(Ended::Client),
            Ok(Ok(count)) => {
                let fits = !message || self.conversation.received(count);
                self.session.feed(&self.buffer);
                self.filled = self.buffer.len() >= USUAL_READ;
                self.buffer.clear();
                if !fits {
                    self.say_and_close("4.3.1", "Too many large messages are being received, try again later");
                }
                Ok(())
            }
        }
    }

    /// A deadline belongs to what is awaited, not to each byte of it: it is set anew only when something was understood.
    fn set_deadline(&mut self) {
        if !std::mem::take(&mut self.understood) {
            return;
        }
        self.waits_for = self.session.expects();
        let settings = &self.house.settings;
        self.due = Instant::now()
            + match self.waits_for {
                Expects::Message => settings.data_within,
                Expects::Command | Expects::SaslResponse | Expects::Nothing => settings.command_within,
            };
    }

    async fn write(&mut self) -> Result<(), Ended> {
        let output = self.session.take_output();
        let Some(link) = &mut self.link else { return Err(Ended::Client) };
        let writing = async {
            link.write_all(&output).await?;
            link.flush().await
        };
        match timeout(self.house.settings.reply_within, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(Ended::Client),
            Ok(Err(error)) => Err(Ended::Link(LinkError::Broken(error))),
            Err(_) => Err(Ended::Slow("it did not take our reply")),
        }
    }

    async fn secure(&mut self) -> Result<(), Ended> {
        let (Some(link), Some(config)) = (self.link.take(), self.tls.clone()) else { return Err(Ended::Client) };
        let (link, facts) = link.secure(config, self.house.settings.handshake_within).await.map_err(Ended::Link)?;
        self.link = Some(link);
        self.buffer.clear();
        self.conversation.secured(facts);
        self.session.secured();
        Ok(())
    }

    /// Says 421 if nothing is in hand.
    fn stop_if_idle(&mut self) -> bool {
        let idle = !self.said_stop && self.session.is_idle();
        if idle {
            self.said_stop = true;
            self.say_and_close("4.3.2", "postkey stops, try again in a moment");
        }
        idle
    }

    fn say_and_close(&mut self, enhanced: &str, text: &str) {
        self.session.close(&Reply::new(421, EnhancedCode::parse(enhanced), [text]));
    }
}

/// For most commands and small messages; a thousand idle sessions take 8 MB.
const USUAL_READ: usize = 8 * 1024;
/// For large messages.
const LARGE_READ: usize = 64 * 1024;
/// For closing politely.
const GOODBYE: Duration = Duration::from_secs(2);
