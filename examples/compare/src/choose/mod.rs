//! "Which should I take?": five questions, and the strategy that the answers, the table and the model lead to.

pub mod terminal;

use crate::measures::Measured;
use crate::model::text::{bytes, count};
use crate::model::{Case, Formulas, Model};
use crate::report::Report;
use crate::strategy::{Server, Strategy};

/// A question with the answers to choose from.
#[derive(Debug)]
pub struct Question {
    /// The name in options.
    pub id: &'static str,
    /// The question.
    pub text: &'static str,
    /// The answers: the name in options, and the words.
    pub answers: &'static [(&'static str, &'static str)],
}

/// The numbers of the answers, in the order of [`QUESTIONS`].
pub type Answers = [usize; 5];

/// The strategy to take, why, and what would change that.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// `None` if the answers leave nothing.
    pub strategy: Option<Strategy>,
    /// Sentences.
    pub reasons: Vec<String>,
    /// Other answers to one question, each with the strategy that they lead to.
    pub changes: Vec<String>,
}

/// Chooses from measured figures.
#[derive(Debug)]
pub struct Chooser<'a> {
    report: &'a Report,
    model: Model,
}

impl<'a> Chooser<'a> {
    /// A chooser from a report. `None` if it has no unit costs.
    pub fn new(report: &'a Report) -> Option<Self> {
        (!report.units.is_empty()).then(|| Self { report, model: Model::of_report(report) })
    }

    /// The strategy for these answers.
    pub fn choose(&self, answers: Answers) -> Choice {
        let ranked = self.ranked(answers);
        let strategy = ranked.first().map(|best| best.strategy);
        let reasons = match ranked.as_slice() {
            [] => vec![nothing(answers)],
            [best, others @ ..] => self.reasons(answers, best, others),
        };
        Choice { strategy, reasons, changes: self.changes(answers, strategy) }
    }

    /// Returns the strategies that fit the answers, the one with the least processor time first.
    fn ranked(&self, answers: Answers) -> Vec<&Formulas> {
        let fits = |one: &&Formulas| why_not(one.strategy, answers).is_none();
        let mut left: Vec<_> = self.model.strategies.iter().filter(fits).collect();
        let cpu = |one: &&Formulas| one.take(case(answers)).cpu_ms;
        left.sort_by(|one, other| cpu(one).total_cmp(&cpu(other)));
        left
    }

    fn reasons(&self, answers: Answers, best: &Formulas, others: &[&Formulas]) -> Vec<String> {
        let case = case(answers);
        let (taken, size) = (best.take(case), format!("{:.0} nodes", case.nodes));
        let cores = |cpu_ms: f64| format!("{:.1} cores", cpu_ms / 1_000.0);
        let load = format!(
            "{} sessions, {} reads and {} writes per second",
            count(case.sessions),
            count(case.reads),
            count(case.writes)
        );
        let price = match others {
            [] => format!(
                "It is the only one that the answers leave. On {size} with {load} it takes {}.",
                cores(taken.cpu_ms)
            ),
            [next, ..] => format!(
                "Of what the answers leave it takes the least processor time: on {size} with {load}, {}; \
                 next is {} with {}.",
                cores(taken.cpu_ms),
                next.strategy.title(),
                cores(next.take(case).cpu_ms)
            ),
        };
        let traffic = format!(
            "There it sends {}/s between nodes, or nodes and server, and each node needs {}.",
            bytes(taken.traffic),
            bytes(taken.node_memory)
        );
        let mut reasons = vec![price, traffic];
        reasons.extend(self.measured(best.strategy).and_then(losses));
        reasons.push(best.strategy.summary().to_owned());
        reasons
    }

    fn measured(&self, strategy: Strategy) -> Option<&Measured> {
        self.report.strategies.iter().find(|one| one.id == strategy.id())
    }

    /// One other answer at a time.
    fn changes(&self, answers: Answers, strategy: Option<Strategy>) -> Vec<String> {
        let mut changes = Vec::new();
        for (n, question) in QUESTIONS.iter().enumerate() {
            for (other, (_, words)) in question.answers.iter().enumerate() {
                let mut changed = answers;
                changed[n] = other;
                let led = self.ranked(changed).first().map(|best| best.strategy);
                if led != strategy {
                    let to = led.map_or("nothing fits", Strategy::title);
                    changes.push(format!("{} – {words}: {to}", question.text));
                }
            }
        }
        changes
    }
}

/// Describes the losses of the strategy when a node was killed, and the effect of an outage of its
/// server.
fn losses(measured: &Measured) -> Option<String> {
    let figure = |key| measured.figure(key);
    let lost = figure("kill_lost_sessions")?;
    let outage = figure("outage_failed_requests")
        .map(|failed| format!(" {failed:.0} requests failed while its server stood still."));
    let failed = figure("kill_failed_requests").unwrap_or(0.0);
    Some(format!(
        "When a node was killed under load, {lost:.0} sessions were lost and {failed:.0} requests failed.{}",
        outage.unwrap_or_default()
    ))
}

