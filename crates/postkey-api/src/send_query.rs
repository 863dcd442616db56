//! The query of `POST /v1/send`: the envelope and the time, for a message that says neither.

use jiff::Timestamp;
use postkey_base::EmailAddress;

use crate::{
    refusal::Refusal,
    send_request::{Address, Importance},
};

/// What the query says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SendQuery {
    pub(crate) to: Vec<EmailAddress>,
    pub(crate) from: Option<EmailAddress>,
    pub(crate) sender: Option<String>,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) priority: Option<Importance>,
}

impl SendQuery {
    /// Reads it; a name that is not known, or one that stands twice where once is meant, is refused.
    pub(crate) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        if query.is_empty() {
            return Ok(parsed);
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let bad = |why: &str| Refusal::Parameter { what: format!("the query: {name}: {why}") };
            let address = || value.parse::<Address>().map(|address| address.0).map_err(|why| bad(&why));
            let twice = || bad("it stands more than once");
            match &*name {
                "to" if parsed.to.len() == MAX_RECIPIENTS_IN_QUERY => return Err(bad("these are too many recipients")),
                "to" => parsed.to.push(address()?),
                "from" => once(&mut parsed.from, address()?).ok_or_else(twice)?,
                "sender" if is_name(&value) => {
                    once(&mut parsed.sender, value.clone().into_owned()).ok_or_else(twice)?;
                }
                "sender" => return Err(bad("it is no name of a sender")),
                "not_before" => {
                    let time = value.parse().map_err(|_| bad("it is no time such as 2026-11-24T07:05:00Z"))?;
                    once(&mut parsed.not_before, time).ok_or_else(twice)?;
                }
                "priority" => {
                    let priority = match &*value {
                        "low" => Importance::Low,
                        "normal" => Importance::Normal,
                        "high" => Importance::High,
                        _ => return Err(bad("it is none of low, normal and high")),
                    };
                    once(&mut parsed.priority, priority).ok_or_else(twice)?;
                }
                _ => return Err(bad("there is no such parameter")),
            }
        }
        Ok(parsed)
    }
}

/// More do not fit into a URI that every proxy lets through; longer lists belong into a header or JSON.
const MAX_RECIPIENTS_IN_QUERY: usize = 100;

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    match place.replace(value) {
        None => Some(()),
        Some(_) => None,
    }
}

/// 1 to 200 characters, none of them a control character.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 200 && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_it_says_once() {
        for (query, good) in [
            ("", true),
            ("to=a@x.example&to=b%40x.example&from=me@x.example", true),
            ("sender=billing&not_before=2026-11-24T07:05:00Z&priority=high", true),
            ("to=", false),
            ("to=alice", false),
            ("from=a@x.example&from=b@x.example", false),
            ("sender=", false),
            ("sender=a%00b", false),
            ("not_before=tomorrow", false),
            ("priority=urgent", false),
            ("unknown=1", false),
        ] {
            assert_eq!(SendQuery::parse(query).is_ok(), good, "{query}");
        }
        let parsed = SendQuery::parse("to=a@x.example&to=b%2Bc%40x.example").unwrap();
        assert_eq!(parsed.to, ["a@x.example".parse().unwrap(), "b+c@x.example".parse().unwrap()]);
    }
}
