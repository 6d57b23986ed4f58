//! The table of the page: a measure a row, a contestant a column.

use std::fmt::Write;

use super::{Report, text::figure};
use crate::measures::{self, Measure, Measured};
use crate::repeats;

/// The table. On narrow screens each row becomes a block, so each cell carries its column's name.
pub(super) fn table(report: &Report) -> String {
    let mut html =
        "<table class=\"measures\">\n<thead><tr><th scope=\"col\">Measure</th>".to_owned();
    for one in &report.strategies {
        let _ = write!(html, "<th scope=\"col\">{}</th>", one.title);
    }
    html += "</tr></thead>\n";
    let mut group = "";
    for measure in measures::all().filter(|measure| has_figures(measure, report)) {
        if measure.group != group {
            group = measure.group;
            html += &heading(group, report.strategies.len() + 1);
        }
        html += &row(measure, &report.strategies);
    }
    html + "</tbody></table>\n"
}

/// A fault that no contestant met has no rows.
fn has_figures(measure: &Measure, report: &Report) -> bool {
    report.strategies.iter().any(|one| one.figure(measure.key).is_some())
}

/// Closes the group before, too. The parser of HTML needs no end of a `tbody`.
fn heading(group: &str, columns: usize) -> String {
    format!(
        "<tbody>\n<tr class=\"group\"><th colspan=\"{columns}\" scope=\"rowgroup\">{group}</th></tr>\n"
    )
}

fn row(measure: &Measure, strategies: &[Measured]) -> String {
    let Measure { title, note, key, .. } = measure;
    let mut html = format!("<tr><th scope=\"row\">{title}<small>{note}</small></th>");
    let marks = marks(key, strategies);
    for (n, (one, mark)) in strategies.iter().zip(marks).enumerate() {
        let (class, sign) = match mark {
            Some(Mark::Best) => (" class=\"best\"", "<b title=\"best\">✓</b> "),
            Some(Mark::Worst) => (" class=\"worst\"", "<b title=\"worst\">✕</b> "),
            None => ("", ""),
        };
        let path = format!("strategies[{n}].measures.{key}");
        let label = &one.title;
        let value = ranged(one.figure(key), one.ranges.get(*key).copied());
        let _ = write!(
            html,
            "<td{class} data-label=\"{label}\" data-path=\"{path}\" title=\"{path}\">{sign}{value}</td>"
        );
    }
    html + "</tr>\n"
}

/// A figure that repeated as a number, another one as its order of magnitude; both with their range.
fn ranged(value: Option<f64>, range: Option<(f64, f64)>) -> String {
    let (Some(median), Some(range)) = (value, range) else { return figure(value) };
    let (lowest, highest) = (figure(Some(range.0)), figure(Some(range.1)));
    if lowest == highest {
        return figure(value);
    }
    let shown = if repeats::repeats(range, median) {
        figure(value)
    } else {
        format!("≈\u{202f}{}", figure(Some(magnitude(median))))
    };
    format!("{shown}<small>{lowest}–{highest}</small>")
}

/// The value with one digit.
fn magnitude(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powf(value.abs().log10().floor());
    (value / scale).round() * scale
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Best,
    Worst,
}

/// The best and the worst of a row, less being better. The control cannot be the best: what is fast
/// because it is wrong is not a model. A figure that more than half of them share, and differences that
/// a single pass cannot tell, are not marked.
fn marks(key: &str, strategies: &[Measured]) -> Vec<Option<Mark>> {
    let value = |one: &Measured| one.figure(key);
    let worst = strategies.iter().filter_map(value).max_by(f64::total_cmp);
    let contestants = strategies.iter().filter(|one| one.id != CONTROL);
    let best = contestants.filter_map(value).min_by(f64::total_cmp);
    let (Some(best), Some(worst)) = (best, worst) else { return vec![None; strategies.len()] };
    let differs = worst > best * TELLS_APART && worst > 0.0;
    let is_rare = |value: f64| {
        let sharing = strategies.iter().filter(|one| one.figure(key) == Some(value)).count();
        sharing * 2 <= strategies.len()
    };
    let mark = |one: &Measured| match value(one).filter(|value| differs && is_rare(*value)) {
        Some(value) if value == worst => Some(Mark::Worst),
        Some(value) if value == best && one.id != CONTROL => Some(Mark::Best),
        _ => None,
    };
    strategies.iter().map(mark).collect()
}

const CONTROL: &str = "memory";

/// The ratio from which two figures of a single pass differ.
const TELLS_APART: f64 = 1.15;

#[cfg(test)]
mod tests {
    use super::super::tests::{measured, report};
    use super::*;

    #[test]
    fn the_best_and_the_worst_are_marked() {
        let one = |value| measured("one", &[("read_p99_ms", value)]);
        let marks_of = |values: [f64; 3]| marks("read_p99_ms", &values.map(one));
        assert_eq!(marks_of([4.0, 9.0, 5.0]), [Some(Mark::Best), Some(Mark::Worst), None]);
        assert_eq!(marks_of([4.0, 4.5, 4.2]), [None; 3]);
        assert_eq!(marks_of([0.0, 0.0, 0.0]), [None; 3]);
        assert_eq!(marks_of([0.0, 7.0, 0.0]), [None, Some(Mark::Worst), None]);
    }

    #[test]
    fn unrepeatable_figures_are_orders_of_magnitude() {
        assert_eq!(ranged(Some(5.0), Some((4.8, 5.2))), "5<small>4.80–5.20</small>");
        assert_eq!(ranged(Some(47.0), Some((20.0, 90.0))), "≈\u{202f}50<small>20–90</small>");
        assert_eq!(ranged(Some(0.0), Some((0.0, 0.0))), "0");
        assert_eq!(ranged(Some(3.0), None), "3");
    }

    #[test]
    fn the_control_is_never_the_best() {
        let control =
            Measured { id: CONTROL.to_owned(), ..measured("control", &[("read_p99_ms", 1.0)]) };
        let others = [4.0, 9.0].map(|value| measured("one", &[("read_p99_ms", value)]));
        let marks = marks("read_p99_ms", &[&[control][..], &others].concat());
        assert_eq!(marks, [None, Some(Mark::Best), Some(Mark::Worst)]);
    }

    #[test]
    fn every_cell_names_its_place_in_the_json() {
        let report = report(vec![measured("one", &[("read_p99_ms", 4.0), ("processes", 3.0)])]);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let html = table(&report);
        let cells: Vec<_> = html.split("data-path=\"strategies[0].measures.").skip(1).collect();
        assert_eq!(cells.len(), 2, "measures without figures have no row");
        for cell in cells {
            let (key, rest) = cell.split_once('"').unwrap();
            let shown = rest.split_once('>').unwrap().1.split_once("</td>").unwrap().0;
            let value = json["strategies"][0]["measures"][key].as_f64();
            assert_eq!(shown, figure(value), "{key}");
        }
    }
}