/// The reason for which a strategy does not fit. `None` if it does.
pub fn why_not(strategy: Strategy, answers: Answers) -> Option<&'static str> {
    let [_, balancer, server, death, stop] = answers;
    let sticky = matches!(strategy, Strategy::Sticky | Strategy::StickyBackup);
    let lone = matches!(strategy, Strategy::Sticky | Strategy::StickyAddress);
    let in_server = strategy.server().is_some();
    let has_server = match strategy.server() {
        None => true,
        Some(Server::Redis) => server == REDIS,
        Some(Server::Postgres) => server == POSTGRES,
    };
    if sticky && balancer != COOKIE {
        Some("the balancer has to follow a cookie")
    } else if strategy == Strategy::StickyAddress && balancer != ADDRESS {
        Some(
            "a balancer that follows a cookie does better, and another one has to follow addresses",
        )
    } else if !has_server {
        Some("it needs a server that you do not run")
    } else if lone && death == NO {
        Some("a node that dies ends its sessions")
    } else if !in_server && stop == YES {
        Some("sessions end when all nodes stop")
    } else {
        None
    }
}

/// The reason for which nothing fits.
fn nothing(answers: Answers) -> String {
    let whys = Strategy::choices().filter_map(|strategy| {
        Some(format!("{}: {}", strategy.title(), why_not(strategy, answers)?))
    });
    format!("Nothing fits these answers. {}.", whys.collect::<Vec<_>>().join("; "))
}

/// The size that stands for an answer.
fn case(answers: Answers) -> Case {
    let nodes = [3.0, 10.0, 50.0][answers[0]];
    Case {
        nodes,
        sessions: 10_000.0 * nodes,
        reads: 100.0 * nodes,
        writes: 10.0 * nodes,
        turnovers: nodes,
        value_bytes: 100.0,
    }
}

/// All combinations of answers.
pub fn all_answers() -> impl Iterator<Item = Answers> {
    let counts = QUESTIONS.each_ref().map(|question| question.answers.len());
    (0..counts.iter().product()).map(move |mut number: usize| {
        counts.map(|count| {
            let answer = number % count;
            number /= count;
            answer
        })
    })
}

const COOKIE: usize = 0;
const ADDRESS: usize = 1;
const REDIS: usize = 1;
const POSTGRES: usize = 2;
const YES: usize = 0;
const NO: usize = 1;

/// The five questions.
pub const QUESTIONS: [Question; 5] = [
    Question {
        id: "nodes",
        text: "How many nodes will there be?",
        answers: &[("few", "2 to 5"), ("some", "6 to 20"), ("many", "more than 20")],
    },
    Question {
        id: "balancer",
        text: "What can the balancer follow?",
        answers: &[
            ("cookie", "a cookie"),
            ("address", "the address of visitors"),
            ("nothing", "neither of them"),
        ],
    },
    Question {
        id: "server",
        text: "Which server do you run, or would you run for this?",
        answers: &[("none", "none"), ("redis", "Redis"), ("postgres", "PostgreSQL")],
    },
    Question {
        id: "death",
        text: "May people have to sign in again when a node dies?",
        answers: &[("yes", "yes"), ("no", "no")],
    },
    Question {
        id: "stop",
        text: "Must sessions survive when all nodes stop together?",
        answers: &[("yes", "yes"), ("no", "no")],
    },
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::tests::measured as units;
    use crate::report::tests::report;

    #[test]
    fn answers_rule_strategies_out() {
        let report = everything();
        let chooser = Chooser::new(&report).unwrap();
        let chosen = |answers| chooser.choose(answers).strategy;
        let [any, redis] = [[0, 2, 0, NO, NO], [0, 2, REDIS, NO, YES]].map(chosen);
        assert_eq!(redis, Some(Strategy::Redis));
        assert!(matches!(any, Some(Strategy::ReplicatedAll | Strategy::ReplicatedOne)), "{any:?}");
        assert_eq!(chosen([0, ADDRESS, 0, YES, NO]), Some(Strategy::StickyAddress));
    }

    #[test]
    fn if_nothing_fits_it_says_why() {
        let report = everything();
        let choice = Chooser::new(&report).unwrap().choose([0, 2, 0, NO, YES]);
        assert_eq!(choice.strategy, None);
        assert!(choice.reasons[0].contains("Redis: it needs a server"), "{:?}", choice.reasons);
        assert!(choice.changes.iter().any(|change| change.ends_with("Redis")));
    }

    #[test]
    fn a_choice_has_reasons_and_alternatives() {
        let report = everything();
        let chooser = Chooser::new(&report).unwrap();
        for answers in all_answers() {
            let choice = chooser.choose(answers);
            assert!(!choice.reasons.is_empty() && !choice.changes.is_empty(), "{answers:?}");
        }
        assert_eq!(all_answers().count(), 108);
    }

    /// A report with unit costs of every strategy: the later in the list, the dearer.
    pub(crate) fn everything() -> Report {
        let mut everything = report(Vec::new());
        for (n, strategy) in Strategy::choices().enumerate() {
            let mut of = units(strategy, |_| 100.0);
            of.iter_mut().for_each(|units| units.read.cpu_ms = 0.1 * (n + 1) as f64);
            everything.units.extend(of);
        }
        everything
    }
}
