//! Faults asked for by an address: `someone+429@…`, `+503`, `+504-delivered`, `+202`, `+200`, `+drop`, `+slow`,
//! `+sendas`, `+stop251`, `+chunk`, `+ndr`, `+terrl`. A tag may end in `-once`: it is met at the first send and not again.

use super::state::MailState;

/// What an address asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressFault {
    pub(crate) kind: FaultKind,
    /// The message goes through all the same; only the answer is spoilt.
    pub(crate) delivered: bool,
    once: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// This status (Graph) or reply code (SMTP).
    Status(u16),
    /// No answer: the connection is cut.
    Drop,
    /// The answer comes late.
    Slow,
    /// Accepted, and the mailbox asks to be left alone for a while: 202 with `Retry-After`. By SMTP accepted as ever.
    AcceptedButRest,
    /// 200 where 202 is documented: it proves nothing. By SMTP accepted as ever.
    Okay,
    /// The mailbox may not send as this sender.
    SendAsDenied,
    /// SMTP: the mailbox is stopped for continuous errors, `550 5.2.251` to `5.2.255`. By Graph nothing.
    Stopped(u16),
    /// The first range of an upload session is lost with its connection.
    ChunkLost,
    /// Accepted, then reported as undeliverable.
    Undeliverable,
    /// Accepted, then reported as over the organization's limit of external recipients.
    OverExternalLimit,
}

impl FaultKind {
    /// What the report says of a recipient that asked for one.
    pub(crate) fn report(self) -> Option<&'static str> {
        match self {
            Self::Undeliverable => {
                Some("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup")
            }
            Self::OverExternalLimit => Some(super::delivery::EXTERNAL_LIMIT),
            _ => None,
        }
    }

    /// Met when a message is sent; the others are met before or after.
    fn is_of_sending(self) -> bool {
        !matches!(self, Self::Undeliverable | Self::OverExternalLimit | Self::ChunkLost)
    }
}

/// How long [`FaultKind::AcceptedButRest`] asks to be left alone, in seconds.
pub(crate) const REST: &str = "30";

/// What is said of a mailbox that is stopped for continuous errors.
pub(crate) fn stopped(detail: u16) -> String {
    let errors = match detail {
        251 => "mailbox full",
        252 => "send as denied",
        253 => "invalid license",
        254 => "too many recipients",
        _ => "invalid recipients",
    };
    format!("550 5.2.{detail} Sender throttled due to continuous {errors} errors.")
}

/// How late a slow answer comes, in milliseconds.
pub(crate) const SLOW_MS: u64 = 5_000;
/// Addresses remembered for `-once`.
const REMEMBERED: usize = 10_000;

/// The fault that this address asks for, if any.
pub(crate) fn parse(address: &str) -> Option<AddressFault> {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    let (_, tag) = local.rsplit_once('+')?;
    let mut words = tag.split('-');
    let first = words.next()?;
    let kind = match first.to_ascii_lowercase().as_str() {
        "drop" => FaultKind::Drop,
        "slow" => FaultKind::Slow,
        "ndr" => FaultKind::Undeliverable,
        "terrl" => FaultKind::OverExternalLimit,
        "sendas" => FaultKind::SendAsDenied,
        "chunk" => FaultKind::ChunkLost,
        "202" => FaultKind::AcceptedButRest,
        "200" => FaultKind::Okay,
        "stop251" => FaultKind::Stopped(251),
        "stop252" => FaultKind::Stopped(252),
        "stop253" => FaultKind::Stopped(253),
        "stop254" => FaultKind::Stopped(254),
        "stop255" => FaultKind::Stopped(255),
        number if number.len() == 3 => FaultKind::Status(number.parse().ok().filter(|code| (400..600).contains(code))?),
        _ => return None,
    };
    let delivered = matches!(kind, FaultKind::Slow | FaultKind::AcceptedButRest);
    let mut fault = AddressFault { kind, delivered, once: false };
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "delivered" => fault.delivered = true,
            "once" => fault.once = true,
            _ => return None,
        }
    }
    Some(fault)
}

/// The first fault that one of these addresses asks for now.
pub(crate) fn met<'a>(mail: &mut MailState, addresses: impl Iterator<Item = &'a str>) -> Option<AddressFault> {
    for address in addresses {
        let Some(fault) = parse(address) else { continue };
        if !fault.kind.is_of_sending() {
            continue;
        }
        if fault.once {
            let key = address.to_ascii_lowercase();
            if mail.faults_met.contains_key(&key) {
                continue;
            }
            if mail.faults_met.len() < REMEMBERED {
                mail.faults_met.insert(key, 1);
            }
        }
        return Some(fault);
    }
    None
}

/// `alice+tag@domain` is `alice@domain`: plus addressing is on in Exchange Online.
pub(crate) fn without_tag(address: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    let (base, _) = local.split_once('+')?;
    Some(format!("{base}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_a_fault_or_nothing() {
        for (address, want) in [
            ("alice+429@x.example", Some((FaultKind::Status(429), false, false))),
            ("alice+504-delivered@x.example", Some((FaultKind::Status(504), true, false))),
            ("alice+503-once@x.example", Some((FaultKind::Status(503), false, true))),
            ("alice+drop@x.example", Some((FaultKind::Drop, false, false))),
            ("alice+drop-delivered-once@x.example", Some((FaultKind::Drop, true, true))),
            ("alice+slow@x.example", Some((FaultKind::Slow, true, false))),
            ("alice+ndr@x.example", Some((FaultKind::Undeliverable, false, false))),
            ("alice+202@x.example", Some((FaultKind::AcceptedButRest, true, false))),
            ("alice+200@x.example", Some((FaultKind::Okay, false, false))),
            ("alice+200-delivered@x.example", Some((FaultKind::Okay, true, false))),
            ("alice+stop253@x.example", Some((FaultKind::Stopped(253), false, false))),
            ("alice+stop256@x.example", None),
            ("alice+chunk-delivered@x.example", Some((FaultKind::ChunkLost, true, false))),
            ("alice+299@x.example", None),
            ("alice+news@x.example", None),
            ("alice@x.example", None),
            ("alice@x+429.example", None),
        ] {
            let found = parse(address).map(|fault| (fault.kind, fault.delivered, fault.once));
            assert_eq!(found, want, "{address}");
        }
    }

    #[test]
    fn once_is_met_once() {
        let mut mail = MailState::default();
        assert!(met(&mut mail, ["a+503-once@x"].into_iter()).is_some());
        assert!(met(&mut mail, ["a+503-once@x"].into_iter()).is_none());
        assert!(met(&mut mail, ["a+503@x"].into_iter()).is_some());
        assert!(met(&mut mail, ["a+503@x"].into_iter()).is_some());
    }
}
