//! Accidents that a rule of the protocol prevents, one kind in each: a seed draws who is hit, and when.

use std::time::Duration;

use steadfast_replication::epoch::{Acknowledgements, Change};
use steadfast_replication::placement::Replication;
use steadfast_replication::rules::Rule;

use super::field::{Field, Terms};
use crate::history::clients::Habits;
use crate::random::Random;

/// A kind of accident.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub what: &'static str,
    terms: fn(&mut Terms),
    happens: fn(&mut Field, &mut Random) -> Result<(), String>,
}

/// The plots.
impl Plot {
    /// Every plot.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "missed write",
            what: "one of two backups acknowledges; the other one takes over, and hears no other node",
            terms: |terms| terms.nodes = 4,
            happens: missed_write,
        },
        Self {
            name: "untold backup",
            what: "a backup that was not told that it is complete takes over",
            terms: |terms| terms.replication = Replication::Backups(1),
            happens: untold_backup,
        },
        Self {
            name: "late reader",
            what: "a backup with a read lease hears late of ends",
            terms: |terms| {
                terms.habits.sessions = 2;
                terms.habits.rate = 4_000;
                terms.habits.ends = 40;
            },
            happens: late_reader,
        },
        Self {
            name: "reader left behind",
            what: "a reader and the owner are put aside while an end waits for the reader",
            terms: |terms| {
                terms.nodes = 4;
                terms.habits.sessions = 2;
                terms.habits.rate = 5_000;
                terms.habits.ends = 40;
            },
            happens: reader_left_behind,
        },
        Self {
            name: "late acknowledgement",
            what: "the only backup has what its owner cannot confirm yet",
            terms: |terms| {
                terms.replication = Replication::Backups(1);
                terms.habits.sessions = 3;
                terms.habits.rate = 1_500;
                terms.habits.ends = 40;
            },
            happens: late_acknowledgement,
        },
        Self {
            name: "long read",
            what: "an owner that was put aside grants a read lease shortly before its own ends",
            terms: |terms| {
                terms.nodes = 4;
                terms.acknowledgements = Acknowledgements::All;
                terms.habits.sessions = 2;
                terms.habits.rate = 5_000;
                terms.habits.ends = 40;
            },
            happens: long_read,
        },
        Self {
            name: "unheard write",
            what: "a write reaches one backup, and the other one takes over without it",
            terms: |terms| {
                terms.nodes = 4;
                terms.acknowledgements = Acknowledgements::All;
                terms.habits.sessions = 40;
            },
            happens: unheard_write,
        },
        Self {
            name: "quick crash",
            what: "an owner crashes a moment after an epoch began",
            terms: |terms| terms.replication = Replication::Backups(1),
            happens: quick_crash,
        },
        Self {
            name: "filling backup",
            what: "an owner crashes while its only backup is being filled",
            terms: |terms| {
                terms.replication = Replication::Backups(1);
                terms.habits.sessions = 300;
                terms.habits.rate = 4_000;
            },
            happens: filling_backup,
        },
        Self {
            name: "wrong suspicion",
            what: "an owner suspects its backup, and crashes",
            terms: |terms| terms.replication = Replication::Backups(1),
            happens: wrong_suspicion,
        },
        Self {
            name: "old copies",
            what: "a member comes back with sessions whose end no node remembers, and gets slots at once",
            terms: |terms| {
                terms.nodes = 4;
                terms.replication = Replication::Backups(1);
                terms.forgets_soon = true;
                terms.habits.ends = 40;
                terms.habits.sessions = 60;
                terms.habits.rate = 2_000;
            },
            happens: old_copies,
        },
        Self {
            name: "forgotten end",
            what: "a backup that is being filled misses an end, until no node remembers it",
            terms: |terms| {
                terms.forgets_soon = true;
                terms.habits.ends = 40;
                terms.habits.sessions = 10;
                terms.habits.rate = 1_500;
            },
            happens: forgotten_end,
        },
    ];

    /// The plot of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|plot| plot.name == name)
    }

    /// Runs a seed; says how many epochs and calls there were.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
    pub fn run(&self, seed: u64, without: Option<Rule>) -> Result<(usize, usize), String> {
        let mut terms = Terms {
            nodes: 3,
            replication: Replication::Backups(2),
            acknowledgements: Acknowledgements::One,
            forgets_soon: false,
            lost_grants: 1_000,
            habits: Habits { rate: 500, sessions: 8, principals: 0, ends: 60, ..Habits::default() },
        };
        (self.terms)(&mut terms);
        let mut random = Random::new(seed, 13);
        let mut field = Field::new(seed, &terms, without);
        field.run(|field| {
            field.go(ms(200))?;
            (self.happens)(field, &mut random)
        })
    }
}

/// All members, in an order that is drawn.
fn members<const N: usize>(field: &Field, random: &mut Random) -> [usize; N] {
    let mut left: Vec<_> = (0..field.nodes()).collect();
    std::array::from_fn(|_| left.swap_remove(random.below(left.len())))
}

