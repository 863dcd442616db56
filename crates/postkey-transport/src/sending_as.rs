//! Which From needs which right, and what the recipient then sees. Exchange Online judges; this table explains.
//!
//! | From is | needed beside permission to send from the mailbox | the recipient sees | copy |
//! |---|---|---|---|
//! | the mailbox | nothing | the mailbox | its Sent Items |
//! | another address of the mailbox | nothing; an organization's switch decides whether it shows (`Set-OrganizationConfig -SendFromAliasEnabled`, unverified) | the alias or the primary address | its Sent Items |
//! | a shared mailbox, sent through it | nothing: it is its own mailbox | the shared mailbox | its Sent Items |
//! | another mailbox, a group or a list, Sender absent or the same | Send As | that address alone | the sending mailbox's Sent Items |
//! | the same, Sender the mailbox | Send on Behalf (or Send As) | "mailbox on behalf of address" | the sending mailbox's Sent Items |
//!
//! The null reverse-path does not appear: Exchange Online submits as a mailbox only, so a report without a sender leaves
//! with the mailbox as its reverse-path.

use postkey_base::{Diagnose, EmailAddress, Who, powershell};

use crate::outcome::TransportError;

/// Whose name a message bears, against whose mailbox sends it.
#[derive(Debug, Clone, Copy)]
pub struct SendingAs<'a> {
    /// The mailbox that sends.
    pub mailbox: &'a EmailAddress,
    /// Its further addresses, as far as they are known.
    pub aliases: &'a [EmailAddress],
    /// The first address of From; the mailbox when there is none.
    pub from: &'a EmailAddress,
    /// The address of Sender.
    pub sender: Option<&'a EmailAddress>,
}

/// How From relates to the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Represents {
    /// From is the mailbox.
    Itself,
    /// From is another address of the mailbox.
    Alias,
    /// From is somebody else, and the message says who really sends.
    OnBehalf,
    /// From is somebody else, as if they sent.
    SomebodyElse,
}

/// A right in Exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Both names become the represented one.
    SendAs,
    /// The recipient sees both.
    SendOnBehalf,
}

impl Represents {
    /// The rights of which one must be held on From.
    pub fn needs(self) -> &'static [Right] {
        match self {
            // An alias needs no right: the organization's switch decides whether it is shown.
            Self::Itself | Self::Alias => &[],
            Self::OnBehalf => &[Right::SendOnBehalf, Right::SendAs],
            Self::SomebodyElse => &[Right::SendAs, Right::SendOnBehalf],
        }
    }

    /// What a recipient sees as the sender.
    pub fn recipient_sees(self, case: &SendingAs<'_>) -> String {
        match self {
            Self::Itself => case.mailbox.to_string(),
            Self::Alias => format!("{}, or {} where sending from aliases is off", case.from, case.mailbox),
            Self::OnBehalf => format!("{} on behalf of {}", case.mailbox, case.from),
            Self::SomebodyElse => case.from.to_string(),
        }
    }
}

/// How this From relates to the mailbox: see the table above.
pub fn sending_as(case: &SendingAs<'_>) -> Represents {
    if case.from == case.mailbox {
        Represents::Itself
    } else if case.aliases.contains(case.from) {
        Represents::Alias
    } else if case.sender.is_some_and(|sender| sender == case.mailbox || case.aliases.contains(sender)) {
        Represents::OnBehalf
    } else {
        Represents::SomebodyElse
    }
}

impl Right {
    /// The command of Exchange Online PowerShell that grants it to the mailbox `to` on `from`.
    pub fn command(self, from: &EmailAddress, to: &EmailAddress) -> String {
        let from = powershell::word(from.as_str());
        match self {
            Self::SendAs => format!(
                "Add-RecipientPermission {from} -AccessRights SendAs -Trustee {} -Confirm:$false",
                powershell::word(to.as_str())
            ),
            Self::SendOnBehalf => {
                format!("Set-Mailbox {from} -GrantSendOnBehalfTo @{{Add={}}}", powershell::quoted(to.as_str()))
            }
        }
    }
}

