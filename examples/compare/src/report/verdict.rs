//! The verdict for the workload, in three sentences.

use super::{Report, text::figure};
use crate::measures::Measured;

/// Right answers, what the kill lost, and the price of those that lost nothing.
pub(super) fn verdict(report: &Report) -> [String; 3] {
    [answers(report), losses(report), price(report)]
}

fn answers(report: &Report) -> String {
    let (right, wrong) = split(&report.strategies, is_right);
    let wrong = wrong.into_iter().map(|one| format!("{} {}", one.title, mistakes(one)));
    let wrong = join(&wrong.collect::<Vec<_>>(), "and");
    match (right.is_empty(), wrong.is_empty()) {
        (true, _) => format!("Without a fault, no strategy was right all the time: {wrong}."),
        (false, true) => format!("Without a fault, {} gave only right answers.", titles(&right)),
        (false, false) => {
            format!("Without a fault, {} gave only right answers; {wrong}.", titles(&right))
        }
    }
}

fn losses(report: &Report) -> String {
    let killed: Vec<_> = report.strategies.iter().filter(|one| was_killed(one)).collect();
    if killed.is_empty() {
        return "No node was killed, so this run says nothing about faults.".to_owned();
    }
    let (safe, unsafe_ones): (Vec<_>, Vec<_>) = killed.into_iter().partition(|one| is_safe(one));
    let lost = unsafe_ones.into_iter().map(|one| {
        let (sessions, values) = (of(one, "kill_lost_sessions"), of(one, "kill_lost_values"));
        format!("{} lost {sessions:.0} sessions and {values:.0} acknowledged values", one.title)
    });
    let lost = join(&lost.collect::<Vec<_>>(), "and");
    match (safe.is_empty(), lost.is_empty()) {
        (true, _) => format!("When a node was killed, {lost}."),
        (false, true) => format!("When a node was killed, {} lost nothing.", titles(&safe)),
        (false, false) => {
            format!("When a node was killed, {} lost nothing; {lost}.", titles(&safe))
        }
    }
}

fn price(report: &Report) -> String {
    let is_sound = |one: &Measured| is_right(one) && (!was_killed(one) || is_safe(one));
    let (sound, _) = split(&report.strategies, is_sound);
    let [cheapest, fastest, fewest] =
        ["cpu_ms_per_1000", "read_p99_ms", "processes"].map(|key| (least(&sound, key), key));
    let (Some(cheap), Some(fast), Some(few)) = (cheapest.0, fastest.0, fewest.0) else {
        return "No strategy came through without a mistake or a loss.".to_owned();
    };
    let lightest = sound.iter().filter(|one| of(one, fewest.1) == of(few, fewest.1));
    let lightest: Vec<_> = lightest.copied().collect();
    let needs = if lightest.len() == 1 { "needs" } else { "need" };
    format!(
        "Of those without a mistake or a loss, {} used the least processor time ({} ms per 1,000 \
         requests), {} had the lowest p99 of reads ({} ms), and {} {needs} the fewest processes ({}).",
        cheap.title,
        figure(cheap.figure(cheapest.1)),
        fast.title,
        figure(fast.figure(fastest.1)),
        titles(&lightest),
        figure(few.figure(fewest.1)),
    )
}

/// True for only right answers in the calm load.
fn is_right(one: &Measured) -> bool {
    ["mismatch_percent", "revived", "lost_updates_percent"].iter().all(|key| of(one, key) == 0.0)
}

fn was_killed(one: &Measured) -> bool {
    one.figure("kill_lost_sessions").is_some()
}

/// True if the kill lost neither a session nor an acknowledged value.
fn is_safe(one: &Measured) -> bool {
    ["kill_lost_sessions", "kill_lost_values"].iter().all(|key| of(one, key) == 0.0)
}

/// The largest kind of mistake, in words.
fn mistakes(one: &Measured) -> String {
    let shown = |key| figure(one.figure(key));
    if of(one, "mismatch_percent") > 0.0 {
        format!("answered {} % of reads with an old value or no session", shown("mismatch_percent"))
    } else if of(one, "revived") > 0.0 {
        format!("kept {} sessions alive after their sign-out", shown("revived"))
    } else {
        format!("lost {} % of overlapping updates", shown("lost_updates_percent"))
    }
}

fn of(one: &Measured, key: &str) -> f64 {
    one.figure(key).unwrap_or(0.0)
}

fn split(all: &[Measured], is_so: impl Fn(&Measured) -> bool) -> (Vec<&Measured>, Vec<&Measured>) {
    all.iter().partition(|one| is_so(one))
}

fn least<'a>(among: &[&'a Measured], key: &str) -> Option<&'a Measured> {
    let known = among.iter().filter(|one| one.figure(key).is_some());
    known.copied().min_by(|one, other| of(one, key).total_cmp(&of(other, key)))
}

fn titles(of: &[&Measured]) -> String {
    join(&of.iter().map(|one| one.title.clone()).collect::<Vec<_>>(), "and")
}

/// `a, b and c`; with commas inside of the parts, `a; b; and c` would not be clearer.
fn join(parts: &[String], last: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{measured, report};
    use super::*;

    #[test]
    fn the_verdict_names_mistakes_losses_and_the_price() {
        let report = report(vec![
            measured("Memory", &[("mismatch_percent", 63.0), ("kill_lost_sessions", 5.0)]),
            measured("Sticky", &[("kill_lost_sessions", 33.0), ("kill_lost_values", 3.0)]),
            measured(
                "Redis",
                &[
                    ("cpu_ms_per_1000", 900.0),
                    ("read_p99_ms", 4.0),
                    ("processes", 5.0),
                    ("kill_lost_sessions", 0.0),
                ],
            ),
            measured(
                "Copies",
                &[
                    ("cpu_ms_per_1000", 700.0),
                    ("read_p99_ms", 6.0),
                    ("processes", 4.0),
                    ("kill_lost_sessions", 0.0),
                ],
            ),
        ]);
        let [answers, losses, price] = verdict(&report);
        assert_eq!(
            answers,
            "Without a fault, Sticky, Redis and Copies gave only right answers; Memory answered 63 % of \
             reads with an old value or no session."
        );
        assert_eq!(
            losses,
            "When a node was killed, Redis and Copies lost nothing; Memory lost 5 sessions and 0 \
             acknowledged values and Sticky lost 33 sessions and 3 acknowledged values."
        );
        assert_eq!(
            price,
            "Of those without a mistake or a loss, Copies used the least processor time (700 ms per 1,000 \
             requests), Redis had the lowest p99 of reads (4 ms), and Copies needs the fewest processes (4)."
        );
    }

    #[test]
    fn without_a_sound_strategy_the_verdict_says_so() {
        let report = report(vec![measured(
            "Memory",
            &[("revived", 2.0), ("kill_lost_sessions", 0.0), ("kill_lost_values", 1.0)],
        )]);
        let [answers, losses, price] = verdict(&report);
        assert!(answers.contains("Memory kept 2 sessions alive after their sign-out"), "{answers}");
        assert!(
            losses.starts_with("When a node was killed, Memory lost 0 sessions and 1"),
            "{losses}"
        );
        assert_eq!(price, "No strategy came through without a mistake or a loss.");
    }
}
