//! `$filter` over messages: comparisons, `and`, `or`, `not`, a few functions, and `any` over extended properties.

use jiff::{Timestamp, civil::Date};
use serde_json::Value;

use super::{
    json_write::{self, View},
    mailbox::StoredMessage,
    refusal::Refusal,
};

/// A parsed `$filter`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Compare(String, Comparison, Value),
    /// `contains`, `startswith`, `endswith`
    Function(String, String, String),
    /// `categories/any(c:c eq 'x')`
    Category(String),
    /// `singleValueExtendedProperties/Any(ep: ep/id eq 'i' and ep/value eq 'v')`
    Extended(String, String),
}

/// The comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Bounds the parser's recursion.
const DEEPEST: usize = 32;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Comma,
    Colon,
}

fn invalid(filter: &str) -> Refusal {
    // unverified: text
    Refusal::new(400, "BadRequest", format!("Invalid filter clause: syntax error in '{filter}'."))
}

/// Parses a `$filter`.
pub(crate) fn parse(text: &str) -> Result<Filter, Refusal> {
    let tokens = tokens(text).ok_or_else(|| invalid(text))?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let filter = parser.either().ok_or_else(|| invalid(text))?;
    if parser.at == parser.tokens.len() { Ok(filter) } else { Err(invalid(text)) }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match first {
            ' ' | '\t' => rest = &rest[1..],
            '(' | ')' | ',' => {
                found.push(match first {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Comma,
                });
                rest = &rest[1..];
            }
            '\'' => {
                let mut content = String::new();
                let mut letters = rest[1..].char_indices().peekable();
                let end = loop {
                    let (index, letter) = letters.next()?;
                    if letter != '\'' {
                        content.push(letter);
                    } else if letters.peek().is_some_and(|(_, next)| *next == '\'') {
                        letters.next();
                        content.push('\''); // doubled inside
                    } else {
                        break index;
                    }
                };
                found.push(Token::Text(content));
                rest = &rest[1 + end + 1..];
            }
            _ => {
                let end = rest.find([' ', '\t', '(', ')', ',', '\'']).unwrap_or(rest.len());
                let mut word = &rest[..end];
                // The variable of a lambda: `ep:` or `c:c`. A time keeps its colons.
                let lambda = word
                    .find(':')
                    .filter(|colon| *colon > 0 && word[..*colon].bytes().all(|byte| byte.is_ascii_alphabetic()));
                if let Some(colon) = lambda {
                    found.push(Token::Word(word[..colon].to_owned()));
                    found.push(Token::Colon);
                    word = &word[colon + 1..];
                }
                if !word.is_empty() {
                    found.push(Token::Word(word.to_owned()));
                }
                rest = &rest[end..];
            }
        }
    }
    Some(found)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek_word(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn take(&mut self, token: &Token) -> Option<()> {
        (self.tokens.get(self.at)? == token).then(|| self.at += 1)
    }

    fn word(&mut self) -> Option<String> {
        let Token::Word(word) = self.tokens.get(self.at)?.clone() else { return None };
        self.at += 1;
        Some(word)
    }

    fn text(&mut self) -> Option<String> {
        let Token::Text(text) = self.tokens.get(self.at)?.clone() else { return None };
        self.at += 1;
        Some(text)
    }

    fn either(&mut self) -> Option<Filter> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let mut left = self.both()?;
        while self.peek_word("or") {
            self.at += 1;
            left = Filter::Or(Box::new(left), Box::new(self.both()?));
        }
        self.depth -= 1;
        Some(left)
    }

    fn both(&mut self) -> Option<Filter> {
        let mut left = self.single()?;
        while self.peek_word("and") {
            self.at += 1;
            left = Filter::And(Box::new(left), Box::new(self.single()?));
        }
        Some(left)
    }

    fn single(&mut self) -> Option<Filter> {
        if self.take(&Token::Open).is_some() {
            let inner = self.either()?;
            self.take(&Token::Close)?;
            return Some(inner);
        }
        if self.peek_word("not") {
            self.at += 1;
            self.depth += 1;
            return if self.depth > DEEPEST { None } else { Some(Filter::Not(Box::new(self.single()?))) };
        }
        let name = self.word()?;
        if self.take(&Token::Open).is_some() {
            return self.call(&name);
        }
        let comparison = comparison(&self.word()?)?;
        let value = self.literal()?;
        Some(Filter::Compare(name, comparison, value))
    }

    fn call(&mut self, name: &str) -> Option<Filter> {
        let lower = name.to_ascii_lowercase();
        if ["contains", "startswith", "endswith"].contains(&lower.as_str()) {
            let property = self.word()?;
            self.take(&Token::Comma)?;
            let value = self.text()?;
            self.take(&Token::Close)?;
            return Some(Filter::Function(lower, property, value));
        }
        let variable = self.word()?;
        self.take(&Token::Colon)?;
        if lower == "categories/any" {
            if self.word()? != variable || comparison(&self.word()?)? != Comparison::Equal {
                return None;
            }
            let value = self.text()?;
            self.take(&Token::Close)?;
            return Some(Filter::Category(value));
        }
        if lower != "singlevalueextendedproperties/any" {
            return None;
        }
        let (mut id, mut value) = (None, None);
        loop {
            let path = self.word()?;
            let property = path.strip_prefix(&format!("{variable}/"))?.to_owned();
            if comparison(&self.word()?)? != Comparison::Equal {
                return None;
            }
            match property.as_str() {
                "id" => id = Some(self.text()?),
                "value" => value = Some(self.text()?),
                _ => return None,
            }
            if !self.peek_word("and") {
                break;
            }
            self.at += 1;
        }
        self.take(&Token::Close)?;
        Some(Filter::Extended(id?, value?))
    }

    fn literal(&mut self) -> Option<Value> {
        if let Some(text) = self.text() {
            return Some(text.into());
        }
        let word = self.word()?;
        Some(match word.to_ascii_lowercase().as_str() {
            "true" => true.into(),
            "false" => false.into(),
            "null" => Value::Null,
            _ => instant(&word).map(json_write::time).or_else(|| word.parse::<i64>().ok().map(Value::from))?,
        })
    }
}