fn missed_write(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, heir] = members(field, random);
    field.late(owner, heir, ms(2_000));
    field.go(random.millis(50, 200))?;
    field.late_to(heir, ms(1_500));
    field.crash(owner);
    // It hears of the epoch, and of nothing else.
    field.go(ms(5))?;
    field.learn(heir);
    field.go(ms(1_400))
}

fn untold_backup(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, backup] = members(field, random);
    field.late(owner, backup, ms(2_000));
    field.choose(&[]);
    field.go(random.millis(500, 800))?;
    field.aside(&[owner]);
    field.keep_away(owner);
    field.go(ms(1_200))
}

fn late_reader(field: &mut Field, random: &mut Random) -> Result<(), String> {
    for _ in 0..3 {
        let [owner, reader] = members(field, random);
        field.late(owner, reader, random.millis(100, 280));
        field.go(ms(500))?;
    }
    Ok(())
}

fn reader_left_behind(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, reader] = members(field, random);
    field.late_to(reader, ms(600));
    field.go(random.millis(20, 120))?;
    field.aside(&[owner, reader]);
    field.go(ms(600))
}

fn late_acknowledgement(field: &mut Field, random: &mut Random) -> Result<(), String> {
    for _ in 0..6 {
        let [backup] = members(field, random);
        field.late_from(backup, random.millis(100, 280));
        field.go(ms(350))?;
    }
    Ok(())
}

fn long_read(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, reader, heir, other] = members(field, random);
    let span = random.millis(800, 1_000);
    for (one, two) in [(owner, heir), (owner, other), (reader, heir), (reader, other)] {
        field.late(one, two, span);
        field.late(two, one, span);
    }
    field.keep_in(owner, span);
    field.keep_in(reader, span);
    field.aside(&[owner, reader]);
    field.go(ms(1_000))
}

fn unheard_write(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, heir, backup] = members(field, random);
    field.late(owner, heir, ms(3_000));
    field.late(backup, owner, ms(3_000));
    field.late(backup, heir, ms(1_500));
    field.go(random.millis(30, 100))?;
    field.rest(ms(60_000));
    field.crash(owner);
    field.go(ms(3_000))
}

fn quick_crash(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner] = members(field, random);
    field.late_to(owner, ms(150));
    field.choose(&[]);
    field.learn(owner);
    field.go(random.millis(30, 140))?;
    field.end(owner);
    field.go(ms(1_000))?;
    match field.given_up() {
        0 => Ok(()),
        slots => Err(format!("{slots} slots are given up, and one node was lost")),
    }
}

fn filling_backup(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, before, backup] = members(field, random);
    field.late(backup, owner, ms(450));
    field.aside(&[before]);
    field.keep_away(before);
    field.go(ms(450))?;
    field.go(random.millis(4, 30))?;
    field.end(owner);
    field.go(ms(1_500))
}

fn wrong_suspicion(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, backup] = members(field, random);
    field.suspect(owner, Some(backup));
    field.late(owner, backup, ms(900));
    field.go(random.millis(30, 150))?;
    field.crash(owner);
    field.go(ms(900))
}

fn old_copies(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [away, old, owner] = members(field, random);
    // While one is away, another one holds slots in its place.
    field.aside(&[away]);
    field.keep_away(away);
    field.go(ms(400))?;
    field.let_back(away);
    let is_joining = |field: &Field| field.is_filled(away);
    field.go_until(ms(1_000), is_joining)?;
    // It comes back, and the other one misses that, and everything else for a while.
    let span = ms(60_000);
    field.late_to(old, span);
    field.late_from(old, span);
    field.go_until(ms(1_000), |field| field.is_full(away))?;
    field.aside(&[old]);
    field.keep_away(old);
    field.go(ms(1_000))?;
    field.rest(ms(4_800));
    field.go(ms(4_800))?;
    field.in_time();
    // Nothing of what the old one has is dropped, since the other one hears nothing: it would be put aside.
    (0..field.nodes()).filter(|at| *at != old).for_each(|at| field.late(at, away, ms(3_000)));
    field.choose(&[Change::ComeBack(field.boot(old))]);
    field.learn(away);
    field.go_until(ms(2_000), |field| field.is_filled(old))?;
    let mut changes = vec![Change::BecomeFull(field.boot(old)), Change::SetAside(field.boot(away))];
    field.keep_away(away);
    let how = random.below(3);
    if how == 0 {
        changes.push(Change::SetAside(field.boot(owner)));
        field.keep_away(owner);
    } else {
        field.late(owner, old, ms(1_500));
    }
    field.choose(&changes);
    field.go(random.millis(450, 700))?;
    if how == 1 {
        field.keep_away(owner);
        field.aside(&[owner]);
    } else if how == 2 {
        field.end(owner);
    }
    field.go(ms(1_500))
}

fn forgotten_end(field: &mut Field, random: &mut Random) -> Result<(), String> {
    let [owner, backup] = members(field, random);
    field.late(backup, owner, ms(8_000));
    field.choose(&[]);
    field.go(random.millis(550, 700))?;
    field.late(owner, backup, ms(8_000));
    field.go(ms(600))?;
    field.rest(ms(5_000));
    field.go(ms(5_200))?;
    field.aside(&[owner]);
    field.keep_away(owner);
    field.go(ms(800))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
