//! Sends one message: chooses, repairs, hands over, reports. And looks whether one was sent.

use postkey_base::EmailAddress;
use postkey_graph::Graph;

use crate::{
    envelope::Envelope,
    message::Message,
    outcome::{Outcome, Report, TransportError},
    repair::{Carrier, Stamp, prepare},
    route::{Abilities, Choice, Route, Traits, choose},
    smtp_route::SmtpRoute,
};

/// How one sender's mail leaves.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The mailbox it is sent from.
    pub mailbox: EmailAddress,
    /// What the sender may do today.
    pub abilities: Abilities,
    /// Graph, with tokens for Graph.
    pub graph: Option<Graph>,
    /// SMTP, with tokens for Exchange Online.
    pub smtp: Option<SmtpRoute>,
}

impl Transport {
    /// Sends `message` to the envelope's recipients, once. Nothing is retried here: whoever queued it decides. With the same
    /// `stamp` a second attempt sends the same bytes.
    pub async fn send(&self, message: &Message, envelope: &Envelope, stamp: &Stamp) -> Report {
        let mut report = Report { message_id: None, choice: None, repairs: Vec::new(), outcome: never() };
        report.outcome = match self.choose(message, envelope) {
            Ok(choice) => {
                report.choice = Some(choice.clone());
                self.send_by(&choice, message, envelope, stamp, &mut report).await
            }
            Err(error) => Outcome::Refused(error),
        };
        report
    }

    /// The route this message would take.
    pub fn choose(&self, message: &Message, envelope: &Envelope) -> Result<Choice, TransportError> {
        let mut abilities = self.abilities.clone();
        abilities.graph_send &= self.graph.is_some();
        abilities.graph_read_write &= self.graph.is_some();
        abilities.smtp &= self.smtp.is_some();
        Ok(choose(&Traits::of(message, envelope), &abilities)?)
    }
}
