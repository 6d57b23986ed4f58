//! The model: formulas for traffic, memory and processor time at any size, fitted to measured unit costs.

pub mod check;
pub mod formula;
mod memory;
pub mod text;

use crate::report::Report;
use crate::strategy::Strategy;
use crate::units::{READ_RATE, Units};
use formula::{At, Factor, Formula, Term};

/// A size to predict.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Case {
    /// The number of nodes.
    pub nodes: f64,
    /// Sessions in the service.
    pub sessions: f64,
    /// Reads per second, of all nodes.
    pub reads: f64,
    /// Writes per second.
    pub writes: f64,
    /// Sign-outs with the sign-in that follows, per second.
    pub turnovers: f64,
    /// The size of the value in a session, in bytes.
    pub value_bytes: f64,
}

/// The costs of a strategy at a size.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    /// Bytes per second between nodes, and between nodes and server.
    pub traffic: f64,
    /// Memory of each node, in bytes.
    pub node_memory: f64,
    /// Memory of the server, in bytes, 0 without one.
    pub server_memory: f64,
    /// Milliseconds of processor time in each second, of all processes.
    pub cpu_ms: f64,
}

/// The risks of a strategy at a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Risk {
    /// Sessions that end when a node dies.
    pub one_node: f64,
    /// Sessions that end when two nodes die before the copies of the first were made again.
    pub two_nodes: f64,
    /// The share of requests that need a session and fail while the server is away.
    pub server_away: f64,
}

/// The formulas of all strategies but the control and the baseline.
#[derive(Clone, Debug)]
pub struct Model {
    /// One for each strategy that was measured.
    pub strategies: Vec<Formulas>,
}

/// The formulas of a strategy.
#[derive(Clone, Debug)]
pub struct Formulas {
    /// The strategy.
    pub strategy: Strategy,
    /// One for each quantity, in the order of [`Quantity::ALL`].
    pub formulas: Vec<(Quantity, Formula)>,
}

/// A quantity that a formula predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Bytes per second at rest.
    RestBytes,
    /// Bytes of a read.
    ReadBytes,
    /// Bytes of a write.
    WriteBytes,
    /// Bytes of a sign-out and a sign-in.
    TurnoverBytes,
    /// Milliseconds of processor time per second at rest.
    RestCpu,
    /// Milliseconds of a read.
    ReadCpu,
    /// Milliseconds of a write.
    WriteCpu,
    /// Milliseconds of a sign-out and a sign-in.
    TurnoverCpu,
    /// Memory of a node without sessions.
    NodeBase,
    /// Memory of a node for each session of the service.
    NodeSession,
    /// Memory of the server without sessions.
    ServerBase,
    /// Memory of the server for each session.
    ServerSession,
}

impl Model {
    /// The formulas for the unit costs of a report, with the memory that its calm load takes.
    pub fn of_report(report: &Report) -> Self {
        Self::fit(&memory::under_load(report))
    }

    /// The formulas that come closest to unit costs at several sizes.
    pub fn fit(units: &[Units]) -> Self {
        let strategies = Strategy::choices().filter_map(|strategy| {
            let of: Vec<_> = units.iter().filter(|one| one.strategy == strategy.id()).collect();
            (!of.is_empty()).then(|| Formulas::fit(strategy, &of))
        });
        Self { strategies: strategies.collect() }
    }

    /// The formulas of a strategy, if it was measured.
    pub fn of(&self, strategy: Strategy) -> Option<&Formulas> {
        self.strategies.iter().find(|one| one.strategy == strategy)
    }
}

impl Formulas {
    fn fit(strategy: Strategy, units: &[&Units]) -> Self {
        let formulas = Quantity::ALL.map(|quantity| {
            let points = units.iter().map(|one| (at(one), quantity.of(one))).collect::<Vec<_>>();
            (quantity, Formula::fit(&quantity.terms(strategy), &points))
        });
        Self { strategy, formulas: formulas.to_vec() }
    }

    /// Returns the costs at a size, with each node on a machine of its own.
    pub fn take(&self, case: Case) -> Taken {
        self.take_with(case, At { nodes: 1.0, value: case.value_bytes, reads: case.reads })
    }

    /// Returns the costs with all nodes on one machine, where they share the memory of the program
    /// itself.
    pub fn take_on_one_machine(&self, case: Case) -> Taken {
        self.take_with(case, At { nodes: case.nodes, value: case.value_bytes, reads: case.reads })
    }

