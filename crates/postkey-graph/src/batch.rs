//! Several calls in one: each part is answered, throttled and refused by itself.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    classify,
    error::{GraphError, Unreadable},
    graph::Graph,
    shape::{CallShape, Effect, Verb},
    throttling,
};

/// The call around the parts; whether it may be repeated depends on them.
pub const BATCH: CallShape = CallShape::new(Verb::Post, "/$batch", Effect::Adds, &[]);

/// Graph takes no more parts at once.
pub const MOST_PARTS: usize = 20;

/// Calls to make together, in no particular order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    parts: Vec<(CallShape, Part)>,
}

#[derive(Debug, Clone, Serialize)]
struct Part {
    id: String,
    method: String,
    url: String,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    headers: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

/// Which part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartIndex(usize);

/// There is no room for another part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a batch takes {MOST_PARTS} calls at most")]
pub struct BatchFull;

/// The answers to a batch.
#[derive(Debug)]
pub struct BatchAnswers {
    parts: Vec<(CallShape, Option<PartAnswer>)>,
    whole: postkey_base::CorrelationId,
    received: Timestamp,
}

#[derive(Debug, Deserialize)]
struct PartAnswer {
    id: String,
    status: u16,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    body: Value,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call: its shape, the values of its path, query options and a body.
    ///
    /// # Errors
    /// [`BatchFull`] beyond [`MOST_PARTS`].
    pub fn add(
        &mut self,
        shape: CallShape,
        values: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<PartIndex, BatchFull> {
        if self.parts.len() >= MOST_PARTS {
            return Err(BatchFull);
        }
        let mut url = shape.path_with(values);
        for (position, (name, value)) in query.iter().enumerate() {
            url.push(if position == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            crate::shape::encode_into(&mut url, value);
        }
        let index = self.parts.len();
        let mut headers = serde_json::Map::new();
        if body.is_some() {
            headers.insert("Content-Type".into(), "application/json".into());
        }
        let part = Part { id: (index + 1).to_string(), method: shape.method.to_string(), url, headers, body };
        self.parts.push((shape, part));
        Ok(PartIndex(index))
    }

    /// Makes the calls.
    ///
    /// # Errors
    /// Those of the call around them; each part has its own in [`BatchAnswers::part`].
    pub async fn send(self, graph: &Graph) -> Result<BatchAnswers, GraphError> {
        #[derive(Deserialize)]
        struct Body {
            responses: Vec<PartAnswer>,
        }
        let repeatable = self.parts.iter().all(|(shape, _)| matches!(shape.effect, Effect::Reads | Effect::Settles));
        let shape = CallShape { effect: if repeatable { Effect::Settles } else { Effect::Adds }, ..BATCH };
        let (shapes, requests): (Vec<CallShape>, Vec<Part>) = self.parts.into_iter().unzip();
        let reply = graph.call(shape, &[]).json(&json!({ "requests": requests })).send().await?;
        let mut answers = reply.json::<Body>()?.responses;
        let parts = shapes.into_iter().enumerate().map(|(index, shape)| {
            let at = answers.iter().position(|answer| answer.id == (index + 1).to_string());
            (shape, at.map(|at| answers.swap_remove(at)))
        });
        Ok(BatchAnswers { parts: parts.collect(), whole: reply.client_request_id, received: graph.now() })
    }
}

impl BatchAnswers {
    /// The answer to one part; `()` reads none.
    ///
    /// # Errors
    /// The part's own, with its own `Retry-After`.
    pub fn part<T: DeserializeOwned>(&self, index: PartIndex) -> Result<T, GraphError> {
        let (shape, answer) = &self.parts[index.0];
        let unreadable = |cause| GraphError::Unreadable { call: *shape, client_request_id: self.whole, cause };
        let Some(answer) = answer else { return Err(unreadable(Unreadable::Lacks("answer to this part"))) };
        if (200..300).contains(&answer.status) {
            return T::deserialize(&answer.body).map_err(|error| unreadable(Unreadable::Json(error)));
        }
        let headers = answer.headers();
        let body = serde_json::to_vec(&answer.body).unwrap_or_default();
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after: Option<Duration> = throttling::retry_after(&headers, self.received);
        let read = Answer::read(*shape, status, &headers, &body, self.whole, classify::is_known);
        Err(classify::of_answer(read, retry_after, None))
    }
}

impl PartAnswer {
    fn headers(&self) -> HeaderMap {
        let pairs = self.headers.iter().flatten().filter_map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(&value).ok()?))
        });
        pairs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        applications, organization,
        testing::{Say, Served},
    };

    #[tokio::test]
    async fn each_part_has_an_answer_of_its_own_in_any_order() {
        let answers = json!({ "responses": [
            { "id": "2", "status": 429, "headers": { "Retry-After": "12" },
              "body": { "error": { "code": "TooManyRequests", "message": "m" } } },
            { "id": "1", "status": 200, "headers": { "x-ms-resource-unit": 1 }, "body": { "value": [] } },
        ] });
        let served = Served::start([Say::json(200, answers)]).await;
        let mut batch = Batch::new();
        let first = batch.add(organization::GET, &[], &[("$select", "id,displayName")], None).unwrap();
        let second = batch.add(applications::GET, &["x y"], &[], None).unwrap();
        let third = batch.add(applications::CREATE, &[], &[], Some(json!({ "displayName": "n" }))).unwrap();
        let answers = batch.send(&served.graph).await.unwrap();
        assert_eq!(answers.part::<Value>(first).unwrap(), json!({ "value": [] }));
        assert_eq!(answers.part::<Value>(second).unwrap_err().retry_after(), Some(Duration::from_secs(12)));
        assert!(answers.part::<Value>(third).unwrap_err().may_have_taken_effect(), "nobody knows");
        assert_eq!(served.lines(), ["POST /v1.0/$batch"]);
        assert_eq!(
            served.seen()[0].json()["requests"],
            json!([
                { "id": "1", "method": "GET", "url": "/organization?$select=id%2CdisplayName" },
                { "id": "2", "method": "GET", "url": "/applications/x%20y" },
                { "id": "3", "method": "POST", "url": "/applications", "body": { "displayName": "n" },
                  "headers": { "Content-Type": "application/json" } },
            ])
        );
    }

    #[test]
    fn a_batch_takes_twenty_parts() {
        let mut batch = Batch::new();
        for _ in 0..MOST_PARTS {
            batch.add(organization::GET, &[], &[], None).unwrap();
        }
        assert_eq!(batch.add(organization::GET, &[], &[], None), Err(BatchFull));
    }
}
