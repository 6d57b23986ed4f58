//! The alert rules and the dashboard name what the guide lists.

use std::collections::BTreeSet;

use crate::guide::{Guide, Listed};

#[test]
fn alerts_name_listed_metrics() {
    for text in [ALERTS, include_str!("../../monitoring/alerts.test.yaml")] {
        assert!(check(text).len() > 20);
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown = check(&include_str!("../../monitoring/dashboard.json").replace("\\\"", "\""));
    assert_eq!(shown, Guide::read().names());
}

#[test]
fn the_dashboard_shows_every_event() {
    let dashboard = include_str!("../../monitoring/dashboard.json");
    for event in Guide::read().events.iter().filter(|event| *event != "misrouted") {
        assert!(dashboard.contains(event), "{event} is on no panel");
    }
}

/// Returns the metrics that a text selects, after checking that the guide lists each with these labels.
fn check(text: &str) -> BTreeSet<String> {
    let guide = Guide::read();
    let found = text.match_indices("steadfast_").map(|(at, _)| Selector::at(&text[at..]));
    found.map(|selector| selector.listed_in(&guide).name.clone()).collect()
}

/// A selector such as `steadfast_slots{state="waiting"}`.
struct Selector<'a> {
    name: &'a str,
    labels: &'a str,
}

impl<'a> Selector<'a> {
    fn at(text: &'a str) -> Self {
        let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        Self { name, labels: labels.map_or("", |(labels, _)| labels) }
    }

    fn listed_in<'g>(&self, guide: &'g Guide) -> &'g Listed {
        let series = |metric: &&Listed| match metric.kind.as_str() {
            "histogram" => ["_bucket", "_count", "_sum"]
                .iter()
                .any(|part| self.name.strip_suffix(part) == Some(&metric.name)),
            _ => self.name == metric.name,
        };
        let metric = guide.metrics.iter().find(series);
        let metric = metric.unwrap_or_else(|| panic!("no metric is called {}", self.name));
        for matcher in self.labels.split(',').filter(|matcher| !matcher.trim().is_empty()) {
            self.check_label(metric, matcher, &guide.events);
        }
        metric
    }

    fn check_label(&self, metric: &Listed, matcher: &str, events: &BTreeSet<String>) {
        let (label, values) = matcher.split_once('=').unwrap();
        let label = label.trim().trim_end_matches('!');
        // Prometheus adds these.
        if ["job", "instance", "le"].contains(&label) {
            return;
        }
        let known = metric.labels.get(label);
        let known = known.unwrap_or_else(|| panic!("{} has no label {label}", self.name));
        let known = if label == "event" { events } else { known };
        for value in values.trim_start_matches('~').trim_matches('"').split('|') {
            let is_known = known.is_empty() || known.contains(value);
            assert!(is_known, "{} has no {label} {value:?}", self.name);
        }
    }
}

const ALERTS: &str = include_str!("../../monitoring/alerts.yaml");
