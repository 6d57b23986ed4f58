//! The pace of retries during an outage of the backup.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steadfast_core::{Env, Scope};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{sleep, timeout};

/// Paces retries during an outage of the backup: one at a time for the whole node, with growing
/// pauses.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_away: AtomicBool,
    /// Consecutive failures.
    failures: Mutex<u32>,
    is_hurried: AtomicBool,
    hurried: Notify,
}

/// Permission for one attempt.
pub(crate) struct Turn<'p> {
    pace: &'p Pace,
    /// Locked during an outage, so that only one attempt runs at a time.
    failures: Option<MutexGuard<'p, u32>>,
}

impl Pace {
    /// Waits until an attempt is due. It returns immediately while the backup answers.
    pub(crate) async fn turn(&self, env: &Env) -> Turn<'_> {
        if !self.is_away.load(Ordering::Acquire) {
            return Turn { pace: self, failures: None };
        }
        let failures = self.failures.lock().await;
        // The attempt that held the lock may have succeeded.
        if *failures == 0 {
            return Turn { pace: self, failures: None };
        }
        self.wait(*failures, env).await;
        Turn { pace: self, failures: Some(failures) }
    }

    /// Cuts the current pause short and shortens later ones, because the node is about to stop.
    pub(crate) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Release);
        self.hurried.notify_waiters();
    }

    async fn wait(&self, failures: u32, env: &Env) {
        // Registered before the flag is read: a `hurry` in between would otherwise be missed.
        let hurried = self.hurried.notified();
        tokio::pin!(hurried);
        hurried.as_mut().enable();
        let is_hurried = self.is_hurried.load(Ordering::Acquire);
        let longest = if is_hurried { LONGEST_IN_A_HURRY } else { LONGEST };
        // A timeout only means that the pause was not cut short.
        let _ = timeout(pause(failures, longest, env), hurried).await;
    }
}

impl Turn<'_> {
    /// Reports that the backup answered.
    pub(crate) fn succeeded(self) {
        if let Some(mut failures) = self.failures {
            *failures = 0;
            self.pace.is_away.store(false, Ordering::Release);
        }
    }

    /// Reports a failure. If it only concerns this record, only its next attempt waits.
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

/// Returns a pause that doubles with each failure, plus up to 50 % jitter, so that nodes do not
/// retry in step.
fn pause(failures: u32, longest: Duration, env: &Env) -> Duration {
    let mut random = [0];
    // Without randomness there is no jitter, which is acceptable.
    let _ = env.fill(&mut random);
    let pause = (SHORTEST * 2_u32.saturating_pow(failures.min(16) - 1)).min(longest);
    pause.mul_f64(1.0 + f64::from(random[0]) / 510.0)
}

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_IN_A_HURRY: Duration = Duration::from_millis(500);
