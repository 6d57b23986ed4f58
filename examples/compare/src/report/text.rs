//! The table for a terminal: a measure a line, a contestant a column.

use super::Report;
use crate::measures;

/// The table of all figures.
pub(super) fn table(report: &Report) -> String {
    let mut table = line("", report.strategies.iter().map(|one| one.id.clone()));
    let mut group = "";
    for measure in measures::all() {
        if measure.group != group {
            group = measure.group;
            table += &format!("{group}\n");
        }
        let figures = report.strategies.iter().map(|one| figure(one.figure(measure.key)));
        table += &line(&format!("  {}", measure.title), figures);
    }
    table
}

/// A figure without digits beyond the precision of a single pass.
pub(super) fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value == 0.0 || value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn line(head: &str, cells: impl Iterator<Item = String>) -> String {
    let mut line = format!("{head:<44}");
    for cell in cells {
        line += &format!(" {cell:>14}");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_digits_that_tell() {
        let shown = [Some(0.0), Some(3.0), Some(1.234), Some(12.34), Some(1_234.5), None];
        assert_eq!(shown.map(figure), ["0", "3", "1.23", "12.3", "1234", "–"]);
    }
}
