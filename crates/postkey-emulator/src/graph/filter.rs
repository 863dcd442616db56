//! The part of OData's `$filter` that the directory understands: parsed to a tree, then tried on JSON objects.

use jiff::Timestamp;
use serde_json::Value;

/// A parsed `$filter`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    /// `path op literal`; the path is split at `/`.
    Compare(Vec<String>, Operator, Literal),
    In(Vec<String>, Vec<Literal>),
    StartsWith(Vec<String>, String),
    EndsWith(Vec<String>, String),
    Contains(Vec<String>, String),
    /// `path/any(variable: condition)`; None = `any()`.
    Any(Vec<String>, Option<(String, Box<Filter>)>),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Eq,
    Ne,
    Ge,
    Gt,
    Le,
    Lt,
}

/// What stands on the right of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    /// A GUID, a date or an enum word without quotes.
    Bare(String),
}

/// Longest filter that is looked at; real requests are bounded by the URL's length.
const LONGEST: usize = 8 * 1024;
/// Deepest nesting of parentheses, `not` and lambdas.
const DEEPEST: usize = 32;

impl Filter {
    /// Reads a whole `$filter`. The error says where it went wrong, as far as we know.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err("The filter is too long.".to_owned());
        }
        let mut parser = Parser { tokens: tokenize(text)?, at: 0, depth: 0 };
        let filter = parser.either()?;
        match parser.peek() {
            None => Ok(filter),
            Some(token) => Err(format!("Syntax error at '{}' in the filter.", token.show())),
        }
    }

    /// Whether `item` meets the filter.
    pub(crate) fn matches(&self, item: &Value) -> bool {
        match self {
            Self::And(a, b) => a.matches(item) && b.matches(item),
            Self::Or(a, b) => a.matches(item) || b.matches(item),
            Self::Not(inner) => !inner.matches(item),
            Self::Compare(path, operator, literal) => compare(look_up(item, path), *operator, literal),
            Self::In(path, literals) => {
                let value = look_up(item, path);
                literals.iter().any(|literal| compare(value, Operator::Eq, literal))
            }
            Self::StartsWith(path, text) => with_text(item, path, |value| value.starts_with(&text.to_lowercase())),
            Self::EndsWith(path, text) => with_text(item, path, |value| value.ends_with(&text.to_lowercase())),
            Self::Contains(path, text) => with_text(item, path, |value| value.contains(&text.to_lowercase())),
            Self::Any(path, condition) => {
                let Some(values) = look_up(item, path).as_array() else { return false };
                match condition {
                    None => !values.is_empty(),
                    Some((variable, condition)) => values.iter().any(|value| {
                        let scope = serde_json::json!({ variable: value });
                        condition.matches(&scope)
                    }),
                }
            }
        }
    }

    /// Every property the filter looks at, with what it asks of it.
    pub(crate) fn uses(&self) -> Vec<(String, &'static str)> {
        match self {
            Self::And(a, b) | Self::Or(a, b) => [a.uses(), b.uses()].concat(),
            Self::Not(inner) => {
                let mut uses = inner.uses();
                uses.push((uses.first().map_or_else(String::new, |(name, _)| name.clone()), "not"));
                uses
            }
            Self::Compare(path, operator, _) => vec![(first(path), operator.word())],
            Self::In(path, _) => vec![(first(path), "in")],
            Self::StartsWith(path, _) => vec![(first(path), "startsWith")],
            Self::EndsWith(path, _) => vec![(first(path), "endsWith")],
            Self::Contains(path, _) => vec![(first(path), "contains")],
            Self::Any(path, _) => vec![(first(path), "any")],
        }
    }
}

impl Operator {
    fn word(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Ge => "ge",
            Self::Gt => "gt",
            Self::Le => "le",
            Self::Lt => "lt",
        }
    }
}

fn first(path: &[String]) -> String {
    path.first().cloned().unwrap_or_default()
}

fn look_up<'a>(item: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(item, |value, name| &value[name.as_str()])
}

fn with_text(item: &Value, path: &[String], test: impl Fn(&str) -> bool) -> bool {
    look_up(item, path).as_str().is_some_and(|text| test(&text.to_lowercase()))
}

