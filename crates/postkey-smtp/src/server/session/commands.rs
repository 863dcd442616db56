//! Commands, one after another.

use super::{
    super::{
        auth::{self, Step},
        bdat,
        event::Credentials,
        parameters, path,
        request::{self, BadRequest, Request},
        settings::AuthOffer,
    },
    *,
};

impl Session {
    /// A command line without its CRLF.
    pub(super) fn command(&mut self, line: &[u8]) {
        self.commands += 1;
        if self.commands > self.settings.max_commands {
            let enough = words(421, "4.7.0", "Too many commands without a message; this session ends");
            return self.end(End::TooManyCommands, Some(&enough));
        }
        match request::read(line, self.settings.tolerant) {
            Ok(request) => self.request(request),
            Err(BadRequest::Refused(words)) => self.refuse(&words),
            Err(BadRequest::NotSmtp) => {
                self.end(End::NotSmtp, Some(&words(421, "4.7.0", "This is an SMTP server; this session ends")));
            }
        }
    }

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Hello { name, extended } => self.greet(name, extended),
            Request::StartTls => self.start_tls(),
            Request::Auth(argument) => self.auth(argument),
            Request::Mail(argument) => self.mail(argument),
            Request::Rcpt(argument) => self.rcpt(argument),
            Request::Data => self.data(),
            Request::Bdat(argument) => match bdat::read(argument) {
                Some(chunk) => self.bdat(chunk),
                None => {
                    let unreadable = words(421, "4.5.4", "Write it as BDAT octets [LAST]; this session ends");
                    self.end(End::UnreadableChunk, Some(&unreadable));
                }
            },
            Request::Reset => {
                self.drop_transaction(Dropped::Reset);
                self.say(&words(250, "2.0.0", "Forgotten"));
            }
            Request::Noop => self.say(&words(250, "2.0.0", "Nothing done")),
            Request::Verify => self.say(&words(252, "2.0.0", "Addresses are not told here; send the message")),
            Request::Help => {
                self.say(&words(214, "2.0.0", "EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, RSET, NOOP, QUIT"));
            }
            Request::Quit => self.end(End::Quit, Some(&words(221, "2.0.0", "Goodbye"))),
        }
    }

    fn greet(&mut self, name: &[u8], extended: bool) {
        // RFC 5321 §4.1.4: EHLO in the middle resets like RSET.
        self.drop_transaction(Dropped::Reset);
        let name: String = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect();
        self.hello = Some(Hello { name, extended });
        let host_name = &self.settings.host_name;
        if !extended {
            return write::line(&mut self.output, 250, b' ', "", host_name);
        }
        let settings = &self.settings;
        let auth = self.auth_may_begin();
        let size = format!("SIZE {}", settings.size.unwrap_or(0));
        let offers = [
            (settings.pipelining, "PIPELINING"),
            (true, size.as_str()),
            (settings.tls == TlsState::Plain { starttls: true }, "STARTTLS"),
            (auth, "AUTH PLAIN LOGIN"),
            // How it was spelled before RFC 2554; some devices look for nothing else.
            (auth && settings.tolerant, "AUTH=PLAIN LOGIN"),
            (true, "ENHANCEDSTATUSCODES"),
            (settings.dsn, "DSN"),
            (settings.chunking, "CHUNKING"),
            (settings.utf8, "SMTPUTF8"),
        ];
        write::line(&mut self.output, 250, b'-', "", host_name);
        for (_, offer) in offers.into_iter().filter(|(offered, _)| *offered) {
            write::line(&mut self.output, 250, b'-', "", offer);
        }
        write::line(&mut self.output, 250, b' ', "", "8BITMIME");
    }

    fn start_tls(&mut self) {
        match self.settings.tls {
            TlsState::Secured => self.refuse(&words(503, "5.5.1", "TLS is in use already")),
            TlsState::Plain { starttls: false } => self.refuse(&words(502, "5.5.1", "STARTTLS is not offered here")),
            TlsState::Plain { starttls: true } => {
                self.drop_transaction(Dropped::Reset);
                self.say(&words(220, "2.0.0", "Begin the TLS handshake"));
                self.state = State::Handshake { discarded: 0 };
            }
        }
    }

    /// AUTH is offered in the present state of the connection.
    fn auth_may_begin(&self) -> bool {
        match self.settings.auth {
            AuthOffer::Never => false,
            AuthOffer::WhenSecured => self.is_secured(),
            AuthOffer::Always => true,
        }
    }

    fn auth(&mut self, argument: &[u8]) {
        if self.settings.auth == AuthOffer::Never {
            self.refuse(&words(502, "5.5.1", "AUTH is not offered here"));
        } else if self.hello.is_none() {
            self.refuse(&words(503, "5.5.1", "Say EHLO first"));
        } else if !self.auth_may_begin() {
            self.refuse(&words(538, "5.7.11", "Passwords are taken under TLS only: say STARTTLS first"));
        } else if self.authenticated {
            self.refuse(&words(503, "5.5.1", "You are signed in already"));
        } else if self.envelope.is_some() {
            self.refuse(&words(503, "5.5.1", "AUTH comes before MAIL"));
        } else {
            self.sasl_step(auth::begin(argument));
        }
    }

    pub(super) fn sasl_line(&mut self, exchange: Exchange, line: &[u8]) {
        self.sasl_step(exchange.hear(line));
    }

    fn sasl_step(&mut self, step: Step) {
        match step {
            Step::Challenge(challenge, exchange) => {
                self.output.extend_from_slice(b"334 ");
                self.output.extend_from_slice(challenge.as_bytes());
                self.output.extend_from_slice(b"\r\n");
                self.state = State::Sasl(exchange);
            }
            Step::Credentials(credentials) => self.authenticate(credentials),
            Step::Refused(words) => self.refuse(&words),
        }
    }

    fn authenticate(&mut self, credentials: Credentials) {
        self.ask(Pending::Authenticate, Event::Authenticate(credentials));
    }

    fn mail(&mut self, argument: &str) {
        if self.hello.is_none() {
            return self.refuse(&words(503, "5.5.1", "Say EHLO first"));
        }
        if self.envelope.is_some() {
            return self.refuse(&words(503, "5.5.1", "A sender is given already; RSET forgets it"));
        }
        if self.settings.login_required && !self.authenticated {
            let text = match self.settings.tls {
                TlsState::Plain { starttls: true } if !self.auth_may_begin() => {
                    "Sign in first: STARTTLS, then AUTH with name and password"
                }
                _ => "Sign in first: AUTH with name and password",
            };
            return self.refuse(&words(530, "5.7.0", text));
        }
        match self.read_mail(argument) {
            // Too large is no mistake of the client's grammar.
            Err(words) if words.code == 552 => self.say(&words),
            Err(words) => self.refuse(&words),
            Ok(mail) => self.ask(Pending::Mail(mail.clone()), Event::Mail(mail)),
        }
    }

    fn read_mail(&self, argument: &str) -> Result<Mail, Words> {
        let written = path::read(argument, "FROM", self.settings.tolerant).map_err(|bad| bad.words(true))?;
        let mut mail = Mail {
            from: written.path,
            size: None,
            body: None,
            utf8: false,
            ret: None,
            envid: None,
            auth: None,
            quirks: written.quirks,
        };
        parameters::of_mail(written.parameters, &mut mail, &self.settings)?;
        // RFC 6531 §3.5
        if !mail.utf8 && mail.from.as_ref().is_some_and(|path| !path.is_ascii()) {
            return Err(words(550, "5.6.7", "An address beyond ASCII needs SMTPUTF8 behind MAIL FROM"));
        }
        Ok(mail)
    }

    fn rcpt(&mut self, argument: &str) {
        let Some(envelope) = &self.envelope else {
            return self.refuse(&words(503, "5.5.1", "MAIL comes before RCPT"));
        };
        if self.chunks.is_some() {
            return self.refuse(&words(503, "5.5.1", "The message has begun; no recipient can be added"));
        }
        if envelope.recipients.len() >= self.settings.max_recipients {
            return self.say(&words(452, "4.5.3", "Too many recipients: send another message to the rest"));
        }
        match self.read_recipient(argument, envelope.mail.utf8) {
            Err(words) => self.refuse(&words),
            Ok(recipient) => self.ask(Pending::Rcpt(recipient.clone()), Event::Rcpt(recipient)),
        }
    }

    fn read_recipient(&self, argument: &str, utf8: bool) -> Result<Recipient, Words> {
        let written = path::read(argument, "TO", self.settings.tolerant).map_err(|bad| bad.words(false))?;
        let to = written.path.ok_or_else(|| path::BadPath::Mailbox.words(false))?;
        let mut recipient = Recipient { to, notify: None, orcpt: None, quirks: written.quirks };
        parameters::of_recipient(written.parameters, &mut recipient, &self.settings)?;
        // RFC 6531 §3.5
        if !utf8 && !recipient.to.is_ascii() {
            return Err(words(553, "5.6.7", "An address beyond ASCII needs SMTPUTF8 behind MAIL FROM"));
        }
        Ok(recipient)
    }

    /// Why no message may begin, if so.
    fn not_ready(&self) -> Option<Words> {
        match &self.envelope {
            None => Some(words(503, "5.5.1", "MAIL and RCPT come before the message")),
            Some(envelope) if envelope.recipients.is_empty() => {
                Some(words(554, "5.5.1", "No recipient was accepted, so no message is taken"))
            }
            Some(_) => None,
        }
    }

    fn data(&mut self) {
        if let Some(words) = self.not_ready() {
            self.refuse(&words);
        } else if self.chunks.is_some() {
            self.refuse(&words(503, "5.5.1", "The message came in chunks so far: go on with BDAT, or say RSET"));
        } else {
            let expected = self.envelope.as_ref().and_then(|envelope| envelope.mail.size);
            self.ask(Pending::Data, Event::Data { expected });
        }
    }

    fn bdat(&mut self, chunk: bdat::Chunk) {
        let not_offered = || words(502, "5.5.1", "BDAT is not offered here");
        if let Some(words) = (!self.settings.chunking).then(not_offered).or_else(|| self.not_ready()) {
            // The chunk follows all the same; taken for commands it would be a second session within this one.
            let mut reply = BytesMut::new();
            words.write(&mut reply);
            self.bad_commands += 1;
            self.state = State::RefusedChunk { left: chunk.octets, reply, closes: false };
        } else if let Some(body) = self.chunks.take() {
            // An empty chunk brings the message no further, so it counts as idle talk.
            self.commands -= u32::from(chunk.octets > 0);
            self.state = State::Chunk { body, left: chunk.octets, last: chunk.last, octets: chunk.octets };
        } else {
            let announced = self.envelope.as_ref().and_then(|envelope| envelope.mail.size);
            let expected = announced.or(Some(chunk.octets));
            self.ask(Pending::Chunk(chunk), Event::Data { expected });
        }
    }
}