fn comparison(word: &str) -> Option<Comparison> {
    Some(match word.to_ascii_lowercase().as_str() {
        "eq" => Comparison::Equal,
        "ne" => Comparison::NotEqual,
        "gt" => Comparison::Greater,
        "ge" => Comparison::GreaterOrEqual,
        "lt" => Comparison::Less,
        "le" => Comparison::LessOrEqual,
        _ => return None,
    })
}

/// A time or a bare date.
fn instant(word: &str) -> Option<Timestamp> {
    word.parse().ok().or_else(|| {
        let date: Date = word.parse().ok()?;
        format!("{date}T00:00:00Z").parse().ok()
    })
}

impl Filter {
    /// The properties it names, in order.
    pub(crate) fn properties(&self) -> Vec<String> {
        match self {
            Self::And(left, right) | Self::Or(left, right) => [left.properties(), right.properties()].concat(),
            Self::Not(inner) => inner.properties(),
            Self::Compare(property, ..) | Self::Function(_, property, _) => vec![property.clone()],
            Self::Category(_) => vec!["categories".into()],
            Self::Extended(..) => vec!["singleValueExtendedProperties".into()],
        }
    }

    /// Whether a message passes.
    pub(crate) fn admits(&self, message: &StoredMessage, view: &View) -> bool {
        match self {
            Self::And(left, right) => left.admits(message, view) && right.admits(message, view),
            Self::Or(left, right) => left.admits(message, view) || right.admits(message, view),
            Self::Not(inner) => !inner.admits(message, view),
            // The one that looks for a message among all of a mailbox: no value is made for each.
            Self::Compare(property, Comparison::Equal, Value::String(wanted)) if property == "internetMessageId" => {
                message.letter.message_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(wanted))
            }
            Self::Compare(property, comparison, wanted) => {
                compare(&value(message, view, property), *comparison, wanted)
            }
            Self::Function(function, property, wanted) => {
                let wanted = wanted.to_lowercase();
                value(message, view, property).as_str().map(str::to_lowercase).is_some_and(|text| {
                    match function.as_str() {
                        "contains" => text.contains(&wanted),
                        "startswith" => text.starts_with(&wanted),
                        _ => text.ends_with(&wanted),
                    }
                })
            }
            Self::Category(wanted) => message.categories.iter().any(|category| category == wanted),
            Self::Extended(id, wanted) => {
                message.extended.iter().any(|(held, value)| held.eq_ignore_ascii_case(id) && value == wanted)
            }
        }
    }
}

/// The value at a path such as `from/emailAddress/address`.
pub(crate) fn value(message: &StoredMessage, view: &View, path: &str) -> Value {
    let mut steps = path.split('/');
    let first = steps.next().unwrap_or_default();
    let Some(property) =
        json_write::MESSAGE_PROPERTIES.into_iter().find(|property| property.eq_ignore_ascii_case(first))
    else {
        return Value::Null;
    };
    let mut found = json_write::property_of(message, view, property).unwrap_or(Value::Null);
    for step in steps {
        found = found.get(step).cloned().unwrap_or(Value::Null);
    }
    found
}

fn compare(found: &Value, comparison: Comparison, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        // Exchange compares text without regard to case.
        (Value::String(found), Value::String(wanted)) => Some(found.to_lowercase().cmp(&wanted.to_lowercase())),
        (Value::Bool(found), Value::Bool(wanted)) => Some(found.cmp(wanted)),
        (Value::Number(found), Value::Number(wanted)) => found.as_i64().zip(wanted.as_i64()).map(|(a, b)| a.cmp(&b)),
        (Value::Null, Value::Null) => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match comparison {
        Comparison::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Comparison::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
        Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_filters_are_understood() {
        for text in [
            "internetMessageId eq '<a@b>'",
            "receivedDateTime ge 2017-04-01",
            "receivedDateTime ge 2017-04-01T10:00:00Z and receivedDateTime lt 2018-01-01T00:00:00Z",
            "from/emailAddress/address eq 'a@b' and isDraft eq false",
            "subject eq 'it''s'",
            "contains(subject,'disk')",
            "startsWith(subject, 'All')",
            "categories/any(c:c eq 'x')",
            "singleValueExtendedProperties/Any(ep: ep/id eq 'String {GUID} Name postkey' and ep/value eq 'K')",
            "not (isRead eq true) or importance eq 'high'",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        assert_eq!(
            parse("subject eq 'it''s'").unwrap(),
            Filter::Compare("subject".into(), Comparison::Equal, "it's".into())
        );
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for text in [
            "",
            "a",
            "a eq",
            "a eq 'b",
            "a eq b",
            "(a eq 'b'",
            "any(x:x eq 'y')",
            &"(".repeat(500),
            &"not ".repeat(500),
            "é eq 'ü'x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
