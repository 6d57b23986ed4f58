//! The tables, as Markdown.

use std::fmt::Write;

use super::{Results, cluster, names, remote};
use crate::cases::{Case, Size};
use crate::measure::scaling;
use crate::peers::{self, Floor, PassThrough, Peer};

pub(super) fn of(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "<!-- written by `cargo bench` -->\n\n{}, {} cores, {}.\n",
        machine.processor, machine.cores, machine.compiler
    );
    for table in [
        instructions(results),
        allocations(results),
        time(results),
        memory(results),
        sessions(results),
        keys(results),
        scaling(results),
        overlap(results),
    ] {
        text.push_str(&table);
    }
    text.push_str(&remote::of(results));
    text.push_str(&cluster::of(results));
    text
}

fn instructions(results: &Results) -> String {
    let over = |peer: &dyn Peer, case| results.over_pass_through(peer, results.workload(case)?);
    let floor = |case| results.instructions(&Floor, results.workload(case)?);
    let layer =
        |case| Some(results.instructions(&PassThrough, results.workload(case)?)? - floor(case)?);
    let mut rows = vec![
        row("axum, the floor itself", Case::ALL.map(|case| thousands(floor(case)))),
        row("pass-through layer, over the floor", Case::ALL.map(|case| thousands(layer(case)))),
    ];
    rows.extend(
        peers::with_sessions()
            .map(|peer| row(peer.name(), Case::ALL.map(|case| thousands(over(peer, case))))),
    );
    let hashes = |case| {
        let own = peers::with_sessions().map(|peer| peer.hashes(case)).max().unwrap_or_default();
        let each = results.floor()? * results.time.hash;
        Some(each * f64::from(own))
    };
    rows.push(row(
        "its hashes of a secret, by their time",
        Case::ALL.map(|case| thousands(hashes(case))),
    ));
    table("Instructions of a request, over the pass-through layer", &cases(), &rows)
}

fn allocations(results: &Results) -> String {
    let of = |peer: &str, case| results.allocations.get(peer)?.get(&case).copied();
    let over = |peer: &str, case| Some(of(peer, case)? - of(PassThrough.name(), case)?);
    let mut rows = vec![row(
        "pass-through layer itself",
        Case::ALL.map(|case| decimal(of(PassThrough.name(), case))),
    )];
    rows.extend(
        peers::with_sessions()
            .map(|peer| row(peer.name(), Case::ALL.map(|case| decimal(over(peer.name(), case))))),
    );
    table("Allocations of a request, over the pass-through layer", &cases(), &rows)
}

fn time(results: &Results) -> String {
    let of = |peer: &str, case| results.time.over_floor.get(peer)?.get(&case).copied();
    let rows: Vec<_> =
        names().map(|peer| row(peer, Case::ALL.map(|case| ratio(of(peer, case))))).collect();
    table("CPU time of a request, as a multiple of the floor's", &cases(), &rows)
}

fn memory(results: &Results) -> String {
    let mut header = vec!["peer".to_owned()];
    let sizes = results.memory.values().next().map_or(&[][..], Vec::as_slice);
    for memory in sizes {
        header.push(format!("{} live", grouped(memory.sessions as f64)));
        header.push("after all expired".to_owned());
    }
    let rows: Vec<_> = results
        .memory
        .iter()
        .map(|(peer, memories)| {
            let cells = memories.iter().flat_map(|memory| [memory.live, memory.expired]);
            row(peer, cells.map(|bytes| format!("{} B", grouped(bytes))))
        })
        .collect();
    table("Memory of a small session", &header, &rows)
}

fn sessions(results: &Results) -> String {
    let small = |size, sessions| (size == Size::SMALL).then_some(sessions);
    growth(results, "the number of sessions", small)
}

fn keys(results: &Results) -> String {
    let alike = |size: Size, _| {
        (size.bytes == Size::SMALL.bytes && size != Size::SMALL).then_some(size.keys)
    };
    growth(results, "the number of keys in a session", alike)
}

fn growth(results: &Results, with: &str, number: fn(Size, usize) -> Option<usize>) -> String {
    let (read, write) = (results.grown(Case::Read, number), results.grown(Case::Write, number));
    let mut header = vec!["peer".to_owned()];
    for (case, grown) in [(Case::Read, &read), (Case::Write, &write)] {
        header.extend(grown.iter().map(|(n, _)| format!("{} {}", case.name(), grouped(*n as f64))));
    }
    let rows: Vec<_> = peers::with_sessions()
        .map(|peer| {
            let cells = read.iter().chain(&write);
            row(peer.name(), cells.map(|(_, of)| thousands(results.over_pass_through(peer, *of))))
        })
        .collect();
    table(&format!("Instructions against {with}, over the pass-through layer"), &header, &rows)
}

fn scaling(results: &Results) -> String {
    let of = |peer: &str, case| results.scaling.get(peer)?.get(&case).copied();
    let header: Vec<_> =
        ["peer"].into_iter().chain(scaling::CASES.map(Case::name)).map(str::to_owned).collect();
    let rows: Vec<_> =
        names().map(|peer| row(peer, scaling::CASES.map(|case| ratio(of(peer, case))))).collect();
    table("Throughput on two threads, as a multiple of one thread's", &header, &rows)
}

fn overlap(results: &Results) -> String {
    let header = ["peer", "keys kept of 64", "counter after 64"].map(str::to_owned);
    let rows: Vec<_> = results
        .overlap
        .iter()
        .map(|(peer, kept)| row(peer, [kept.keys.to_string(), kept.count.to_string()]))
        .collect();
    table("64 overlapping requests of one session", &header, &rows)
}

pub(super) fn header(cases: &[Case]) -> Vec<String> {
    ["peer"].into_iter().chain(cases.iter().map(|case| case.name())).map(str::to_owned).collect()
}

fn cases() -> Vec<String> {
    header(&Case::ALL)
}

pub(super) fn table(title: &str, header: &[String], rows: &[String]) -> String {
    let mut text = format!("\n### {title}\n\n| {} |\n| --- |", header.join(" | "));
    text.push_str(&" ---: |".repeat(header.len() - 1));
    text.push('\n');
    for row in rows {
        writeln!(text, "{row}").expect("a string takes any text");
    }
    text
}

pub(super) fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<_> = cells.into_iter().collect();
    format!("| {name} | {} |", cells.join(" | "))
}

pub(super) fn thousands(figure: Option<f64>) -> String {
    figure.map_or_else(missing, |figure| format!("{:.1}k", figure / 1_000.0))
}

pub(super) fn decimal(figure: Option<f64>) -> String {
    figure.map_or_else(missing, |figure| format!("{figure:.1}"))
}

pub(super) fn ratio(figure: Option<f64>) -> String {
    figure.map_or_else(missing, |figure| format!("{figure:.2}"))
}

pub(super) fn missing() -> String {
    "–".to_owned()
}

/// Formats a whole number with a comma between thousands.
pub(super) fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.max(0.0));
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
