//! Sends one message: chooses, repairs, hands over, reports. And looks whether one was sent.

use jiff::Timestamp;
use postkey_base::EmailAddress;
use postkey_graph::{Graph, GraphError, folders::Folder, messages};
use uuid::Uuid;

use crate::{
    draft::draft_of,
    envelope::Envelope,
    fall_back::fall_back,
    graph_route,
    message::Message,
    outcome::{FellBack, Outcome, Report, SessionError, TransportError},
    repair::{Carrier, ID_HEADER, Prepared, Stamp, prepare},
    route::{Abilities, Choice, Route, RouteError, SendWish, Traits, choose, choose_wished},
    sending_as::{SendAsDenied, SendingAs, sending_as},
    smtp_refusal::SmtpMeaning,
    smtp_route::SmtpRoute,
};

/// How one sender's mail leaves.
#[derive(Clone)]
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

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({})", self.mailbox)
    }
}

impl Transport {
    /// The route this message would take.
    pub fn choose(&self, message: &Message, envelope: &Envelope) -> Result<Choice, RouteError> {
        choose(&Traits::of(message, envelope), &self.present_abilities())
    }

    /// Sends `message` to the envelope's recipients, once, with no wishes: see [`Transport::send_wished`].
    pub async fn send(&self, message: &Message, envelope: &Envelope, stamp: &Stamp) -> Report {
        self.send_wished(message, envelope, stamp, &SendWish::default()).await
    }

    /// Sends `message` to the envelope's recipients, once. Nothing is retried here: whoever queued it decides. With the
    /// same `stamp` a second attempt sends the same bytes. A way that refuses for certain, for a reason that another one
    /// does not know, is followed by that one: [`Report::fell_back`] tells.
    pub async fn send_wished(&self, message: &Message, envelope: &Envelope, stamp: &Stamp, wish: &SendWish) -> Report {
        let abilities = self.present_abilities();
        let traits = Traits::of(message, envelope);
        let choice = match choose_wished(&traits, &abilities, wish) {
            Ok(choice) => choice,
            Err(error) => return Report::refused(None, error.into()),
        };
        let report = self.send_by(choice, message, envelope, stamp).await;
        let Some((left, because)) = fall_back(&report, message.size(), &abilities) else { return report };
        let Ok(second) = choose(&traits, &left) else { return report };
        let Report { choice: Some(from), outcome: Outcome::Refused(refusal), .. } = report else { return report };
        tracing::info!(mailbox = %self.mailbox, from = %from.route, to = %second.route, %because, "falling back");
        let mut report = self.send_by(second, message, envelope, stamp).await;
        report.fell_back = Some(FellBack { from, because, refusal });
        report
    }

    /// What the sender may do and what is there to do it with.
    fn present_abilities(&self) -> Abilities {
        let mut abilities = self.abilities.clone();
        abilities.graph_send &= self.graph.is_some();
        abilities.graph_read_write &= self.graph.is_some();
        abilities.smtp &= self.smtp.is_some();
        abilities
    }

    async fn send_by(&self, choice: Choice, message: &Message, envelope: &Envelope, stamp: &Stamp) -> Report {
        let carrier = if choice.route.is_graph() { Carrier::Graph } else { Carrier::Smtp };
        let prepared = match prepare(message, envelope, carrier, stamp) {
            Ok(prepared) => prepared,
            Err(error) => return Report::refused(Some(choice), error.into()),
        };
        tracing::debug!(
            mailbox = %self.mailbox, route = %choice.route, reason = %choice.reason, message_id = prepared.message_id(),
            repairs = ?prepared.repairs().iter().map(|repair| repair.kind.name()).collect::<Vec<_>>(),
            "sending"
        );
        let (prepared, outcome) = self.hand_over_somehow(&choice, prepared, message, envelope, stamp).await;
        let outcome = match outcome {
            Outcome::Refused(refusal) => Outcome::Refused(self.naming_the_right(refusal, message)),
            outcome => outcome,
        };
        Report {
            message_id: Some(prepared.message_id().to_owned()),
            choice: Some(choice),
            repairs: prepared.repairs().to_vec(),
            outcome,
            fell_back: None,
        }
    }

    /// Hands it over; once more without bytes above 127 to a server that takes none and has therefore taken nothing.
    async fn hand_over_somehow(
        &self,
        choice: &Choice,
        prepared: Prepared,
        message: &Message,
        envelope: &Envelope,
        stamp: &Stamp,
    ) -> (Prepared, Outcome) {
        let outcome = self.hand_over(choice.route, &prepared, envelope).await;
        let lacks = |error: &TransportError| {
            matches!(error, TransportError::Session(SessionError::Missing { of_message: true, .. }))
        };
        if !matches!(&outcome, Outcome::Refused(error) if lacks(error)) || prepared.bytes().is_ascii() {
            return (prepared, outcome);
        }
        match prepare(message, envelope, Carrier::SmtpSevenBit, stamp) {
            Ok(seven_bit) if seven_bit.bytes().is_ascii() => {
                let outcome = self.hand_over(choice.route, &seven_bit, envelope).await;
                (seven_bit, outcome)
            }
            _ => (prepared, outcome),
        }
    }

