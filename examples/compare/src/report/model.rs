//! The model on the page: predictions, slopes, formulas, and the check.

use std::fmt::Write;

use super::Report;
use crate::model::check::{CLOSE, Checked};
use crate::model::formula::At;
use crate::model::text::{bytes, count};
use crate::model::{Case, Formulas, Model, Quantity};
use crate::predict;
use crate::strategy::Strategy;
use crate::units::READ_RATE;

/// The sections, without anything for a report with unit costs at fewer than two counts of nodes.
pub(super) fn sections(report: &Report) -> String {
    let (least, most) = predict::nodes(report);
    if most <= least {
        return String::new();
    }
    let model = Model::of_report(report);
    predictions(&model, (least, most))
        + &slopes(&model, report)
        + &formulas(&model)
        + &check(&model, report)
}

fn predictions(model: &Model, (least, most): (usize, usize)) -> String {
    let mut html = "<h2 id=\"sizes\">What would it take at other sizes?</h2>\n".to_owned();
    let choices = &model.strategies;
    let cpu = |one: &Formulas, nodes| one.take(case(nodes)).cpu_ms;
    let cheapest = choices.iter().min_by(|a, b| cpu(a, 50.0).total_cmp(&cpu(b, 50.0)));
    let safe = choices.iter().filter(|one| one.risk(case(50.0)).one_node == 0.0);
    let safe = safe.min_by(|a, b| cpu(a, 50.0).total_cmp(&cpu(b, 50.0)));
    if let (Some(cheapest), Some(safe)) = (cheapest, safe) {
        let _ = writeln!(
            html,
            "<p class=\"answered\"><b>Cheapest at 50 nodes:</b> {} ({:.1} cores); of those that lose no session when a node dies, {} \
             ({:.1} cores, {}/s, {} for each node).</p>",
            cheapest.strategy.title(),
            cpu(cheapest, 50.0) / 1_000.0,
            safe.strategy.title(),
            cpu(safe, 50.0) / 1_000.0,
            bytes(safe.take(case(50.0)).traffic),
            bytes(safe.take(case(50.0)).node_memory),
        );
    }
    let _ = writeln!(
        html,
        "<p>For each node 10,000 sessions with values of 100 bytes, 100 reads, 10 writes and one sign-in per second. \
         Predicted by the formulas below, which are fitted to {least} to {most} nodes. The cheapest in each column is marked. \
         For your own size: <code>cargo run --release -p compare -- predict --nodes 50 --sessions 5e6</code>.</p>"
    );
    html += "<div class=\"wide\"><table class=\"plain\">\n<thead><tr><th></th>";
    for nodes in SIZES {
        let _ = write!(html, "<th class=\"span\" colspan=\"3\">{nodes:.0} nodes</th>");
    }
    html += "<th>a node of 50 dies</th></tr>\n<tr><th></th>";
    for _ in SIZES {
        html += "<th>CPU cores</th><th>traffic</th><th>a node’s memory</th>";
    }
    html += "<th>sessions end</th></tr></thead>\n<tbody>\n";
    for one in choices {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", one.strategy.title());
        for nodes in SIZES {
            let taken = one.take(case(nodes));
            let least = choices.iter().map(|one| cpu(one, nodes)).fold(f64::INFINITY, f64::min);
            let class = if taken.cpu_ms == least { " class=\"best\"" } else { "" };
            let _ = write!(
                html,
                "<td{class}>{:.2}</td><td>{}/s</td><td>{}</td>",
                taken.cpu_ms / 1_000.0,
                bytes(taken.traffic),
                bytes(taken.node_memory)
            );
        }
        let _ = writeln!(html, "<td>{}</td></tr>", count(one.risk(case(50.0)).one_node));
    }
    html + "</tbody></table></div>\n"
}

fn case(nodes: f64) -> Case {
    Case {
        nodes,
        sessions: 10_000.0 * nodes,
        reads: 100.0 * nodes,
        writes: 10.0 * nodes,
        turnovers: nodes,
        value_bytes: 100.0,
    }
}

