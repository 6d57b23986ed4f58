//! Progress on standard error: what runs, and how much time is left.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::options::Options;

/// The progress of a run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// The planned time of all contestants.
    length: Duration,
    contestants: usize,
    done: usize,
    is_terminal: bool,
}

impl Progress {
    /// The progress before the first contestant.
    pub fn new(options: &Options) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let (length, contestants) = (length(options), options.strategies.len());
        Self { started: Instant::now(), length, contestants, done: 0, is_terminal }
    }

    /// A contestant begins a part of its run.
    pub fn show(&self, contestant: &str, part: &str) {
        let (number, of) = (self.done + 1, self.contestants);
        let left = clock(self.left());
        self.print(&format!("[{number}/{of}] {contestant}: {part}, about {left} left"));
    }

    /// A contestant is done.
    pub fn next(&mut self) {
        self.done += 1;
    }

    /// Something worth reading that is not progress.
    pub fn note(&self, note: &str) {
        self.print(note);
        if self.is_terminal {
            eprintln!();
        }
    }

    /// The time left by the pace so far, or by plan for the first contestant.
    fn left(&self) -> Duration {
        let elapsed = self.started.elapsed();
        let all = match self.done {
            0 => self.length,
            done => elapsed.mul_f64(self.contestants as f64 / done as f64),
        };
        all.saturating_sub(elapsed)
    }

    fn print(&self, line: &str) {
        let mut stderr = std::io::stderr();
        // On a terminal, each line replaces the one before.
        let _ = if self.is_terminal {
            write!(stderr, "\r\x1b[2K{line}")
        } else {
            writeln!(stderr, "{line}")
        };
    }
}

/// The planned time of all contestants.
fn length(options: &Options) -> Duration {
    let phases = options.strategies.iter().flat_map(|strategy| {
        let met = options.faults.iter().filter(|fault| fault.concerns(*strategy));
        let faults = met.map(|fault| options.pace.of(*fault));
        [options.pace.calm].into_iter().chain(faults).map(|phase| OVERHEAD + phase)
    });
    phases.sum()
}

fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// Starting and ending processes, signing in and auditing.
const OVERHEAD: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_covers_every_contestant() {
        let options = Options::default();
        let progress = Progress::new(&options);
        let seconds = progress.left().as_secs();
        assert!((561..=562).contains(&seconds), "{seconds}");
        assert_eq!(clock(Duration::from_secs(273)), "4:33");
    }
}