/// Text compares without regard to case, as the directory does; text that is a moment on both sides compares as one.
fn compare(value: &Value, operator: Operator, literal: &Literal) -> bool {
    use std::cmp::Ordering;
    let order = match (value, literal) {
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        (Value::Bool(a), Literal::Flag(b)) => Some(a.cmp(b)),
        (Value::Number(a), Literal::Number(b)) => a.as_f64().and_then(|a| a.partial_cmp(b)),
        (Value::String(a), Literal::Text(b) | Literal::Bare(b)) => match (moment(a), moment(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(a.to_lowercase().cmp(&b.to_lowercase())),
        },
        _ => None,
    };
    match operator {
        Operator::Eq => order == Some(Ordering::Equal),
        Operator::Ne => order != Some(Ordering::Equal),
        Operator::Ge => order.is_some_and(Ordering::is_ge),
        Operator::Gt => order.is_some_and(Ordering::is_gt),
        Operator::Le => order.is_some_and(Ordering::is_le),
        Operator::Lt => order.is_some_and(Ordering::is_lt),
    }
}

/// A date with or without a time; a date alone is its midnight, UTC.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let date: jiff::civil::Date = (text.len() == 10).then(|| text.parse().ok())??;
        date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Comma,
    Colon,
    Text(String),
    Word(String),
}

impl Token {
    fn show(&self) -> &str {
        match self {
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Colon => ":",
            Self::Text(text) | Self::Word(text) => text,
        }
    }
}

fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(&next) = rest.peek() {
        match next {
            c if c.is_whitespace() => {
                rest.next();
            }
            '(' | ')' | ',' => {
                rest.next();
                tokens.push(match next {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Comma,
                });
            }
            '\'' => {
                rest.next();
                let mut value = String::new();
                loop {
                    match rest.next() {
                        // A quote inside a text is doubled.
                        Some('\'') if rest.peek() == Some(&'\'') => {
                            rest.next();
                            value.push('\'');
                        }
                        Some('\'') => break,
                        Some(c) => value.push(c),
                        None => return Err("There is an unterminated string literal in the filter.".to_owned()),
                    }
                }
                tokens.push(Token::Text(value));
            }
            _ => {
                let mut word = String::new();
                while let Some(&c) = rest.peek() {
                    if c.is_whitespace() || "(),'".contains(c) {
                        break;
                    }
                    // A lambda's colon ends its variable; the colons of a time stand after a digit.
                    if c == ':' && !word.starts_with(|first: char| first.is_ascii_digit()) {
                        break;
                    }
                    word.push(c);
                    rest.next();
                }
                if word.is_empty() {
                    rest.next();
                    tokens.push(Token::Colon);
                } else {
                    tokens.push(Token::Word(word));
                }
            }
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.peek().cloned().ok_or("The filter ends too early.")?;
        self.at += 1;
        Ok(token)
    }

    fn expect(&mut self, want: &Token) -> Result<(), String> {
        let token = self.next()?;
        if &token == want { Ok(()) } else { Err(format!("Syntax error at '{}' in the filter.", token.show())) }
    }

    fn word(&mut self, want: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(want));
        if found {
            self.at += 1;
        }
        found
    }

    fn either(&mut self) -> Result<Filter, String> {
        let mut left = self.both()?;
        while self.word("or") {
            left = Filter::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Filter, String> {
        let mut left = self.single()?;
        while self.word("and") {
            left = Filter::And(Box::new(left), Box::new(self.single()?));
        }
        Ok(left)
    }

    fn single(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("The filter is nested too deeply.".to_owned());
        }
        let filter = self.single_unbounded();
        self.depth -= 1;
        filter
    }

    fn single_unbounded(&mut self) -> Result<Filter, String> {
        if self.word("not") {
            return Ok(Filter::Not(Box::new(self.single()?)));
        }
        match self.next()? {
            Token::Open => {
                let inner = self.either()?;
                self.expect(&Token::Close)?;
                Ok(inner)
            }
            Token::Word(word) if self.peek() == Some(&Token::Open) => self.call(&word),
            Token::Word(word) => self.comparison(path(&word)),
            token => Err(format!("Syntax error at '{}' in the filter.", token.show())),
        }
    }

    fn call(&mut self, name: &str) -> Result<Filter, String> {
        self.expect(&Token::Open)?;
        if let Some(collection) = name.strip_suffix("/any") {
            let collection = path(collection);
            if self.peek() == Some(&Token::Close) {
                self.at += 1;
                return Ok(Filter::Any(collection, None));
            }
            let Token::Word(variable) = self.next()? else { return Err("A lambda needs a variable.".to_owned()) };
            self.expect(&Token::Colon)?;
            let condition = self.either()?;
            self.expect(&Token::Close)?;
            return Ok(Filter::Any(collection, Some((variable, Box::new(condition)))));
        }
        let Token::Word(property) = self.next()? else { return Err(format!("{name} needs a property.")) };
        self.expect(&Token::Comma)?;
        let Token::Text(text) = self.next()? else { return Err(format!("{name} needs a quoted text.")) };
        self.expect(&Token::Close)?;
        let property = path(&property);
        match name.to_ascii_lowercase().as_str() {
            "startswith" => Ok(Filter::StartsWith(property, text)),
            "endswith" => Ok(Filter::EndsWith(property, text)),
            "contains" => Ok(Filter::Contains(property, text)),
            _ => Err(format!("An unknown function with name '{name}' was found.")),
        }
    }

    fn comparison(&mut self, left: Vec<String>) -> Result<Filter, String> {
        let Token::Word(operator) = self.next()? else { return Err("A comparison needs an operator.".to_owned()) };
        let operator = match operator.to_ascii_lowercase().as_str() {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "ge" => Operator::Ge,
            "gt" => Operator::Gt,
            "le" => Operator::Le,
            "lt" => Operator::Lt,
            "in" => {
                self.expect(&Token::Open)?;
                let mut values = vec![self.literal()?];
                while self.peek() == Some(&Token::Comma) {
                    self.at += 1;
                    values.push(self.literal()?);
                }
                self.expect(&Token::Close)?;
                return Ok(Filter::In(left, values));
            }
            other => return Err(format!("Syntax error at '{other}' in the filter.")),
        };
        Ok(Filter::Compare(left, operator, self.literal()?))
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.next()? {
            Token::Text(text) => Ok(Literal::Text(text)),
            Token::Word(word) => Ok(match word.as_str() {
                "null" => Literal::Null,
                "true" => Literal::Flag(true),
                "false" => Literal::Flag(false),
                _ => match word.parse() {
                    Ok(number) => Literal::Number(number),
                    Err(_) => Literal::Bare(word),
                },
            }),
            token => Err(format!("Syntax error at '{}' in the filter.", token.show())),
        }
    }
}

