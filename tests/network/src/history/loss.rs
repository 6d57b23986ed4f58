//! The loss in a failover: the confirmed changes that it undid.

use linearizability::{Event, NotLinearizable, check};

/// The loss of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// The number of undone changes. They are the last ones before the failover.
    pub changes: u64,
    /// The time at which the oldest of them was confirmed, in nanoseconds, or 0 if there is none.
    pub oldest: u64,
}

/// Finds the smallest number of calls to drop, among the last ones answered before a failover, so
/// that the history becomes linearizable. A dropped change may have been kept or not. A dropped
/// read is ignored.
///
/// # Errors
///
/// Returns an error if no such number makes it linearizable.
pub fn loss(events: &[Event], failover: u64) -> Result<Loss, NotLinearizable> {
    let answered = events.iter().filter(|event| is_forgotten(event, 0, failover));
    let mut before: Vec<_> = answered.map(|event| event.until).collect();
    before.sort_unstable();
    // Each time from which on calls can be dropped, the latest first: never, then each answer.
    let moments: Vec<_> = std::iter::once(u64::MAX).chain(before.into_iter().rev()).collect();
    let fits = |moment: u64| check(&forget(events, moment, failover));
    // The loss is usually small, and a small number of dropped calls is faster to check.
    let (mut least, mut enough) = (0, 0);
    while let Err(why) = fits(moments[enough]) {
        if enough == moments.len() - 1 {
            return Err(why);
        }
        (least, enough) = (enough + 1, (2 * enough + 1).min(moments.len() - 1));
    }
    let between = moments[least..enough].partition_point(|moment| fits(*moment).is_err());
    Ok(forgotten(events, moments[least + between], failover))
}

fn forget(events: &[Event], moment: u64, failover: u64) -> Vec<Event> {
    let forgotten = |event: &Event| match is_forgotten(event, moment, failover) {
        true => Event { step: event.step.untold(), until: failover, is_certain: false, ..*event },
        false => *event,
    };
    events.iter().map(forgotten).collect()
}

fn forgotten(events: &[Event], moment: u64, failover: u64) -> Loss {
    let forgotten = events.iter().filter(|event| is_forgotten(event, moment, failover));
    let changes: Vec<_> = forgotten.filter(|event| event.step.changes()).collect();
    let oldest = changes.iter().map(|event| event.until).min().unwrap_or(0);
    Loss { changes: changes.len() as u64, oldest }
}

fn is_forgotten(event: &Event, moment: u64, failover: u64) -> bool {
    event.is_certain && (moment..=failover).contains(&event.until)
}

#[cfg(test)]
mod tests {
    use linearizability::Step::{self, Count, Read, Write};

    use super::*;

    #[test]
    fn a_history_without_a_loss_forgets_nothing() {
        let events = [at(Write(1), 0, 1), at(Read(1), 20, 21)];
        assert_eq!(loss(&events, 10), Ok(Loss::default()));
    }

    #[test]
    fn lost_changes_are_counted_from_the_first() {
        let events = [
            at(Count(Some(1)), 0, 1),
            at(Count(Some(2)), 2, 3),
            at(Count(Some(3)), 4, 5),
            at(Read(3), 6, 7),
            at(Read(1), 20, 21),
            at(Count(Some(2)), 22, 23),
        ];
        assert_eq!(loss(&events, 10), Ok(Loss { changes: 2, oldest: 3 }));
    }

    #[test]
    fn changes_after_the_failover_are_kept() {
        let events = [at(Write(1), 0, 1), at(Write(2), 20, 21), at(Read(1), 30, 31)];
        assert!(loss(&events, 10).is_err());
    }

    fn at(step: Step, invoked: u64, answered: u64) -> Event {
        Event::answered(step, invoked, answered)
    }
}
