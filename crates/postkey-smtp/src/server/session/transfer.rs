//! Messages on their way in, and what the driver's answers lead to.

use super::{
    super::{body::Whole, parameters::too_large},
    *,
};

impl Session {
    /// The driver's decision on `pending`.
    pub(super) fn answered(&mut self, pending: Pending, answer: Answer) {
        let reply = match answer {
            Answer::Accept => None,
            Answer::Say(reply) => Some(reply),
        };
        let accepted = reply.as_ref().is_none_or(Reply::is_positive);
        let closes = reply.as_ref().is_some_and(|reply| reply.code() == 421);
        if let (Pending::Chunk(chunk), Some(refusal), false) = (&pending, &reply, accepted) {
            let mut reply = BytesMut::new();
            encode(refusal, &mut reply);
            self.forget_transaction();
            self.state = State::RefusedChunk { left: chunk.octets, reply, closes };
            return;
        }
        let usual = match &pending {
            Pending::Authenticate => words(235, "2.7.0", "Signed in"),
            Pending::Mail(_) => words(250, "2.1.0", "The sender is accepted"),
            Pending::Rcpt(_) => words(250, "2.1.5", "The recipient is accepted"),
            Pending::Data => words(354, "", "Send the message, and a line with a single dot at its end"),
            Pending::Chunk(_) => words(250, "", ""),
            Pending::Message => words(250, "2.0.0", "The message is accepted"),
        };
        match (&pending, &reply) {
            (Pending::Chunk(_), _) => {}
            (Pending::Data, Some(_)) if accepted => self.say(&usual),
            (_, Some(reply)) => encode(reply, &mut self.output),
            (_, None) => self.say(&usual),
        }
        if closes {
            self.forget_transaction();
            return self.end(End::Ours, None);
        }
        match pending {
            Pending::Authenticate => self.authenticated = accepted,
            Pending::Mail(mail) if accepted => self.envelope = Some(Envelope { mail, recipients: Vec::new() }),
            Pending::Rcpt(recipient) if accepted => {
                self.commands -= 1;
                if let Some(envelope) = &mut self.envelope {
                    envelope.recipients.push(recipient);
                }
            }
            Pending::Data if accepted => {
                let (limit, longest) = (self.settings.largest_message(), self.settings.max_message_line);
                self.state = State::Data(Box::new(Body::dotted(limit, longest, self.announced())));
            }
            Pending::Chunk(chunk) => {
                let (limit, longest) = (self.settings.largest_message(), self.settings.max_message_line);
                let expected = self.announced().or(Some(chunk.octets));
                let body = Box::new(Body::chunked(limit, longest, expected));
                self.state = State::Chunk { body, left: chunk.octets, last: chunk.last, octets: chunk.octets };
            }
            Pending::Message if accepted => self.commands = 0,
            Pending::Data => self.forget_transaction(),
            Pending::Mail(_) | Pending::Rcpt(_) | Pending::Message => {}
        }
    }

    fn announced(&self) -> Option<u64> {
        self.envelope.as_ref().and_then(|envelope| envelope.mail.size)
    }

    /// Without telling: the driver refused it itself.
    fn forget_transaction(&mut self) {
        self.envelope = None;
        self.chunks = None;
    }

    /// Goes on with a message from what was read before. Says whether something was done.
    pub(super) fn continue_transfer(&mut self) -> bool {
        let input = std::mem::take(&mut self.input);
        let taken = self.transfer(&input[self.start..]);
        self.input = input;
        self.consume(taken);
        !matches!(self.state, State::Data(_) | State::Chunk { .. } | State::RefusedChunk { .. })
    }

    /// Gives a message what belongs to it; outside of one, nothing.
    pub(super) fn transfer(&mut self, bytes: &[u8]) -> usize {
        let within = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match &mut self.state {
            State::Data(body) => {
                let taken = body.take(bytes);
                if body.has_ended() {
                    self.message_ended();
                }
                taken
            }
            State::Chunk { body, left, .. } => {
                let taken = body.take(&bytes[..within(*left)]);
                *left -= taken as u64;
                if *left == 0 {
                    self.chunk_ended();
                }
                taken
            }
            State::RefusedChunk { left, .. } => {
                let taken = within(*left);
                *left -= taken as u64;
                if *left == 0 {
                    self.refused_chunk_ended();
                }
                taken
            }
            _ => 0,
        }
    }

    fn message_ended(&mut self) {
        if let State::Data(body) = std::mem::replace(&mut self.state, State::Command) {
            self.received(*body, false);
        }
    }

    fn chunk_ended(&mut self) {
        let State::Chunk { body, last, octets, .. } = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        if last {
            self.received(*body, true);
        } else if let Some(flaw) = body.flaw() {
            self.refuse_message(flaw);
        } else {
            self.chunks = Some(body);
            self.say(&Words::made(250, "2.0.0", format!("{octets} octets are taken")));
        }
    }

    fn refused_chunk_ended(&mut self) {
        if let State::RefusedChunk { reply, closes, .. } = std::mem::replace(&mut self.state, State::Command) {
            self.output.extend_from_slice(&reply);
            if closes {
                self.end(End::Ours, None);
            } else if self.bad_commands > self.settings.max_bad_commands {
                self.too_many_bad_commands();
            }
        }
    }

    fn received(&mut self, body: Body, chunked: bool) {
        match (body.finish(), self.envelope.take()) {
            (Ok(Whole { body, longest_line }), Some(envelope)) => {
                let eight_bit = !body.is_ascii();
                let received = Received { envelope, body, eight_bit, longest_line, chunked };
                self.ask(Pending::Message, Event::Message(Box::new(received)));
            }
            (Err(flaw), envelope) => {
                self.envelope = envelope;
                self.refuse_message(flaw);
            }
            // A body begins only behind an accepted recipient.
            (Ok(_), None) => self.say(&words(451, "4.3.0", "The message was lost on its way in; send it again")),
        }
    }

    fn refuse_message(&mut self, flaw: Dropped) {
        let reply = match flaw {
            Dropped::TooLarge => too_large(self.settings.largest_message()),
            Dropped::Nul => words(554, "5.6.0", "The message holds a NUL byte; encode it as base64"),
            Dropped::LineTooLong => {
                let most = self.settings.max_message_line;
                Words::made(554, "5.6.0", format!("A line of the message is longer than {most} octets"))
            }
            // The code Exchange uses for it.
            Dropped::BareLineEnd | Dropped::Reset | Dropped::Closed => {
                words(550, "5.6.11", "A line of the message ends with CR or LF alone; every line must end with CR LF")
            }
        };
        self.say(&reply);
        self.drop_transaction(flaw);
    }
}

/// A driver's reply; one that is neither a yes nor a no would leave the client hanging.
fn encode(reply: &Reply, out: &mut BytesMut) {
    if reply.is_positive() || reply.is_transient() || reply.is_permanent() {
        encode_reply(reply, out);
    } else {
        words(451, "4.3.0", "No decision could be made; try again").write(out);
    }
}
