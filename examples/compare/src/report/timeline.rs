//! A picture of the answers against time, around the moment of a fault.

use std::fmt::Write;

use crate::measures::Timeline;

/// The picture, with its figures as text for those who do not see it.
pub(super) fn timeline(title: &str, mark: &str, timeline: &Timeline) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        in_words(title, timeline)
    );
    let highest = (0..timeline.good.len()).map(|n| sum(timeline, n)).max().unwrap_or(0).max(1);
    let scale = PLOT_HEIGHT / highest as f64;
    for n in 0..timeline.good.len() {
        svg += &bar(timeline, n, scale);
    }
    svg += &axis(timeline, mark, highest);
    svg + "</svg>\n"
}

/// One interval, its kinds above each other.
fn bar(timeline: &Timeline, n: usize, scale: f64) -> String {
    let width = PLOT_WIDTH / timeline.good.len() as f64;
    let (x, mut y, mut bars) = (LEFT + n as f64 * width, TOP + PLOT_HEIGHT, String::new());
    for (kind, counts) in kinds(timeline) {
        if counts[n] > 0 {
            // One failure among a hundred answers has to be seen.
            let height = (counts[n] as f64 * scale).max(SEEN);
            y -= height;
            let _ = writeln!(
                bars,
                "<rect class=\"{kind}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                width * 0.85
            );
        }
    }
    bars
}

/// Seconds since the fault, the highest count, and the fault itself.
fn axis(timeline: &Timeline, mark: &str, highest: u64) -> String {
    let length = timeline.interval_ms as f64 * timeline.good.len() as f64 / 1_000.0;
    let fault = timeline.fault_ms as f64 / 1_000.0;
    let place = |second: f64| LEFT + (second + fault) / length * PLOT_WIDTH;
    let bottom = TOP + PLOT_HEIGHT;
    let mut axis = format!(
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{highest}</text>\n",
        LEFT + PLOT_WIDTH,
        LEFT - 3.0,
        TOP + 7.0,
    );
    let step = if length > 8.0 { 3.0 } else { 1.0 };
    let mut second = (-fault / step).ceil() * step;
    // A label at the very end would be cut off.
    while second + fault < length * 0.97 {
        let (x, y) = (place(second), bottom + 11.0);
        let _ = writeln!(
            axis,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{} s</text>",
            second as i64
        );
        second += step;
    }
    let x = place(0.0);
    let _ = writeln!(
        axis,
        "<line class=\"fault\" x1=\"{x:.1}\" y1=\"2\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\n\
         <text x=\"{:.1}\" y=\"9\">{mark}</text>",
        x + 3.0
    );
    axis
}

fn in_words(title: &str, timeline: &Timeline) -> String {
    let total = |counts: &[u64]| counts.iter().sum::<u64>();
    format!(
        "{title}: {} good answers, {} stale, {} signed out, {} failed",
        total(&timeline.good),
        total(&timeline.stale),
        total(&timeline.signed_out),
        total(&timeline.failed)
    )
}

fn kinds(timeline: &Timeline) -> [(&'static str, &[u64]); 4] {
    let Timeline { good, stale, signed_out, failed, .. } = timeline;
    [("good", good), ("stale", stale), ("signed-out", signed_out), ("failed", failed)]
}

fn sum(timeline: &Timeline, n: usize) -> u64 {
    kinds(timeline).iter().map(|(_, counts)| counts[n]).sum()
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 110.0;
const LEFT: f64 = 22.0;
const TOP: f64 = 12.0;
const PLOT_WIDTH: f64 = 334.0;
const PLOT_HEIGHT: f64 = 82.0;

/// The least height of a bar.
const SEEN: f64 = 2.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_each_interval_is_a_bar() {
        let timeline = Timeline {
            fault: "kill".to_owned(),
            interval_ms: 500,
            fault_ms: 400,
            good: vec![9, 0, 7],
            stale: vec![0, 0, 0],
            signed_out: vec![0, 2, 0],
            failed: vec![0, 1, 0],
        };
        let svg = super::timeline("Sticky", "killed", &timeline);
        let count = |kind: &str| svg.matches(&format!("rect class=\"{kind}\"")).count();
        assert_eq!(["good", "stale", "signed-out", "failed"].map(count), [2, 0, 1, 1]);
        assert!(svg.contains("Sticky: 16 good answers, 0 stale, 2 signed out, 1 failed"));
        assert!(svg.contains(">0 s</text>") && svg.contains(">killed</text>"));
    }
}
