//! The page: one file that needs no network, and says everything without its script.

use std::fmt::Write;

use super::{Report, choice, model, picture, table, timeline, verdict};
use crate::fault::Fault;
use crate::measures::{Measured, Timeline};

/// The page with everything on it.
pub(super) fn page(report: &Report, json: &str) -> String {
    let title = format!("Sessions on {} nodes: every strategy on one workload", report.nodes);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    html += &workload(report);
    html += &sentences(report);
    html += &warnings(report);
    html += &choice::section(report);
    html += &model::sections(report);
    html += "<h2 id=\"measures\">Measures</h2>\n<p>Less is better in every row. ✓ marks the best, ✕ the \
        worst; what most strategies share and differences below 15 % are not marked, and the control is never the best.</p>\n";
    html += &table::table(report);
    html += &timelines(report);
    html += &pictures(report);
    html += METHOD;
    let _ = write!(
        html,
        "<details><summary>report.json</summary>\n<pre>{}</pre></details>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escape(json)
    );
    html
}

fn workload(report: &Report) -> String {
    let workload = report.workload;
    format!(
        "<p class=\"workload\">{} sessions · {:.0} requests per second, {:.0} % of them reads · values of {} \
         bytes · {} skew · {} cores · {} · {}</p>\n",
        workload.sessions,
        workload.rate,
        workload.reads * 100.0,
        workload.value_bytes,
        workload.skew.id(),
        report.machine.cores,
        if report.machine.is_debug_build { "debug build" } else { "release build" },
        report.date(),
    )
}

fn sentences(report: &Report) -> String {
    let sentences = verdict::verdict(report).map(|sentence| format!("<p>{sentence}</p>\n"));
    format!("<section class=\"verdict\">\n{}</section>\n", sentences.concat())
}

/// Notes on the limits of the figures.
fn warnings(report: &Report) -> String {
    let mut warnings = vec![match report.repeats {
        0 | 1 => format!(
            "This is a single pass of {} s per strategy, so it has no ranges: read differences below 15 % as none.",
            report.calm_seconds
        ),
        repeats => format!(
            "Each strategy ran {repeats} times, {} s each. A figure that repeated within 15 % is a number; of another one \
             the table shows the order of magnitude (≈) and the range.",
            report.calm_seconds
        ),
    }];
    if report.machine.is_debug_build {
        warnings.push("The programs were built without optimization: latency and processor time are many times those of a release build.".to_owned());
    }
    let others = report.strategies.iter().map(|one| one.others_percent).fold(0.0, f64::max);
    if others > BUSY_PERCENT {
        warnings.push(format!(
            "The machine was busy: other programs used up to {others:.0} % of it, which shows in latency above all."
        ));
    }
    let items = warnings.iter().map(|warning| format!("<li>{warning}</li>\n"));
    format!("<ul class=\"warnings\">\n{}</ul>\n", items.collect::<String>())
}

fn timelines(report: &Report) -> String {
    let mut html = String::new();
    for fault in Fault::ALL {
        let of = |one: &Measured| one.faults.iter().find(|of| of.fault == fault.id()).cloned();
        let met = report.strategies.iter().filter_map(|one| Some((one, of(one)?)));
        let svg = |(one, met): (&Measured, Timeline)| {
            figure(&one.title, &timeline::timeline(&one.title, fault.mark(), &met), "")
        };
        let figures: String = met.map(svg).collect();
        if !figures.is_empty() {
            let (id, title) = (fault.id(), fault.title());
            let _ = write!(
                html,
                "<h2 id=\"{id}\">{title}</h2>\n{LEGEND}<div class=\"figures\">\n{figures}</div>\n"
            );
        }
    }
    html
}

fn pictures(report: &Report) -> String {
    let strategies = report.strategies.iter();
    let figures = strategies.map(|one| figure(&one.title, &picture::picture(one), &one.summary));
    format!(
        "<h2 id=\"strategies\">The strategies</h2>\n<p>Percentages are shares of the requests of the calm \
         load. Dashed lines carry copies.</p>\n<div class=\"figures\">\n{}</div>\n",
        figures.collect::<String>()
    )
}

fn figure(title: &str, svg: &str, caption: &str) -> String {
    let caption = if caption.is_empty() { String::new() } else { format!("<p>{caption}</p>\n") };
    format!("<figure>\n<figcaption><h3>{title}</h3></figcaption>\n{svg}{caption}</figure>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Sorting and hovering. The page says the same without it.
const SCRIPT: &str = include_str!("page.js");

const STYLE: &str = include_str!("style.css");

const LEGEND: &str = "<p class=\"legend\">Reads and writes by the moment at which they were to be sent; the number is that of the highest bar. \
    <span class=\"good\">good</span> <span class=\"stale\">older than acknowledged</span> \
    <span class=\"signed-out\">signed out</span> <span class=\"failed\">failed</span></p>\n";

const METHOD: &str = "<h2 id=\"method\">How this was measured</h2>\n\
    <p>Every node, HAProxy and server is a real process on one machine; the load runs there as well. Requests \
    arrive at random moments, the same for every strategy, whether or not earlier ones were answered. An oracle \
    numbers every write and judges every read. A visitor whose session is gone signs in again. Nothing crosses \
    a network, so a round trip to a server costs less here than between machines.</p>\n\
    <p>Each figure of the table has its path in <code>report.json</code> as its title and as \
    <code>data-path</code>; <code>requests.csv</code> beside this page has every request.</p>\n";

/// The share of the machine from which other programs make the figures doubtful.
const BUSY_PERCENT: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::super::tests::{measured, report};
    use super::*;

    #[test]
    fn the_page_needs_no_network() {
        let report = report(vec![measured("Redis", &[("read_p99_ms", 4.0)])]);
        let html = page(&report, "{\"a\": \"<b>\"}");
        for foreign in ["http:", "https:", "<link", "<img", "url(", "src=", "fetch("] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.contains("{\"a\": \"&lt;b&gt;\"}"));
    }

    #[test]
    fn the_page_says_what_makes_figures_doubtful() {
        let mut report = report(vec![measured("Redis", &[])]);
        report.machine.is_debug_build = true;
        report.strategies[0].others_percent = 31.0;
        let html = page(&report, "{}");
        assert!(html.contains("single pass"));
        assert!(html.contains("built without optimization"));
        assert!(html.contains("up to 31 % of it"));
        report.strategies[0].others_percent = 1.0;
        assert!(!page(&report, "{}").contains("The machine was busy"));
    }
}
