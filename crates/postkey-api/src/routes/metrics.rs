//! `/metrics`: the queue's numbers in the text form of Prometheus.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use postkey_queue::{Gauge, GaugeKind};
use postkey_store::Scope;

use crate::{
    Api,
    caller::Caller,
    extract::{FromQuery, NoQuery, accepts},
    host,
    refusal::Refusal,
    refusals::Reading,
};

/// Prometheus reads this, and so does everybody else.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers for Prometheus
///
/// From the machine itself no key is needed; from elsewhere, or through a proxy, one with the scope `metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "metrics",
    responses(
        (status = 200, description = "The numbers in the text form of Prometheus.", body = String, content_type = "text/plain"),
        Reading,
    ),
    security((), ("api_key" = [])),
)]
pub(crate) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Refusal> {
    let (mut head, _) = request.into_parts();
    let FromQuery(NoQuery {}) = FromQuery::from_request_parts(&mut head, &api).await?;
    let forwarded = head.headers.contains_key("x-forwarded-for") || head.headers.contains_key(header::FORWARDED);
    let with_key = head.headers.contains_key(header::AUTHORIZATION);
    if with_key || forwarded || !host::remote(&head, &api.proxies).is_loopback() {
        Caller::from_request_parts(&mut head, &api).await?.must(Scope::Metrics)?;
    }
    accepts(&head.headers, "text/plain")?;
    let mut gauges = api.queue.gauges().await;
    gauges.extend(api.directory.gauges());
    let text = written(gauges);
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(TEXT))], text).into_response())
}

/// The text form, version 0.0.4: all numbers of one name together.
pub(crate) fn written(gauges: Vec<Gauge>) -> String {
    let mut by_name: BTreeMap<&'static str, Vec<Gauge>> = BTreeMap::new();
    for gauge in gauges {
        by_name.entry(gauge.name).or_default().push(gauge);
    }
    let mut text = String::new();
    for (name, gauges) in by_name {
        let Some(first) = gauges.first() else { continue };
        let kind = match first.kind {
            GaugeKind::Gauge => "gauge",
            GaugeKind::Counter => "counter",
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(first.help, false));
        for gauge in &gauges {
            let labels: Vec<_> =
                gauge.labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {}", gauge.value);
        }
    }
    text
}

fn escaped(text: &str, quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quoted { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_name_stand_together_and_labels_are_escaped() {
        let queued = |mailbox: &str, value| {
            Gauge::gauge("postkey_queued", "Messages that wait.", vec![("mailbox", mailbox.to_owned())], value)
        };
        let total = Gauge::counter("postkey_accepted_total", "Messages taken.", Vec::new(), 7.0);
        assert_eq!(
            written(vec![queued("a\"b\\c\nd", 2.0), total, queued("b", 0.5)]),
            "# HELP postkey_accepted_total Messages taken.\n# TYPE postkey_accepted_total counter\n\
             postkey_accepted_total 7\n# HELP postkey_queued Messages that wait.\n# TYPE postkey_queued gauge\n\
             postkey_queued{mailbox=\"a\\\"b\\\\c\\nd\"} 2\npostkey_queued{mailbox=\"b\"} 0.5\n"
        );
    }
}