    /// A denial of From, with the right that is missing.
    fn naming_the_right(&self, refusal: TransportError, message: &Message) -> TransportError {
        let denied = match &refusal {
            TransportError::Graph(error) => matches!(**error, GraphError::SendAsDenied(_)),
            TransportError::Smtp(refused) => refused.meaning == SmtpMeaning::SendAsDenied,
            _ => false,
        };
        if !denied {
            return refusal;
        }
        let (from, sender) = (message.from().unwrap_or_else(|| self.mailbox.clone()), message.sender());
        let case = SendingAs { mailbox: &self.mailbox, aliases: &[], from: &from, sender: sender.as_ref() };
        let represents = sending_as(&case);
        let (mailbox, refusal) = (self.mailbox.clone(), Box::new(refusal));
        TransportError::SendAsDenied(Box::new(SendAsDenied { mailbox, from, represents, refusal }))
    }

    async fn hand_over(&self, route: Route, prepared: &Prepared, envelope: &Envelope) -> Outcome {
        match (route, &self.graph, &self.smtp) {
            (Route::GraphMime, Some(graph), _) => graph_route::send_mime(graph, &self.mailbox, prepared.bytes()).await,
            (Route::GraphDraftUpload | Route::GraphJson, Some(graph), _) => {
                let draft = match Message::parse(prepared.bytes().clone()) {
                    Ok(message) => draft_of(&message, envelope),
                    Err(error) => return Outcome::Refused(error.into()),
                };
                match route {
                    Route::GraphJson => graph_route::send_json(graph, &self.mailbox, draft).await,
                    _ => graph_route::send_draft(graph, &self.mailbox, &draft).await,
                }
            }
            (Route::Smtp, _, Some(smtp)) => smtp.send(&self.mailbox, envelope, prepared.bytes()).await,
            // `choose` counts only what is there.
            _ => Outcome::Refused(TransportError::Route(RouteError::NoRoute)),
        }
    }
}

impl Report {
    fn refused(choice: Option<Choice>, error: TransportError) -> Self {
        Self { message_id: None, choice, repairs: Vec::new(), outcome: Outcome::Refused(error), fell_back: None }
    }
}

/// The copy in Sent Items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentCopy {
    /// Graph's immutable id.
    pub id: String,
    /// When it was sent.
    pub sent: Option<Timestamp>,
    /// Our own stamp was found on it: it is this very submission, not another with the same Message-ID.
    pub confirmed: bool,
}

/// Looks for a message in Sent Items by its Message-ID (angle brackets included). A draft proves nothing: sendMail makes
/// one before it answers. `None` proves nothing either until some time has passed: the copy moves there only after
/// transport has taken it.
///
/// # Errors
/// [`GraphError::AccessDenied`] without a permission to read mail.
pub async fn seen_in_sent(
    graph: &Graph,
    mailbox: &EmailAddress,
    message_id: &str,
    stamp: Option<Uuid>,
) -> Result<Option<SentCopy>, GraphError> {
    let found = messages::find_by_internet_message_id(graph, mailbox, Some(&Folder::SentItems), message_id).await?;
    Ok(found.into_iter().find_map(|copy| judge(copy, stamp)))
}

/// Whether a message found is the copy that was looked for.
fn judge(copy: messages::Message, stamp: Option<Uuid>) -> Option<SentCopy> {
    if copy.is_draft {
        return None;
    }
    let seen = copy.header(ID_HEADER).map(|value| value.trim().parse::<Uuid>().ok());
    let confirmed = match (stamp, seen) {
        (Some(wanted), Some(seen)) if seen != Some(wanted) => return None,
        (Some(_), Some(_)) => true,
        _ => false,
    };
    Some(SentCopy { id: copy.id, sent: copy.sent, confirmed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(is_draft: bool, stamp: Option<&str>) -> messages::Message {
        messages::Message {
            id: "AAMk".into(),
            internet_message_id: Some("<1@x.example>".into()),
            subject: None,
            is_draft,
            parent_folder_id: None,
            sent: None,
            received: None,
            has_attachments: false,
            internet_message_headers: stamp
                .map(|value| messages::MessageHeader { name: "x-postkey-id".into(), value: value.into() })
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn only_a_copy_that_is_no_draft_and_not_anothers_counts() {
        let ours = Uuid::from_u128(7);
        let text = ours.to_string();
        for (is_draft, header, stamp, expected) in [
            (false, Some(text.as_str()), Some(ours), Some(true)),
            (false, Some(text.as_str()), None, Some(false)),
            (false, None, Some(ours), Some(false)),
            (false, Some("00000000-0000-0000-0000-000000000008"), Some(ours), None),
            (false, Some("nonsense"), Some(ours), None),
            (true, Some(text.as_str()), Some(ours), None),
        ] {
            let judged = judge(copy(is_draft, header), stamp);
            assert_eq!(judged.map(|copy| copy.confirmed), expected, "{is_draft} {header:?} {stamp:?}");
        }
    }
}