    /// The sharers decide the memory of an empty node.
    fn take_with(&self, case: Case, sharers: At) -> Taken {
        let Case { nodes, sessions, reads, writes, turnovers, value_bytes: value } = case;
        let of = |quantity| self.of(quantity).at(At { nodes, value, reads });
        // Without reads, even their traffic at rest disappears.
        let read = |quantity| if reads > 0.0 { reads * of(quantity) } else { 0.0 };
        let sum = |rest, each, write, turnover| {
            of(rest) + read(each) + writes * of(write) + turnovers * of(turnover)
        };
        let (rest, write, turnover) =
            (Quantity::RestBytes, Quantity::WriteBytes, Quantity::TurnoverBytes);
        let traffic = sum(rest, Quantity::ReadBytes, write, turnover);
        let (rest, write, turnover) =
            (Quantity::RestCpu, Quantity::WriteCpu, Quantity::TurnoverCpu);
        let cpu_ms = sum(rest, Quantity::ReadCpu, write, turnover);
        let node_memory =
            self.of(Quantity::NodeBase).at(sharers) + sessions * of(Quantity::NodeSession);
        let server_memory = of(Quantity::ServerBase) + sessions * of(Quantity::ServerSession);
        Taken { traffic, node_memory, server_memory, cpu_ms }
    }

    /// Returns the risks at a size. They follow from the places of copies, and are not fitted.
    pub fn risk(&self, case: Case) -> Risk {
        let Case { nodes, sessions, .. } = case;
        let (one_node, two_nodes) = match self.strategy {
            Strategy::Memory | Strategy::Sticky | Strategy::StickyAddress => {
                (sessions / nodes, 2.0 * sessions / nodes)
            }
            Strategy::ReplicatedOne => (0.0, 2.0 * sessions / (nodes * (nodes - 1.0))),
            Strategy::ReplicatedAll if nodes <= 2.0 => (0.0, sessions),
            _ => (0.0, 0.0),
        };
        let needs_server = matches!(self.strategy, Strategy::Redis | Strategy::Postgres);
        Risk { one_node, two_nodes, server_away: f64::from(u8::from(needs_server)) }
    }

    /// The formula of a quantity.
    pub fn of(&self, quantity: Quantity) -> &Formula {
        let found = self.formulas.iter().find(|(one, _)| *one == quantity);
        &found.expect("every quantity has a formula").1
    }
}

impl Quantity {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::RestBytes,
        Self::ReadBytes,
        Self::WriteBytes,
        Self::TurnoverBytes,
        Self::RestCpu,
        Self::ReadCpu,
        Self::WriteCpu,
        Self::TurnoverCpu,
        Self::NodeBase,
        Self::NodeSession,
        Self::ServerBase,
        Self::ServerSession,
    ];

    /// The name for people, with the unit.
    pub fn title(self) -> &'static str {
        match self {
            Self::RestBytes => "bytes per second at rest",
            Self::ReadBytes => "bytes of a read",
            Self::WriteBytes => "bytes of a write",
            Self::TurnoverBytes => "bytes of a sign-out and sign-in",
            Self::RestCpu => "CPU at rest, ms per second",
            Self::ReadCpu => "CPU of a read, ms",
            Self::WriteCpu => "CPU of a write, ms",
            Self::TurnoverCpu => "CPU of a sign-out and sign-in, ms",
            Self::NodeBase => "memory of an empty node, bytes",
            Self::NodeSession => "memory of a node per session, bytes",
            Self::ServerBase => "memory of the empty server, bytes",
            Self::ServerSession => "memory of the server per session, bytes",
        }
    }

    /// The measured value.
    pub fn of(self, units: &Units) -> f64 {
        match self {
            Self::RestBytes => units.rest.bytes,
            Self::ReadBytes => units.read.bytes,
            Self::WriteBytes => units.write.bytes,
            Self::TurnoverBytes => units.turnover.bytes,
            Self::RestCpu => units.rest.cpu_ms,
            Self::ReadCpu => units.read.cpu_ms,
            Self::WriteCpu => units.write.cpu_ms,
            Self::TurnoverCpu => units.turnover.cpu_ms,
            Self::NodeBase => units.node_base,
            Self::NodeSession => units.node_session,
            Self::ServerBase => units.server_base,
            Self::ServerSession => units.server_session,
        }
    }

    /// Returns the terms that follow from the strategy's way of keeping copies.
    fn terms(self, strategy: Strategy) -> Vec<Term> {
        use Factor::*;
        let (of, by_byte) = (Term::of, Term::by_byte);
        let (all, one) = (strategy == Strategy::ReplicatedAll, strategy == Strategy::ReplicatedOne);
        match self {
            Self::RestBytes if all || one => vec![of(Nodes), of(Pairs)],
            Self::ReadBytes if all => vec![of(PairsByRead)],
            Self::ReadBytes if one => vec![of(PairsByRead), of(Elsewhere), by_byte(Elsewhere)],
            Self::WriteBytes if all => vec![of(Others), of(Away), by_byte(OthersAndAway)],
            Self::WriteBytes if one => vec![of(One), of(Away), by_byte(OneAndAway)],
            Self::TurnoverBytes | Self::TurnoverCpu if all => vec![of(Others), of(One)],
            Self::TurnoverBytes if one => vec![of(One), of(Away)],
            Self::RestBytes | Self::RestCpu => vec![of(Nodes), of(One)],
            // The server tells every node of each change.
            Self::ReadBytes
            | Self::WriteBytes
            | Self::TurnoverBytes
            | Self::ReadCpu
            | Self::WriteCpu
            | Self::TurnoverCpu
                if strategy == Strategy::StickyBackup =>
            {
                vec![of(One), of(Others), by_byte(One)]
            }
            Self::WriteCpu if all => vec![of(One), of(Others), by_byte(Others)],
            Self::ReadCpu if all => vec![of(One), of(PairsByRead), by_byte(One)],
            Self::ReadCpu if one => vec![of(One), of(PairsByRead), of(Elsewhere)],
            Self::WriteCpu | Self::TurnoverCpu if one => vec![of(One), of(Away), by_byte(One)],
            Self::NodeBase => vec![of(One), of(Share)],
            Self::NodeSession if all => vec![of(One), by_byte(One)],
            Self::NodeSession if one => vec![of(TwoShares), by_byte(TwoShares)],
            Self::NodeSession => vec![of(Share), by_byte(Share)],
            Self::ServerBase => vec![of(One), of(Nodes)],
            _ => vec![of(One), by_byte(One)],
        }
    }
}

