//! "Which should I take?" on the page: radio buttons, and an answer for each combination of them. CSS
//! shows the one that is asked for, so that it needs no script.

use std::fmt::Write;

use super::Report;
use crate::choose::{Answers, Choice, Chooser, QUESTIONS, all_answers};
use crate::measures::Measured;
use crate::model::text::count;
use crate::strategy::Strategy;

/// The section, without anything for a report without unit costs.
pub(super) fn section(report: &Report) -> String {
    let Some(chooser) = Chooser::new(report) else { return String::new() };
    let mut html =
        "<h2 id=\"choose\">Which should I take?</h2>\n<div class=\"choose\">\n<form>\n".to_owned();
    for (n, question) in QUESTIONS.iter().enumerate() {
        let _ = writeln!(html, "<fieldset><legend>{}</legend>", question.text);
        for (answer, (id, words)) in question.answers.iter().enumerate() {
            let checked = if answer == FIRST[n] { " checked" } else { "" };
            let name = question.id;
            let _ = writeln!(
                html,
                "<label><input type=\"radio\" name=\"{name}\" id=\"{name}-{id}\"{checked}> {words}</label>"
            );
        }
        html += "</fieldset>\n";
    }
    html += "</form>\n<div>\n";
    html.extend(all_answers().map(|answers| article(answers, &chooser.choose(answers))));
    html += "</div>\n</div>\n<style>\n.answer { display: none; }\n";
    html.extend(all_answers().map(rule));
    html += "</style>\n";
    html + &wrong(report)
}

fn article(answers: Answers, choice: &Choice) -> String {
    let title = choice.strategy.map_or("Nothing fits", Strategy::title);
    let list =
        |lines: &[String]| lines.iter().map(|line| format!("<li>{line}</li>")).collect::<String>();
    let (reasons, changes) = (list(&choice.reasons), list(&choice.changes));
    format!(
        "<article class=\"answer {}\"><h3>{title}</h3><ul>{reasons}</ul>\
         <details><summary>What would change that</summary><ul>{changes}</ul></details></article>\n",
        class(answers)
    )
}

/// Shows the answer while its radio buttons are selected.
fn rule(answers: Answers) -> String {
    let on = QUESTIONS.iter().zip(answers).map(|(question, answer)| {
        format!(":has(#{}-{}:checked)", question.id, question.answers[answer].0)
    });
    format!(".choose{} .{} {{ display: block; }}\n", on.collect::<String>(), class(answers))
}

fn class(answers: Answers) -> String {
    answers.iter().fold("a".to_owned(), |class, answer| class + &answer.to_string())
}

/// Says when each strategy would be wrong, with the measured figures.
fn wrong(report: &Report) -> String {
    let items = report.strategies.iter().filter_map(|one| {
        let strategy = Strategy::choices().find(|strategy| strategy.id() == one.id)?;
        Some(format!("<dt>{}</dt><dd>{}</dd>\n", one.title, when_wrong(strategy, one, report)))
    });
    format!(
        "<h2 id=\"wrong\">When would each be wrong?</h2>\n<dl class=\"wrong\">\n{}</dl>\n",
        items.collect::<String>()
    )
}

fn when_wrong(strategy: Strategy, one: &Measured, report: &Report) -> String {
    let figure = |key: &str| one.figure(key).unwrap_or(0.0);
    let sessions = report.workload.sessions;
    let mut parts = Vec::new();
    if let Some(lost) = one.figure("kill_lost_sessions") {
        parts.push(if lost > 0.0 {
            format!(
                "Where nobody may have to sign in again: the death of one of {} nodes ended {lost:.0} sessions of {sessions}, \
                 and would end {} of 500,000 on 50 nodes.",
                report.nodes,
                count(500_000.0 / 50.0)
            )
        } else {
            format!("The death of a node ended no session, and {:.0} requests failed.", figure("kill_failed_requests"))
        });
    }
    if let Some(failed) = one.figure("outage_failed_requests") {
        parts.push(format!(
            "Where one server must not stop everything: {failed:.0} requests failed in {:.0} s in which it stood still.",
            report.hold_seconds
        ));
    }
    if let Some(failing) = one.figure("failover_failing_ms") {
        parts.push(format!(
            "When the server died, its replica took over and requests failed for {:.1} s; {:.0} acknowledged values were lost.",
            failing / 1_000.0,
            figure("failover_lost_values")
        ));
    }
    parts.push(price(strategy).to_owned());
    parts.join(" ")
}

/// Returns the price of a strategy that no run on one machine shows.
fn price(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Sticky => {
            "Where a deployment must not sign people out, unless nodes drain for as long as sessions live."
        }
        Strategy::StickyAddress => {
            "Where many people share an address, or nodes come and go: then sessions move without their data."
        }
        Strategy::StickyBackup => {
            "Where the balancer cannot follow a cookie, or nobody wants to run the server of the copies."
        }
        Strategy::ReplicatedAll => {
            "Where nodes are many: each write goes to all of them. Where all nodes stop together."
        }
        Strategy::ReplicatedOne => {
            "Where two nodes may die at the same moment, or all nodes stop together."
        }
        _ => "Where nothing else is to be run, or a round trip for each request is too much.",
    }
}

/// The preselected answers: a service of several nodes whose users must not notice the loss of one.
const FIRST: Answers = [0, 0, 0, 1, 1];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::tests::everything;
    use crate::choose::why_not;

    #[test]
    fn every_combination_has_its_answer_and_its_rule() {
        let html = section(&everything());
        assert_eq!(html.matches("<article").count(), 108);
        assert_eq!(html.matches("display: block").count(), 108);
        assert_eq!(html.matches(" checked>").count(), QUESTIONS.len());
        let first = rule(FIRST);
        assert!(first.starts_with(".choose:has(#nodes-few:checked):has(#balancer-cookie:checked)"));
    }

    #[test]
    fn the_first_answers_leave_something() {
        assert!(Strategy::choices().any(|strategy| why_not(strategy, FIRST).is_none()));
    }
}
