//! How often a node tries again while its backup is away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steadfast_core::{Env, Scope};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{sleep, timeout};

/// Tries while the backup is away: one at a time for the whole node, each later than the one before.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_away: AtomicBool,
    /// In a row.
    failures: Mutex<u32>,
    is_hurried: AtomicBool,
    hurried: Notify,
}

/// A try.
pub(crate) struct Turn<'p> {
    pace: &'p Pace,
    /// Held while the backup is away.
    failures: Option<MutexGuard<'p, u32>>,
}

impl Pace {
    /// Waits until it is time for a try: no time while the backup answers.
    pub(crate) async fn turn(&self, env: &Env) -> Turn<'_> {
        if !self.is_away.load(Ordering::Acquire) {
            return Turn { pace: self, failures: None };
        }
        let failures = self.failures.lock().await;
        if *failures == 0 {
            return Turn { pace: self, failures: None };
        }
        self.wait(*failures, env).await;
        Turn { pace: self, failures: Some(failures) }
    }

    /// The node is about to end: tries again now, and no later than after a moment.
    pub(crate) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Release);
        self.hurried.notify_waiters();
    }

    async fn wait(&self, failures: u32, env: &Env) {
        let hurried = self.hurried.notified();
        tokio::pin!(hurried);
        hurried.as_mut().enable();
        let longest = match self.is_hurried.load(Ordering::Acquire) {
            true => LONGEST_IN_A_HURRY,
            false => LONGEST,
        };
        // An error says that it is not hurried.
        let _ = timeout(pause(failures, longest, env), hurried).await;
    }
}

impl Turn<'_> {
    /// The backup answered.
    pub(crate) fn succeeded(self) {
        if let Some(mut failures) = self.failures {
            *failures = 0;
            self.pace.is_away.store(false, Ordering::Release);
        }
    }

    /// The backup did not take it. Where only this record is concerned, only its next try waits.
    pub(crate) async fn failed(self, scope: Scope, tries: u32, env: &Env) {
        if scope == Scope::Record {
            drop(self.failures);
            return sleep(pause(tries, LONGEST_IN_A_HURRY, env)).await;
        }
        let mut failures = match self.failures {
            Some(failures) => failures,
            None => self.pace.failures.lock().await,
        };
        *failures = failures.saturating_add(1);
        self.pace.is_away.store(true, Ordering::Release);
    }
}

/// Twice as long after each failure, and up to half as long again, so that nodes do not come at once.
fn pause(failures: u32, longest: Duration, env: &Env) -> Duration {
    let mut random = [0];
    // Without randomness they do.
    let _ = env.fill(&mut random);
    let pause = (SHORTEST * 2_u32.saturating_pow(failures.min(16) - 1)).min(longest);
    pause.mul_f64(1.0 + f64::from(random[0]) / 510.0)
}

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_IN_A_HURRY: Duration = Duration::from_millis(500);
