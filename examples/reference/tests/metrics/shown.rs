//! The metrics of a server, in the text format of Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testkit::{Server, eventually};
use tokio::time::timeout;

#[derive(Default)]
pub struct Shown {
    pub metrics: BTreeMap<String, Metric>,
    /// The events that happened.
    pub events: BTreeSet<String>,
}

#[derive(Default)]
pub struct Metric {
    pub kind: String,
    /// The names of the labels, as often as they differ.
    pub labels: BTreeSet<BTreeSet<String>>,
    pub values: BTreeMap<String, BTreeSet<String>>,
}

impl Shown {
    pub async fn by(server: &Server) -> Self {
        let mut shown = Self::default();
        shown.read(&text(server).await);
        shown
    }

    pub fn add(&mut self, other: Self) {
        self.events.extend(other.events);
        for (name, metric) in other.metrics {
            let known = self.metrics.entry(name).or_default();
            known.kind = metric.kind;
            known.labels.extend(metric.labels);
            for (label, values) in metric.values {
                known.values.entry(label).or_default().extend(values);
            }
        }
    }

    pub fn names(&self) -> BTreeSet<String> {
        let is_ours = |name: &&String| name.starts_with("steadfast_");
        self.metrics.keys().filter(is_ours).cloned().collect()
    }

    fn read(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(line) = line.strip_prefix("# TYPE ") {
                let (name, kind) = line.split_once(' ').unwrap();
                self.metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
            } else if !line.is_empty() && !line.starts_with('#') {
                self.sample(&Sample::of(line));
            }
        }
    }

    fn sample(&mut self, sample: &Sample) {
        if sample.name == "steadfast_events_total" && sample.value > 0.0 {
            self.events.insert(sample.labels["event"].clone());
        }
        let parts = ["_bucket", "_sum", "_count"].into_iter();
        let mut names = parts.filter_map(|part| sample.name.strip_suffix(part)).map(str::to_owned);
        let name = match self.metrics.contains_key(&sample.name) {
            true => sample.name.clone(),
            false => names.find(|name| self.metrics.contains_key(name)).unwrap(),
        };
        let metric = self.metrics.get_mut(&name).unwrap();
        // A bound of a bucket is a part of the format.
        let labels = sample.labels.iter().filter(|(label, _)| *label != "le");
        metric.labels.insert(labels.clone().map(|(label, _)| label.clone()).collect());
        for (label, value) in labels {
            metric.values.entry(label.clone()).or_default().insert(value.clone());
        }
    }
}

/// A line such as `name{label="value"} 1`.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    fn of(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let label = |pair: &str| {
            let (label, value) = pair.split_once('=').unwrap();
            (label.to_owned(), value.trim_matches('"').to_owned())
        };
        let labels = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
        Self {
            name: name.to_owned(),
            labels: labels.map(label).collect(),
            value: value.parse().unwrap(),
        }
    }
}

/// Returns the present value of a series.
pub async fn value(server: &Server, series: &str) -> Option<f64> {
    let text = text(server).await;
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

/// Waits until a server shows this of a series.
pub async fn until(server: &Server, series: &str, is_so: impl Fn(f64) -> bool) {
    let waiting = eventually(async || value(server, series).await.is_some_and(&is_so));
    if timeout(PATIENCE, waiting).await.is_err() {
        panic!("{series} is {:?}", value(server, series).await);
    }
}

async fn text(server: &Server) -> String {
    server.client().get("/metrics").await.ok().body
}

/// Shorter than that of `eventually`, whose failure does not say what was waited for.
const PATIENCE: Duration = Duration::from_secs(25);