/// Exchange Online does not let the mailbox send with this From.
#[derive(Debug, thiserror::Error)]
#[error("{mailbox} may not send as {from}: it has neither Send As nor Send on Behalf there")]
pub struct SendAsDenied {
    /// The mailbox that wanted to send.
    pub mailbox: EmailAddress,
    /// The message's From.
    pub from: EmailAddress,
    /// How the one relates to the other.
    pub represents: Represents,
    /// What Exchange Online said.
    #[source]
    pub refusal: Box<TransportError>,
}

impl Diagnose for SendAsDenied {
    fn code(&self) -> &'static str {
        self.refusal.code()
    }

    fn why(&self) -> Option<String> {
        self.refusal.why()
    }

    fn remedy(&self) -> String {
        let Self { mailbox, from, .. } = self;
        if from == mailbox {
            return format!(
                "Exchange Online names the right that is missing; look at what {mailbox} may send as: \
                 Get-RecipientPermission {}",
                powershell::word(mailbox.as_str())
            );
        }
        let right = self.represents.needs().first().copied().unwrap_or(Right::SendAs);
        format!(
            "Send with {mailbox} in From, or let an Exchange administrator run in Exchange Online PowerShell: {}. If {from} is an address of {mailbox} itself: Set-OrganizationConfig \
             -SendFromAliasEnabled $true.",
            right.command(from, mailbox)
        )
    }

    fn who(&self) -> Who {
        Who::ExchangeAdministrator
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        self.refusal.evidence()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> EmailAddress {
        text.parse().unwrap()
    }

    #[test]
    fn each_from_needs_its_right_and_shows_its_name() {
        let mailbox = address("noreply@contoso.example");
        let aliases = [address("mail@contoso.example")];
        for (from, sender, represents, needs, sees) in [
            ("noreply@contoso.example", None, Represents::Itself, None, "noreply@contoso.example"),
            ("NoReply@Contoso.example", None, Represents::Itself, None, "noreply@contoso.example"),
            (
                "mail@contoso.example",
                None,
                Represents::Alias,
                None,
                "mail@contoso.example, or noreply@contoso.example where sending from aliases is off",
            ),
            ("boss@contoso.example", None, Represents::SomebodyElse, Some(Right::SendAs), "boss@contoso.example"),
            (
                "boss@contoso.example",
                Some("boss@contoso.example"),
                Represents::SomebodyElse,
                Some(Right::SendAs),
                "boss@contoso.example",
            ),
            (
                "boss@contoso.example",
                Some("noreply@contoso.example"),
                Represents::OnBehalf,
                Some(Right::SendOnBehalf),
                "noreply@contoso.example on behalf of boss@contoso.example",
            ),
        ] {
            let (from, sender) = (address(from), sender.map(address));
            let case = SendingAs { mailbox: &mailbox, aliases: &aliases, from: &from, sender: sender.as_ref() };
            let answer = sending_as(&case);
            assert_eq!((answer, answer.needs().first().copied()), (represents, needs), "{from} {sender:?}");
            assert_eq!(answer.recipient_sees(&case), sees, "{from} {sender:?}");
        }
    }

    #[test]
    fn the_commands_are_ready_to_run() {
        let (boss, me) = (address("boss@contoso.example"), address("o'neil@contoso.example"));
        assert_eq!(
            Right::SendAs.command(&boss, &me),
            "Add-RecipientPermission boss@contoso.example -AccessRights SendAs -Trustee 'o''neil@contoso.example' \
             -Confirm:$false"
        );
        assert_eq!(
            Right::SendOnBehalf.command(&boss, &address("a@contoso.example")),
            "Set-Mailbox boss@contoso.example -GrantSendOnBehalfTo @{Add='a@contoso.example'}"
        );
    }
}
