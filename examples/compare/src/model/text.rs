//! Predictions and their units as text.

use std::fmt::Write;

use super::{Case, Model};

/// The table of predictions at a size, for a terminal.
pub fn table(model: &Model, case: Case) -> String {
    let mut table = format!(
        "{:.0} nodes, {} sessions, {} reads/s, {} writes/s, {} sign-ins/s, values of {:.0} bytes\n\n",
        case.nodes,
        count(case.sessions),
        count(case.reads),
        count(case.writes),
        count(case.turnovers),
        case.value_bytes
    );
    let heads =
        ["traffic", "per node", "server", "all memory", "CPU cores", "1 node dies", "2 nodes die"];
    let _ = writeln!(table, "{:<16}{}", "", row(&heads.map(str::to_owned)));
    for one in &model.strategies {
        let (taken, risk) = (one.take(case), one.risk(case));
        let cells = [
            format!("{}/s", bytes(taken.traffic)),
            bytes(taken.node_memory),
            if taken.server_memory > 0.0 { bytes(taken.server_memory) } else { "–".to_owned() },
            bytes(taken.node_memory * case.nodes + taken.server_memory),
            format!("{:.2}", taken.cpu_ms / 1_000.0),
            count(risk.one_node),
            count(risk.two_nodes),
        ];
        let _ = writeln!(table, "{:<16}{}", one.strategy.id(), row(&cells));
    }
    table + NOTES
}

fn row(cells: &[String]) -> String {
    cells.iter().map(|cell| format!("{cell:>13}")).collect()
}

/// Bytes with a unit.
pub fn bytes(bytes: f64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    let power = if bytes < 1.0 { 0 } else { (bytes.log10() / 3.0) as usize };
    let power = power.min(units.len() - 1);
    let scaled = bytes / 1_000_f64.powi(power as i32);
    let digits = if scaled < 9.95 && power > 0 { 1 } else { 0 };
    format!("{scaled:.digits$} {}", units[power])
}

/// A count with thousands apart.
pub fn count(count: f64) -> String {
    if count > 0.0 && count < 10.0 && count.fract() > 0.05 {
        return format!("{count:.1}");
    }
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const NOTES: &str = "
traffic: between nodes, and between nodes and server, without visitors and the balancer
CPU cores: of nodes, balancer and server; the server's standby is not in it
1 node dies, 2 nodes die: sessions that end, if the second dies before copies are made again
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::measured;
    use crate::strategy::Strategy;

    #[test]
    fn figures_have_units() {
        let shown = [0.0, 12.0, 1_500.0, 25_300_000.0, 3.2e12].map(bytes);
        assert_eq!(shown, ["0 B", "12 B", "1.5 KB", "25 MB", "3.2 TB"]);
        assert_eq!([0.0, 2.5, 999.0, 5e6].map(count), ["0", "2.5", "999", "5,000,000"]);
    }

    #[test]
    fn a_row_shows_costs_and_risks() {
        let model = Model::fit(&measured(Strategy::Sticky, |_| 0.0));
        let (nodes, sessions, value_bytes) = (50.0, 5e6, 100.0);
        let case = Case { nodes, sessions, reads: 1e4, writes: 1e3, turnovers: 0.0, value_bytes };
        let text = table(&model, case);
        assert!(text.starts_with("50 nodes, 5,000,000 sessions, 10,000 reads/s"), "{text}");
        let row = text.lines().find(|line| line.starts_with("sticky ")).unwrap();
        assert!(row.contains("100,000"), "{row}");
    }
}
