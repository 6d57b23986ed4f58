//! The check of the model: sizes are drawn from a seed before the fit, and measured afterwards.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Case, Model, Taken};
use crate::contest::Setting;
use crate::load::arrivals::{Skew, Step, Workload};
use crate::observe::{Memory, observe};
use crate::procfs::{self, Machine};
use crate::random::Random;
use crate::records::Phase;
use crate::strategy::Strategy;

/// A strategy at a size that was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drawn {
    /// The name of the strategy in options.
    pub strategy: String,
    /// The number of nodes, 2 to 6. The formulas are fitted to at most 5.
    pub nodes: usize,
    /// Sessions, 500 to 12,000. The formulas are fitted to fewer than half of that.
    pub sessions: usize,
    /// Requests per second, 50 to 300.
    pub rate: f64,
    /// The share of reads among reads and writes, 0.5 to 0.97.
    pub reads: f64,
    /// The size of the value in a session, 50 to 4,000 bytes. The formulas are fitted to at most 2,000.
    pub value_bytes: usize,
}

/// A drawn size with what was measured at it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// The strategy and the size.
    pub drawn: Drawn,
    /// The measured rates of the load.
    pub case: Case,
    /// The measured values.
    pub measured: Taken,
    /// The share of the machine that other programs used, in percent.
    pub others_percent: f64,
}

/// A prediction, and the measured value.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The quantity, with its unit.
    pub quantity: &'static str,
    /// The prediction.
    pub predicted: f64,
    /// The measured value.
    pub measured: f64,
}

/// Draws sizes. The seed alone decides them.
pub fn draw(seed: u64, count: usize) -> Vec<Drawn> {
    let strategies: Vec<_> = Strategy::choices().collect();
    let mut random = Random::new(seed ^ DRAWING);
    let mut one = |n: usize| {
        let mut between = |least: f64, most: f64| least * (most / least).powf(random.unit());
        Drawn {
            // All strategies, as often as each other.
            strategy: strategies[n % strategies.len()].id().to_owned(),
            nodes: between(2.0, 6.999) as usize,
            sessions: between(500.0, 12_000.0) as usize,
            rate: between(50.0, 300.0).round(),
            reads: (between(0.5, 0.97) * 100.0).round() / 100.0,
            value_bytes: between(50.0, 4_000.0) as usize,
        }
    };
    (0..count).map(&mut one).collect()
}

/// Measures a strategy at a drawn size.
///
/// # Errors
///
/// If a process does not start, or the system does not tell what it counted.
pub async fn measure(setting: &Setting<'_>, drawn: &Drawn) -> anyhow::Result<Checked> {
    let Drawn { nodes, sessions, rate, reads, value_bytes, .. } = *drawn;
    let strategy = drawn.strategy.parse()?;
    let (service, load) = setting.arrange(strategy, nodes, sessions, value_bytes).await?;
    load.sign_in().await;
    load.write_all().await;
    tokio::time::sleep(SETTLING).await;
    let memory = Memory::now();
    let seed = setting.options.workload.seed;
    let workload = Workload { sessions, reads, rate, value_bytes, skew: Skew::Even, seed };
    let plan = workload.arrivals(3, LENGTH);
    let (machine, own) = (Machine::now(), procfs::own_milliseconds());
    let observed = observe(&service, load.carry_out(Phase::Calm, &plan)).await?;
    let ours = procfs::own_milliseconds() - own + observed.cpu_ms;
    service.end().await;
    let seconds = observed.length.as_secs_f64();
    let per_second =
        |step| plan.iter().filter(|arrival| arrival.step == step).count() as f64 / seconds;
    Ok(Checked {
        drawn: drawn.clone(),
        case: Case {
            nodes: nodes as f64,
            sessions: sessions as f64,
            reads: per_second(Step::Read),
            writes: per_second(Step::Write),
            turnovers: per_second(Step::Leave),
            value_bytes: value_bytes as f64,
        },
        measured: Taken {
            traffic: observed.bytes / seconds,
            node_memory: memory.node,
            server_memory: memory.server,
            cpu_ms: observed.cpu_ms / seconds,
        },
        others_percent: machine.map_or(0.0, |before| procfs::others(before, ours) * 100.0),
    })
}

impl Checked {
    /// Returns the predictions of a model with the measured values, where both exist.
    ///
    /// # Errors
    ///
    /// If the model has no such strategy.
    pub fn compare(&self, model: &Model) -> anyhow::Result<Vec<Compared>> {
        let strategy: Strategy = self.drawn.strategy.parse()?;
        let formulas = model.of(strategy);
        let formulas = formulas.with_context(|| format!("{} was not measured", strategy.id()))?;
        let (predicted, measured) = (formulas.take_on_one_machine(self.case), self.measured);
        let of = |quantity, predicted, measured| Compared { quantity, predicted, measured };
        let compared = [
            of("traffic, bytes per second", predicted.traffic, measured.traffic),
            of("memory of a node, bytes", predicted.node_memory, measured.node_memory),
            of("memory of the server, bytes", predicted.server_memory, measured.server_memory),
            of("CPU, ms per second", predicted.cpu_ms, measured.cpu_ms),
        ];
        let is_something = |one: &Compared| one.predicted.max(one.measured) >= 1.0;
        Ok(compared.into_iter().filter(is_something).collect())
    }
}

impl Compared {
    /// The error of the prediction, relative to the measured value.
    pub fn error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }

    /// True if the prediction is within 20 % of the measured value.
    pub fn is_close(&self) -> bool {
        self.error().abs() <= CLOSE
    }
}

/// The largest relative error of a close prediction.
pub const CLOSE: f64 = 0.2;

/// Sizes that are drawn.
pub const DRAWN: usize = 20;

/// Makes the sizes of a seed differ from its arrivals.
const DRAWING: u64 = 0x6d6f_6465_6c00;

const SETTLING: Duration = Duration::from_millis(700);
const LENGTH: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::measured;

    #[test]
    fn a_seed_draws_all_strategies_and_larger_sizes() {
        let drawn = draw(1, DRAWN);
        assert_eq!(drawn, draw(1, DRAWN));
        assert_ne!(drawn, draw(2, DRAWN));
        assert!(drawn.iter().all(|one| (2..=6).contains(&one.nodes)));
        assert!(drawn.iter().any(|one| one.nodes == 6));
        assert!(drawn.iter().any(|one| one.value_bytes > 2_000));
        let strategies: std::collections::BTreeSet<_> =
            drawn.iter().map(|one| one.strategy.as_str()).collect();
        assert_eq!(strategies.len(), Strategy::choices().count());
    }

    #[test]
    fn a_prediction_is_compared_with_what_was_measured() {
        let model = Model::fit(&measured(Strategy::Redis, |_| 100.0));
        let drawn = Drawn { strategy: "redis".to_owned(), ..draw(1, 1).remove(0) };
        let (nodes, sessions, reads, writes, turnovers) = (3.0, 0.0, 0.0, 10.0, 0.0);
        let case = Case { nodes, sessions, reads, writes, turnovers, value_bytes: 100.0 };
        let measured =
            Taken { traffic: 1_250.0, node_memory: 5e6, server_memory: 0.0, cpu_ms: 50.0 };
        let checked = Checked { drawn, case, measured, others_percent: 0.0 };
        let compared = checked.compare(&model).unwrap();
        assert_eq!(compared.len(), 3, "without a server's memory");
        assert!((compared[0].error() + 0.2).abs() < 1e-9);
        assert!(compared[1].is_close() && !compared[2].is_close());
    }
}
