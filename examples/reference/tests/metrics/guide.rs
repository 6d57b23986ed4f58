//! The tables of the guide.

use std::collections::{BTreeMap, BTreeSet};

/// The metrics that the guide lists.
pub struct Guide {
    pub metrics: Vec<Listed>,
    /// The values of the label `event`.
    pub events: BTreeSet<String>,
}

/// A line of a table of metrics.
pub struct Listed {
    pub name: String,
    pub kind: String,
    /// The labels, and the values of those that have a fixed set of them.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

impl Guide {
    pub fn read() -> Self {
        let page = include_str!("../../../../src/guide/metrics.md");
        let mut guide = Self { metrics: Vec::new(), events: BTreeSet::new() };
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                [name, kind, labels, _unit, _moves, _alert] => guide.metrics.push(Listed {
                    name: codes(name).remove(0),
                    kind: kind.to_owned(),
                    labels: labelled(labels),
                }),
                [event, _when, _alert] => guide.events.extend(codes(event)),
                _ => panic!("a line of no table: {line}"),
            }
        }
        guide
    }

    pub fn names(&self) -> BTreeSet<String> {
        let names: BTreeSet<_> = self.metrics.iter().map(|metric| metric.name.clone()).collect();
        assert_eq!(names.len(), self.metrics.len(), "each is listed once");
        names
    }
}

/// Labels with semicolons between them, each with the values that it may have.
fn labelled(cell: &str) -> BTreeMap<String, BTreeSet<String>> {
    let label = |part: &str| {
        let mut codes = codes(part);
        (!codes.is_empty()).then(|| (codes.remove(0), codes.into_iter().collect()))
    };
    cell.split(';').filter_map(label).collect()
}

/// Returns the texts between backticks.
fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
