//! The tables of sessions on the nodes themselves, beside figures of Tomcat.

use super::Results;
use super::table::{grouped, missing, row, table};
use crate::measure::cluster::{Backups, MODES, Memory, NODES, Traffic};

pub(super) fn of(results: &Results) -> String {
    [traffic(results), memory(results)].concat()
}

/// One figure, in both modes.
struct Figure {
    name: &'static str,
    of: fn(&Traffic) -> Option<f64>,
    unit: fn(f64) -> String,
    goal: Option<(f64, &'static str)>,
    /// With copies on all nodes, and with one backup.
    tomcat: [&'static str; 2],
}

fn traffic(results: &Results) -> String {
    let mut header = vec!["for".to_owned(), "copies".to_owned()];
    header.extend(NODES.map(|nodes| format!("{nodes} nodes")));
    header.extend(["goal", "met", "Tomcat 10.1"].map(str::to_owned));
    let rows: Vec<_> = FIGURES
        .iter()
        .flat_map(|figure| MODES.map(|backups| (figure, backups)))
        .filter_map(|(figure, backups)| of_mode(results, figure, backups))
        .collect();
    table("Sessions on the nodes: bytes of all links in both directions, and CPU", &header, &rows)
}

/// Returns the row of a figure, if it exists in this mode.
fn of_mode(results: &Results, figure: &Figure, backups: Backups) -> Option<String> {
    let of = |nodes: usize| {
        let mut known = results.cluster.traffic.iter();
        (figure.of)(known.find(|known| known.nodes == nodes && known.backups == backups)?)
    };
    let figures = NODES.map(of);
    let is_met = |most: f64| figures.iter().flatten().all(|figure| figure.round() <= most);
    let met = figure.goal.map_or("–", |(most, _)| if is_met(most) { "yes" } else { "no" });
    let goal = figure.goal.map_or("–", |(_, text)| text);
    let mut cells = vec![name_of(backups).to_owned()];
    cells.extend(figures.map(|each| each.map_or_else(missing, figure.unit)));
    cells.extend([goal, met, figure.tomcat[usize::from(backups.is_some())]].map(str::to_owned));
    figures.iter().any(Option::is_some).then(|| row(figure.name, cells))
}

fn memory(results: &Results) -> String {
    let header = ["bytes on", "copies", "the owner", "a backup", "another node", "goal", "met"];
    let mut header = header.map(str::to_owned).to_vec();
    header.push("Tomcat 10.1".to_owned());
    let rows: Vec<_> = results.cluster.memory.iter().map(weighed).collect();
    table("Memory of a session of 100 B on the nodes", &header, &rows)
}

fn weighed(memory: &Memory) -> String {
    let other = memory.other.map_or_else(missing, grouped);
    let (goal, met) = match memory.other {
        Some(other) if other.round() <= 0.0 => ("0 on another", "yes"),
        Some(_) => ("0 on another", "no"),
        None => ("–", "–"),
    };
    let [owner, backup] = [memory.owner, memory.backup].map(grouped);
    let tomcat = TOMCAT_MEMORY[usize::from(memory.backups.is_some())];
    let cells = [owner, backup, other, goal.to_owned(), met.to_owned(), tomcat.to_owned()];
    row("each session", [name_of(memory.backups).to_owned()].into_iter().chain(cells))
}

fn name_of(backups: Backups) -> &'static str {
    if backups.is_some() { "one backup" } else { "all nodes" }
}

/// Returns the bytes of a write of 100 B in the whole service, for the chart: Tomcat's two
/// managers, and steadfast's modes.
pub(super) fn writes(results: &Results, nodes: usize) -> Vec<f64> {
    let n = NODES.iter().position(|known| *known == nodes).unwrap_or_default();
    let own = MODES.map(|backups| {
        let mut known = results.cluster.traffic.iter();
        let known = known.find(|known| known.nodes == nodes && known.backups == backups);
        let copies = backups.map_or((nodes - 1) as f64, f64::from);
        known.map_or(0.0, |known| known.small_write * copies)
    });
    [TOMCAT_DELTA[n], TOMCAT_BACKUP].into_iter().chain(own).collect()
}

const FIGURES: [Figure; 10] = [
    Figure {
        name: "a write of 100 B, for each copy",
        of: |traffic| Some(traffic.small_write),
        unit: bytes,
        goal: Some((450.0, "≤ 450 B")),
        tomcat: ["900 to 930 B", "1.2 KB"],
    },
    Figure {
        name: "a write of 4 KB, for each copy",
        of: |traffic| Some(traffic.large_write),
        unit: bytes,
        goal: None,
        tomcat: ["5.2 KB", "5.5 KB"],
    },
    Figure {
        name: "a write of 100 B at a node without a copy, in all",
        of: |traffic| traffic.forwarded_write,
        unit: bytes,
        goal: None,
        tomcat: ["–", "8 to 10 KB at 6 nodes"],
    },
    Figure {
        name: "a read at a backup, of 4 KB",
        of: |traffic| Some(traffic.read),
        unit: bytes,
        goal: Some((0.0, "0")),
        tomcat: ["0.8 to 4.2 KB", "–"],
    },
    Figure {
        name: "its leases, for a second with such reads",
        of: |traffic| Some(traffic.leases),
        unit: bytes,
        goal: None,
        tomcat: ["–", "–"],
    },
    Figure {
        name: "a read at a node without a copy, of 4 KB",
        of: |traffic| traffic.read_elsewhere,
        unit: bytes,
        goal: None,
        tomcat: ["–", "–"],
    },
    Figure {
        name: "a new session of 100 B, for each copy",
        of: |traffic| Some(traffic.create),
        unit: bytes,
        goal: None,
        tomcat: ["–", "–"],
    },
    Figure {
        name: "a second in which nothing happens, in all",
        of: |traffic| Some(traffic.idle),
        unit: bytes,
        goal: Some((5_000.0, "≤ 5 KB at 6 nodes")),
        tomcat: ["62 to 95 KB at 6 nodes", "62 to 95 KB at 6 nodes"],
    },
    Figure {
        name: "CPU of 1,000 writes of 100 B, all nodes",
        of: |traffic| Some(traffic.cpu),
        unit: millis,
        goal: None,
        tomcat: ["–", "–"],
    },
    Figure {
        name: "CPU of a second in which nothing happens, all nodes",
        of: |traffic| Some(traffic.idle_cpu),
        unit: millis,
        goal: None,
        tomcat: ["–", "–"],
    },
];

fn bytes(figure: f64) -> String {
    format!("{} B", grouped(figure))
}

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1_000.0)
}

/// Figures of Tomcat 10.1.60, measured once on loopback and not part of a run: the bytes that its
/// nodes sent each other for an attribute of that size, and its heap.
///
/// The DeltaManager keeps everything on all nodes. Bytes of a write of 100 B at 2, 3, 4 and 6
/// nodes:
const TOMCAT_DELTA: [f64; NODES.len()] = [900.0, 1_800.0, 2_800.0, 4_600.0];

/// The same figure of the BackupManager, if every request reaches the owner.
const TOMCAT_BACKUP: f64 = 1_200.0;

const TOMCAT_MEMORY: [&str; MODES.len()] = ["1,160 B on each", "1,242 / 1,973 / 745 B"];
