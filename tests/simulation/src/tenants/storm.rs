//! Members through take-overs, late messages and crashes that overlap, as a seed draws them.

use std::time::Duration;

use steadfast_replication::epoch::{Acknowledgements, Change};
use steadfast_replication::placement::Replication;
use steadfast_replication::rules::Rule;

use super::field::{Field, Terms};
use crate::history::clients::Habits;
use crate::random::Random;

/// An event that hits members in a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// Messages of a link are late.
    LateLink,
    /// All messages of a member, or to it, are late.
    LateNode,
    /// A member that is well is put aside.
    Aside,
    /// An epoch follows in which nothing changes.
    Nothing,
    /// A process ends, and another one begins.
    Crash,
    /// A process drains, ends, and another one begins.
    Drain,
    /// A member suspects another one.
    Suspicion,
    /// Nothing is asked and answered for a while.
    Rest,
}

const BLOWS: [Blow; 8] = [
    Blow::LateLink,
    Blow::LateNode,
    Blow::Aside,
    Blow::Nothing,
    Blow::Crash,
    Blow::Drain,
    Blow::Suspicion,
    Blow::Rest,
];

/// How a seed behaves.
struct Weather {
    blows: Vec<Blow>,
    pause: Duration,
    /// How long messages are late, at most, in milliseconds.
    late: u64,
}

/// Runs a seed; says how many epochs and calls there were.
///
/// # Errors
///
/// Returns the first violation.
pub fn storm(seed: u64, without: Option<Rule>) -> Result<(usize, usize), String> {
    let mut random = Random::new(seed, 11);
    let terms = terms(&mut random, seed);
    let weather = Weather::drawn(&mut random);
    let mut field = Field::new(seed, &terms, without);
    field.run(|field| weather.rage(field, &mut random))
}

const LASTS: Duration = Duration::from_secs(6);

fn terms(random: &mut Random, seed: u64) -> Terms {
    let copies = [Replication::Backups(1), Replication::Backups(2), Replication::Full];
    Terms {
        nodes: 3 + random.below(2),
        replication: random.one_of(&copies).unwrap_or(Replication::Full),
        acknowledgements: Acknowledgements::One,
        forgets_soon: seed % 2 == 1,
        lost_grants: random.one_of(&[4, 20, 1_000]).unwrap_or(4),
        habits: Habits {
            rate: 100 + random.below(200) as u32,
            sessions: 3 + random.below(4),
            principals: 0,
            ends: 20 + random.below(80),
            ..Habits::default()
        },
    }
}

impl Weather {
    fn drawn(random: &mut Random) -> Self {
        let mut blows: Vec<_> = BLOWS.into_iter().filter(|_| !random.one_in(3)).collect();
        if blows.is_empty() {
            blows.push(Blow::Crash);
        }
        let pause = random.millis(20, 400);
        Self { blows, pause, late: random.one_of(&[40, 200, 800, 2_000]).unwrap_or(40) }
    }

    fn rage(&self, field: &mut Field, random: &mut Random) -> Result<(), String> {
        let end = field.time() + LASTS;
        while field.time() < end {
            self.blow(field, random);
            field.go(random.between(self.pause / 8, self.pause))?;
        }
        Ok(())
    }

    fn blow(&self, field: &mut Field, random: &mut Random) {
        let Some(blow) = random.one_of(&self.blows) else { return };
        let nodes = field.nodes();
        let (at, other) = (random.below(nodes), random.below(nodes));
        let span = random.millis(5, self.late);
        match blow {
            Blow::LateLink => field.late(at, other, span),
            Blow::LateNode => {
                field.late_to(at, span);
                if random.one_in(2) {
                    field.late_from(at, span);
                }
            }
            Blow::Aside => drop(field.choose(&[Change::SetAside(field.boot(at))])),
            Blow::Nothing => drop(field.choose(&[])),
            Blow::Crash => drop(field.crash(at)),
            Blow::Drain => drop(field.choose(&[Change::Drain(field.boot(at))])),
            Blow::Suspicion => field.suspect(at, (at != other).then_some(other)),
            Blow::Rest => field.rest(span),
        }
    }
}
