//! A chart of the promises: what each strategy lost, showed again, or failed.

use std::fmt::Write;

use super::Report;
use super::text::figure;
use crate::measures::Measured;

/// The chart as a picture of its own, for a page that has no style sheet.
pub(super) fn promises(report: &Report) -> String {
    let rows = report.strategies.len() as f64;
    let (width, height) = (LEFT + PANELS.len() as f64 * PANEL, TOP + rows * ROW + 4.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{TITLE}\">\n<style>\n{STYLE}</style>\n\
         <text class=\"title\" x=\"0\" y=\"16\">{TITLE}</text>\n"
    );
    for (n, one) in report.strategies.iter().enumerate() {
        let y = middle(n);
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{y}\">{}</text>",
            LEFT - 10.0,
            one.title
        );
    }
    for (n, panel) in PANELS.iter().enumerate() {
        svg += &panel.drawn(LEFT + n as f64 * PANEL, &report.strategies);
    }
    svg + "</svg>\n"
}

/// The bars of one measure.
struct Panel {
    title: &'static str,
    unit: &'static str,
    key: &'static str,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Lost updates",
        unit: "% of those made concurrently",
        key: "lost_updates_percent",
    },
    Panel { title: "Undone logouts", unit: "reads of ended sessions", key: "revived" },
    Panel { title: "A node is killed:", unit: "sessions lost", key: "kill_lost_sessions" },
    Panel { title: "A node is killed:", unit: "requests failed", key: "kill_failed_requests" },
];

impl Panel {
    fn drawn(&self, x: f64, strategies: &[Measured]) -> String {
        let figures: Vec<_> = strategies.iter().map(|one| one.figure(self.key)).collect();
        let most = figures.iter().flatten().copied().fold(1.0, f64::max);
        let mut svg = format!(
            "<text class=\"panel\" x=\"{x}\" y=\"40\">{}</text>\n<text class=\"figure\" x=\"{x}\" y=\"55\">{}</text>\n",
            self.title, self.unit
        );
        for (n, value) in figures.into_iter().enumerate() {
            let length = value.unwrap_or(0.0) / most * BAR;
            let class = if length > 0.0 { "broken" } else { "kept" };
            let (length, y) = (length.max(2.0), middle(n));
            let (top, beside) = (y - 10.0, x + length + 5.0);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"{length:.1}\" height=\"13\" rx=\"2\"/>\
                 <text class=\"figure\" x=\"{beside:.1}\" y=\"{y}\">{}</text>",
                figure(value)
            );
        }
        svg
    }
}

/// The baseline of the text in a row.
fn middle(row: usize) -> f64 {
    TOP + (row as f64 + 0.5) * ROW + 4.0
}

const TITLE: &str = "What was lost, came back, or failed: nothing is best";
const LEFT: f64 = 190.0;
const TOP: f64 = 62.0;
const ROW: f64 = 22.0;
/// The width of a panel, and of its longest bar.
const PANEL: f64 = 175.0;
const BAR: f64 = 110.0;

const STYLE: &str = "text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 } .panel { font-weight: 600 }
.name { text-anchor: end }
.figure { font-size: 11px; fill: #57606a }
.broken { fill: #cf222e } .kept { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .figure { fill: #9198a1 } .broken { fill: #f85149 } .kept { fill: #3fb950 }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_has_four_bars() {
        let report = Report::committed();
        let svg = promises(&report);
        for one in &report.strategies {
            assert!(svg.contains(&format!(">{}</text>", one.title)), "{}", one.title);
        }
        assert_eq!(svg.matches("<rect").count(), 4 * report.strategies.len());
    }

    #[test]
    fn the_longest_bar_is_the_worst_figure() {
        let svg = promises(&Report::committed());
        assert!(svg.contains(&format!("width=\"{BAR:.1}\"")), "{svg}");
        assert!(svg.contains("class=\"kept\""));
    }
}