fn at(units: &Units) -> At {
    At { nodes: units.nodes as f64, value: units.value_bytes as f64, reads: READ_RATE }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::units::Cost;

    #[test]
    fn copies_on_all_nodes_grow_with_the_nodes() {
        let model = Model::fit(&measured(Strategy::ReplicatedAll, |n| 300.0 * (n - 1.0)));
        let formulas = model.of(Strategy::ReplicatedAll).unwrap();
        let traffic = formulas.take(Case { writes: 10.0, ..case(50.0) }).traffic;
        assert!((traffic / (10.0 * 300.0 * 49.0) - 1.0).abs() < 0.01, "{traffic}");
    }

    #[test]
    fn a_dead_node_ends_what_it_alone_holds() {
        let risk = |strategy, nodes| {
            let model = Model::fit(&measured(strategy, |_| 1.0));
            model.of(strategy).unwrap().risk(Case { sessions: 900.0, ..case(nodes) })
        };
        assert_eq!(risk(Strategy::Sticky, 3.0).one_node, 300.0);
        let one = risk(Strategy::ReplicatedOne, 3.0);
        assert_eq!((one.one_node, one.two_nodes), (0.0, 300.0));
        assert_eq!(risk(Strategy::Redis, 3.0).server_away, 1.0);
    }

    #[test]
    fn a_node_alone_has_the_whole_program() {
        let mut units = measured(Strategy::Redis, |_| 0.0);
        units.iter_mut().for_each(|one| one.node_base = 1e6 + 6e6 / one.nodes as f64);
        let model = Model::fit(&units);
        let formulas = model.of(Strategy::Redis).unwrap();
        let memory = formulas.take_on_one_machine(case(6.0)).node_memory;
        assert!((memory / 2e6 - 1.0).abs() < 1e-6, "{memory}");
        let memory = formulas.take(case(6.0)).node_memory;
        assert!((memory / 7e6 - 1.0).abs() < 1e-6, "{memory}");
    }

    #[test]
    fn reads_that_do_not_come_cost_nothing() {
        let model = Model::fit(&measured(Strategy::ReplicatedAll, |_| 0.0));
        assert_eq!(model.of(Strategy::ReplicatedAll).unwrap().take(case(3.0)).traffic, 0.0);
    }

    /// Unit costs at three sizes, of which writes have bytes.
    pub(crate) fn measured(strategy: Strategy, write: impl Fn(f64) -> f64) -> Vec<Units> {
        let units = |nodes: usize| {
            let cost = |bytes| Cost { bytes, cpu_ms: 0.5 };
            Units {
                strategy: strategy.id().to_owned(),
                nodes,
                value_bytes: 100,
                sessions: 1_000,
                rest: cost(0.0),
                create: cost(0.0),
                read: cost(0.0),
                write: cost(write(nodes as f64)),
                turnover: cost(0.0),
                node_base: 5e6,
                server_base: 0.0,
                node_session: 500.0,
                server_session: 0.0,
            }
        };
        [2, 3, 5].map(units).to_vec()
    }

    fn case(nodes: f64) -> Case {
        let (sessions, reads, writes, turnovers, value_bytes) = (0.0, 0.0, 0.0, 0.0, 100.0);
        Case { nodes, sessions, reads, writes, turnovers, value_bytes }
    }
}