fn path(word: &str) -> Vec<String> {
    word.split('/').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_picks_what_it_describes() {
        let item = json!({
            "displayName": "Ann's App", "appId": "00000003-0000-0000-c000-000000000000", "createdDateTime": "2026-05-01T10:00:00Z",
            "tags": ["one", "two"], "isEnabled": true, "count": 7, "nothing": null,
            "status": {"errorCode": 7000215}, "signInEventTypes": ["servicePrincipal"],
        });
        for (filter, want) in [
            ("displayName eq 'ann''s app'", true),
            ("appId eq 00000003-0000-0000-C000-000000000000", true),
            ("appId eq '00000003-0000-0000-c000-000000000000' and isEnabled eq true", true),
            ("startsWith(displayName,'Ann') and not endsWith(displayName, 'x')", true),
            ("startswith(displayName,'App')", false),
            ("createdDateTime ge 2026-05-01T09:59:59Z and createdDateTime lt 2026-05-02", true),
            ("createdDateTime gt 2026-05-01T12:00:00+02:00", false),
            ("count in (1, 7)", true),
            ("displayName in ('a','b')", false),
            ("nothing eq null", true),
            ("nothing ne null", false),
            ("missing eq null", true),
            ("tags/any(t: t eq 'TWO')", true),
            ("tags/any(t:startsWith(t,'th'))", false),
            ("signInEventTypes/any(t: t eq 'servicePrincipal') and status/errorCode eq 7000215", true),
            ("(count eq 1 or count eq 7) and (isEnabled eq false or displayName ne 'x')", true),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&item), want, "{filter}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = format!("{}a eq 1{}", "(".repeat(100), ")".repeat(100));
        for filter in [
            "",
            "displayName",
            "displayName eq",
            "displayName is 'x'",
            "a eq 'x",
            "a eq 1 and",
            "a eq 1)",
            "f(a,'x')",
            &deep,
        ] {
            assert!(Filter::parse(filter).is_err(), "{filter}");
        }
    }
}
