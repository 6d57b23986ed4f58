//! A chart of the slowest response of each run.

use std::fmt::Write;

use crate::report::Chapter;
use crate::statistics::Latencies;

/// Draws one panel per drill. Its runs are sorted by their slowest response at healthy nodes.
pub fn svg(chapters: &[Chapter]) -> String {
    let height = TOP + chapters.len() * PANEL;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\">Slowest answer of each run at the nodes that were not broken</text>\n"
    );
    for (n, chapter) in chapters.iter().enumerate() {
        panel(&mut picture, TOP + n * PANEL, chapter);
    }
    picture + "</svg>\n"
}

fn panel(picture: &mut String, top: usize, chapter: &Chapter) {
    let slowest = chapter.slowest();
    let title = format!("{}, {} runs", chapter.drill, slowest.count());
    let _ = writeln!(picture, "<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top + 14);
    for (millis, colour) in [(0, "#888"), (500, "#c90"), (1_000, "#c00")] {
        let y = height_of(top, millis * 1_000);
        let _ = writeln!(
            picture,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{millis} ms</text>",
            LEFT - 6,
            y + 4.0
        );
    }
    dots(picture, top, &slowest);
}

fn dots(picture: &mut String, top: usize, slowest: &Latencies) {
    let step = (RIGHT - LEFT) as f64 / slowest.count().max(1) as f64;
    for (n, micros) in slowest.iter().enumerate() {
        let (x, y) = (LEFT as f64 + (n as f64 + 0.5) * step, height_of(top, micros));
        let _ = writeln!(picture, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"#369\"/>");
    }
}

/// Returns the vertical position of a latency. One beyond the scale is drawn at the upper edge.
fn height_of(top: usize, micros: u64) -> f64 {
    let share = micros.min(SCALE) as f64 / SCALE as f64;
    (top + PANEL - BELOW) as f64 - share * (PANEL - BELOW - ABOVE) as f64
}

const WIDTH: usize = 720;
const LEFT: usize = 70;
const RIGHT: usize = WIDTH - 20;
const TOP: usize = 30;

/// The height of a panel, and the space in it for the title and below the scale.
const PANEL: usize = 170;
const ABOVE: usize = 24;
const BELOW: usize = 16;

/// The highest latency on the scale, in microseconds.
const SCALE: u64 = 1_500_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::Drill;
    use crate::statistics::{Figures, Slow};
    use crate::verdict::Verdict;

    #[test]
    fn each_run_is_a_dot() {
        let run = |slowest| Figures {
            latencies: [slowest].into_iter().collect(),
            failed: 0,
            lag: 0,
            slow: Slow::default(),
            verdict: Verdict::default(),
        };
        let runs = vec![run(9_000_000), run(300)];
        let picture = svg(&[Chapter { drill: Drill::Cut, runs }]);
        assert_eq!(picture.matches("<circle").count(), 2);
        assert!(picture.contains("cut, 2 runs") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn a_slower_answer_is_drawn_higher() {
        assert!(height_of(0, 500_000) > height_of(0, 1_000_000));
        assert!((height_of(0, SCALE) - height_of(0, 9 * SCALE)).abs() < f64::EPSILON);
    }
}
