//! Processor time and memory of the processes that this program started, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Processor time and memory of a contestant's processes, by their role.
#[derive(Clone, Debug, Default)]
pub struct Usage(BTreeMap<Part, Sum>);

/// A part of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The nodes.
    Nodes,
    /// HAProxy.
    Balancer,
    /// Redis or PostgreSQL.
    Server,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    processes: u64,
    /// Processor time, in nanoseconds.
    spent: u64,
    kilobytes: u64,
}

/// Processor time of the whole machine, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    busy: u64,
    all: u64,
}

impl Usage {
    /// Adds up all descendants of this process.
    pub fn now() -> Self {
        let processes: Vec<_> = processes().collect();
        let mut ours = vec![std::process::id()];
        let mut usage = Self::default();
        let mut next = 0;
        while let Some(parent) = ours.get(next).copied() {
            for process in processes.iter().filter(|process| process.parent == parent) {
                ours.push(process.id);
                usage.add(process);
            }
            next += 1;
        }
        usage
    }

    /// Processor time of a part since an earlier moment, in milliseconds.
    pub fn milliseconds_since(&self, earlier: &Self, part: Part) -> f64 {
        self.of(part).spent.saturating_sub(earlier.of(part).spent) as f64 / 1e6
    }

    /// Processor time of all parts since an earlier moment, in milliseconds.
    pub fn all_milliseconds_since(&self, earlier: &Self) -> f64 {
        let parts = [Part::Nodes, Part::Balancer, Part::Server];
        parts.iter().map(|part| self.milliseconds_since(earlier, *part)).sum()
    }

    /// Memory of a part, in kilobytes. Memory that processes share is divided among them.
    pub fn kilobytes(&self, part: Part) -> u64 {
        self.of(part).kilobytes
    }

    /// The number of processes of a part.
    pub fn processes(&self, part: Part) -> u64 {
        self.of(part).processes
    }

    fn of(&self, part: Part) -> Sum {
        self.0.get(&part).copied().unwrap_or_default()
    }

    fn add(&mut self, process: &Process) {
        let Some(part) = part(&process.name) else { return };
        let sum = self.0.entry(part).or_default();
        sum.processes += 1;
        sum.spent += nanoseconds(process.id).unwrap_or(0);
        sum.kilobytes += kilobytes(process.id).unwrap_or(0);
    }
}

impl Machine {
    /// The time of all processors since the machine started.
    pub fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let fields = stat.lines().next()?.split_whitespace().skip(1);
        let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
        // Guests' time is part of user time.
        let all: u64 = ticks.iter().take(8).sum();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(Self { busy: all - idle, all })
    }

    /// The share of the machine that was busy since an earlier moment, from 0 to 1.
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        self.busy.saturating_sub(earlier.busy) as f64 / all as f64
    }

    /// The ticks of all processors since an earlier moment, in milliseconds.
    pub fn milliseconds_since(&self, earlier: &Self) -> u64 {
        self.all.saturating_sub(earlier.all) * (1_000 / TICKS_PER_SECOND)
    }
}

/// The share of the machine that other programs used since an earlier moment. `ours_ms` is the time
/// that was ours.
pub fn others(before: Machine, ours_ms: f64) -> f64 {
    let Some(now) = Machine::now() else { return 0.0 };
    let ours = ours_ms / now.milliseconds_since(&before).max(1) as f64;
    (now.busy_since(&before) - ours).max(0.0)
}

/// The processor time of this process, in milliseconds.
pub fn own_milliseconds() -> f64 {
    nanoseconds(std::process::id()).unwrap_or(0) as f64 / 1e6
}

struct Process {
    id: u32,
    parent: u32,
    name: String,
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(process)
}

fn process(id: u32) -> Option<Process> {
    parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Reads a line as in `proc_pid_stat(5)`.
fn parse(id: u32, stat: &str) -> Option<Process> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    Some(Process { id, parent, name: name.to_owned() })
}

/// The time that the threads of a process have run, which the scheduler counts exactly. Threads that
/// ended are not in it.
fn nanoseconds(id: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten();
    let stats =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    Some(stats.filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok()).sum())
}

fn kilobytes(id: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn part(name: &str) -> Option<Part> {
    match name {
        "reference" | "peer" => Some(Part::Nodes),
        "haproxy" => Some(Part::Balancer),
        "redis-server" | "postgres" => Some(Part::Server),
        _ => None,
    }
}

/// `USER_HZ`, which is 100 on every architecture of Linux that Rust runs on with a standard library.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read() {
        let stat = "71 (a (b) c) S 1 71 71 0 -1 4194560 9 8 0 0 20 3 4 5 20 0 1 0 7 8 9";
        let process = parse(71, stat).unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a (b) c", 1));
    }

    #[test]
    fn this_process_is_found() {
        let own = process(std::process::id()).unwrap();
        assert!(processes().any(|process| process.id == own.id));
        assert!(kilobytes(own.id).unwrap() > 100);
        assert!(nanoseconds(own.id).unwrap() > 0);
        let (before, now) = (Machine { busy: 10, all: 100 }, Machine { busy: 40, all: 160 });
        assert_eq!(now.busy_since(&before), 0.5);
    }
}