/// Small multiples: a row for each strategy, a column for each quantity, one scale a column.
fn slopes(model: &Model, report: &Report) -> String {
    let mut html = "<h2 id=\"slopes\">What grows with the nodes?</h2>\n<p>Dots are measured, lines are the \
        formulas, from 2 to 6 nodes. All pictures of a column have one scale, and the number is its top.</p>\n\
        <div class=\"wide\"><table class=\"plain slopes\">\n<thead><tr><th></th>"
        .to_owned();
    for (quantity, _) in SLOPES {
        let _ = write!(html, "<th>{}</th>", quantity.title());
    }
    html += "</tr></thead>\n<tbody>\n";
    for one in &model.strategies {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", one.strategy.title());
        for (quantity, is_bytes) in SLOPES {
            let top = top(model, report, quantity);
            let _ = write!(html, "<td>{}</td>", slope(one, report, quantity, top, is_bytes));
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// The highest value of a column.
fn top(model: &Model, report: &Report, quantity: Quantity) -> f64 {
    let measured = model.strategies.iter().flat_map(|one| points(one.strategy, report, quantity));
    let fitted = model.strategies.iter().map(|one| one.of(quantity).at(at(6.0)));
    measured.map(|(_, value)| value).chain(fitted).fold(0.0, f64::max)
}

/// Measured values of small sessions, by the number of nodes.
fn points(strategy: Strategy, report: &Report, quantity: Quantity) -> Vec<(f64, f64)> {
    let of =
        report.units.iter().filter(|one| one.strategy == strategy.id() && one.value_bytes == SMALL);
    of.map(|one| (one.nodes as f64, quantity.of(one))).collect()
}

fn slope(one: &Formulas, report: &Report, quantity: Quantity, top: f64, is_bytes: bool) -> String {
    let x = |nodes: f64| 4.0 + (nodes - 2.0) / 4.0 * 100.0;
    let y = |value: f64| 46.0 - value / top.max(1e-9) * 40.0;
    let shown = |value: f64| if is_bytes { bytes(value) } else { format!("{value:.2} ms") };
    let line = (2..=6).map(|n| {
        let nodes = f64::from(n);
        format!("{:.1},{:.1}", x(nodes), y(one.of(quantity).at(at(nodes))))
    });
    let line = line.collect::<Vec<_>>().join(" ");
    let points = points(one.strategy, report, quantity);
    let words: Vec<_> = points
        .iter()
        .map(|(nodes, value)| format!("{nodes:.0} nodes: {}", shown(*value)))
        .collect();
    let words = words.join(", ");
    let mut svg = format!(
        "<svg viewBox=\"0 0 150 50\" role=\"img\" aria-label=\"{}, {}: {words}\"><title>{words}</title>\
         <line class=\"axis\" x1=\"2\" y1=\"46\" x2=\"106\" y2=\"46\"/><polyline class=\"slope\" points=\"{line}\"/>",
        one.strategy.title(),
        quantity.title()
    );
    for (nodes, value) in &points {
        let _ = write!(
            svg,
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"/>",
            x(*nodes),
            y(*value)
        );
    }
    let _ = write!(svg, "<text x=\"109\" y=\"12\">{}</text></svg>", shown(top));
    svg
}

fn at(nodes: f64) -> At {
    At { nodes, value: SMALL as f64, reads: READ_RATE }
}

fn formulas(model: &Model) -> String {
    let mut html = "<h2 id=\"formulas\">The formulas</h2>\n<p><var>N</var> nodes, <var>V</var> bytes of a value, \
        <var>r</var> reads per second. Traffic is the bytes at rest and, for each read, write and sign-in per second, \
        the bytes of one; processor time likewise. The memory of a node is that of an empty one and, for each session of the service, \
        that of one. Nodes on one machine share the memory of the program itself, which is the term with 1/<var>N</var> of an empty node; \
        a node on a machine of its own has all of it. A term that the measurements do not tell from 0 is left out. Risk is not fitted: it follows from where copies are. \
        If a node dies, 1/<var>N</var> of the sessions end with sticky without a backup and none with the others; if two die before copies are made again, \
        2/<var>N</var> with sticky, 2/(<var>N</var>(<var>N</var>−1)) with one backup; while the server is away, every request that needs its session fails with Redis and PostgreSQL.</p>\n"
        .to_owned();
    for one in &model.strategies {
        let _ = writeln!(
            html,
            "<details><summary>{}</summary><dl class=\"formulas\">",
            one.strategy.title()
        );
        for (quantity, formula) in &one.formulas {
            let _ = writeln!(html, "<dt>{}</dt><dd>{formula}</dd>", quantity.title());
        }
        html += "</dl></details>\n";
    }
    html
}

fn check(model: &Model, report: &Report) -> String {
    let mut html = "<h2 id=\"check\">Is the model right?</h2>\n".to_owned();
    if report.checks.is_empty() {
        return html
            + "<p>This run did not check it: <code>--full</code> and <code>--check-model</code> do.</p>\n";
    }
    let rows: Vec<_> =
        report.checks.iter().filter_map(|one| Some((one, one.compare(model).ok()?))).collect();
    let all = || rows.iter().flat_map(|(_, compared)| compared);
    let (close, count) = (all().filter(|one| one.is_close()).count(), all().count());
    let _ = writeln!(
        html,
        "<p class=\"answered\"><b>{close} of {count} predictions ({:.0} %) are within {:.0} % of what was measured</b> at {} sizes, which the seed \
         drew before anything was fitted; the goal is 90 %. None of them was used for the fit. By quantity: {}. Misses are marked; a predicted value is the first, the measured one the second.</p>",
        100.0 * close as f64 / count.max(1) as f64,
        CLOSE * 100.0,
        rows.len(),
        by_quantity(&rows),
    );
    html += "<div class=\"wide\"><table class=\"plain\">\n<thead><tr><th>strategy</th><th>nodes</th><th>sessions</th><th>requests/s</th><th>reads</th><th>value</th>\
        <th>traffic per s</th><th>a node’s memory</th><th>the server’s memory</th><th>CPU, ms per s</th></tr></thead>\n<tbody>\n";
    for (one, compared) in &rows {
        let drawn = &one.drawn;
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.0} %</td><td>{} B</td>",
            drawn.strategy,
            drawn.nodes,
            drawn.sessions,
            drawn.rate,
            drawn.reads * 100.0,
            drawn.value_bytes
        );
        for quantity in ["traffic", "memory of a node", "memory of the server", "CPU"] {
            let found = compared.iter().find(|one| one.quantity.starts_with(quantity));
            let Some(found) = found else {
                html += "<td>–</td>";
                continue;
            };
            let class = if found.is_close() { "" } else { " class=\"worst\"" };
            let shown =
                |value: f64| if quantity == "CPU" { format!("{value:.0}") } else { bytes(value) };
            let _ = write!(
                html,
                "<td{class}>{} / {} <small>{:+.0} %</small></td>",
                shown(found.predicted),
                shown(found.measured),
                found.error() * 100.0
            );
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

type Row<'a> = (&'a Checked, Vec<crate::model::check::Compared>);

fn by_quantity(rows: &[Row<'_>]) -> String {
    let quantities = ["traffic", "memory of a node", "memory of the server", "CPU"];
    let shares = quantities.iter().map(|quantity| {
        let of: Vec<_> = rows
            .iter()
            .flat_map(|(_, all)| all)
            .filter(|one| one.quantity.starts_with(quantity))
            .collect();
        let close = of.iter().filter(|one| one.is_close()).count();
        format!("{quantity} {close} of {}", of.len())
    });
    shares.collect::<Vec<_>>().join(", ")
}

const SIZES: [f64; 3] = [3.0, 10.0, 50.0];

/// The quantities of the small multiples, and whether they are bytes.
const SLOPES: [(Quantity, bool); 5] = [
    (Quantity::WriteBytes, true),
    (Quantity::ReadBytes, true),
    (Quantity::RestBytes, true),
    (Quantity::NodeSession, true),
    (Quantity::WriteCpu, false),
];

/// The size of the values, in bytes.
const SMALL: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::tests::everything;
    use crate::model::Taken;
    use crate::model::check::draw;

    #[test]
    fn the_page_names_the_cheapest_strategy() {
        let html = sections(&everything());
        assert!(html.contains("Cheapest at 50 nodes:</b> Sticky ("), "{html}");
        assert!(html.contains("lose no session when a node dies, Sticky + backup"));
        assert!(html.contains("This run did not check it"));
    }

    #[test]
    fn misses_are_shown() {
        let mut report = everything();
        let drawn = draw(1, 1).remove(0);
        let measured = Taken { traffic: 0.0, node_memory: 1e9, server_memory: 0.0, cpu_ms: 0.0 };
        report.checks.push(Checked { drawn, case: case(3.0), measured, others_percent: 0.0 });
        let html = sections(&report);
        assert!(html.contains("of what was measured</b> at 1 sizes"), "{html}");
        assert!(html.contains("memory of a node 0 of 1"));
        assert!(html.contains("<td class=\"worst\">"));
    }

    #[test]
    fn a_run_at_one_size_has_no_model() {
        let mut report = everything();
        report.units.retain(|units| units.nodes == 3);
        assert_eq!(sections(&report), "");
    }
}
