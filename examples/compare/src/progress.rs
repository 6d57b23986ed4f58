//! Progress on standard error: the current part, and the time left.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The progress of a run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// The planned time of everything.
    length: Duration,
    /// The planned time of the completed parts.
    done: Duration,
    is_terminal: bool,
}

impl Progress {
    /// The progress before anything, given the planned time of everything.
    pub fn new(length: Duration) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { started: Instant::now(), length, done: Duration::ZERO, is_terminal }
    }

    /// Shows that a contestant begins a part of its run.
    pub fn show(&self, contestant: &str, part: &str) {
        let percent = 100.0 * self.done.as_secs_f64() / self.length.as_secs_f64().max(1.0);
        let left = clock(self.left());
        self.print(&format!("[{percent:.0} %] {contestant}: {part}, about {left} left"));
    }

    /// Counts a completed part with its planned time.
    pub fn pass(&mut self, planned: Duration) {
        self.done += planned;
    }

    /// Skips a part with its planned time.
    pub fn skip(&mut self, planned: Duration) {
        self.length = self.length.saturating_sub(planned);
    }

    /// Shows a note beside the progress.
    pub fn note(&self, note: &str) {
        self.print(note);
        if self.is_terminal {
            eprintln!();
        }
    }

    /// The time left according to the pace so far, or, at first, to the plan.
    fn left(&self) -> Duration {
        let (elapsed, left) = (self.started.elapsed(), self.length.saturating_sub(self.done));
        if self.done < PACED {
            return self.length.saturating_sub(elapsed);
        }
        left.mul_f64(elapsed.as_secs_f64() / self.done.as_secs_f64())
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

fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// The planned time after which the pace predicts better than the plan.
const PACED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_need_not_be_done_takes_no_time() {
        let mut progress = Progress::new(Duration::from_secs(273));
        progress.skip(Duration::from_secs(73));
        assert!((198..=200).contains(&progress.left().as_secs()));
        assert_eq!(clock(Duration::from_secs(273)), "4:33");
    }
}
