//! Numbers about the queue, for `/metrics` and whoever watches.

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaugeKind {
    /// Goes up and down.
    Gauge,
    /// Only grows, from the start of the process.
    Counter,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Its name, as Prometheus writes one.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: GaugeKind,
    /// What it is about.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

impl Gauge {
    /// A number that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        Self { name, help, kind: GaugeKind::Gauge, labels, value }
    }

    /// A number that only grows.
    pub fn counter(name: &'static str, help: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        Self { name, help, kind: GaugeKind::Counter, labels, value }
    }
}
