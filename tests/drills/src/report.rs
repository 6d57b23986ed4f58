//! Tables with the figures of all runs.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use crate::drill::Drill;
use crate::history::History;
use crate::statistics::{A_SECOND, Figures, HALF_A_SECOND, Latencies};
use crate::verdict::Verdict;

/// The completed runs of one drill.
#[derive(Clone, Debug)]
pub struct Chapter {
    pub drill: Drill,
    pub runs: Vec<Figures>,
}

impl Chapter {
    /// Reads the histories of all drills.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read.
    pub fn all(out: &Path) -> anyhow::Result<Vec<Self>> {
        let chapters = Drill::ALL.into_iter().map(|drill| Self::read(drill, out));
        let chapters = chapters.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(chapters.into_iter().filter(|chapter| !chapter.runs.is_empty()).collect())
    }

    fn read(drill: Drill, out: &Path) -> anyhow::Result<Self> {
        let (directory, mut runs) = (out.join(drill.name()), Vec::new());
        let Ok(entries) = std::fs::read_dir(&directory) else { return Ok(Self { drill, runs }) };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let history = History::read(&path).with_context(|| path.display().to_string())?;
                runs.extend(history.as_ref().map(Figures::of));
            }
        }
        Ok(Self { drill, runs })
    }

    /// Returns the slowest response of each run at healthy nodes, in microseconds and ascending
    /// order.
    pub fn slowest(&self) -> Latencies {
        self.runs.iter().map(|run| run.latencies.slowest()).collect()
    }

    fn sum(&self, figure: impl Fn(&Figures) -> usize) -> usize {
        self.runs.iter().map(figure).sum()
    }

    fn found(&self, figure: impl Fn(&Verdict) -> usize) -> usize {
        self.sum(|run| figure(&run.verdict))
    }
}

/// Writes one row of figures per drill.
pub fn tables(chapters: &[Chapter]) -> String {
    let mut text = format!("{SPEED}\n");
    for chapter in chapters {
        text += &speed(chapter);
    }
    let _ = write!(text, "\n{SAFETY}\n");
    for chapter in chapters {
        text += &safety(chapter);
    }
    let _ = write!(text, "\n{SLOW}\n");
    for chapter in chapters {
        text += &slow(chapter);
    }
    text
}

fn speed(chapter: &Chapter) -> String {
    let (runs, slowest) = (chapter.runs.len(), chapter.slowest());
    let all: Latencies = chapter.runs.iter().flat_map(|run| run.latencies.iter()).collect();
    let [half, most, last] = [all.percentile(50), all.percentile(99), all.slowest()].map(millis);
    let [over_half, over_one] = [HALF_A_SECOND, A_SECOND].map(|limit| all.over(limit));
    let [within_half, within_one] =
        [HALF_A_SECOND, A_SECOND].map(|limit| runs - slowest.over(limit));
    let (calls, failed) = (all.count(), chapter.sum(|run| run.failed));
    let lag = millis(chapter.runs.iter().map(|run| run.lag).max().unwrap_or(0));
    format!(
        "| {} | {runs} | {calls} | {failed} | {half} | {most} | {last} | {over_half} | {over_one} | \
         {within_half} | {within_one} | {lag} |\n",
        chapter.drill
    )
}

fn safety(chapter: &Chapter) -> String {
    let Chapter { drill, runs } = chapter;
    let sessions = chapter.found(|verdict| verdict.sessions);
    let acknowledged = chapter.found(|verdict| verdict.acknowledged);
    let lost = chapter.found(|verdict| verdict.lost_writes);
    let misread = chapter.found(|verdict| verdict.misread);
    let revived = chapter.found(|verdict| verdict.revived);
    let gone = chapter.found(|verdict| verdict.lost_sessions);
    let runs = runs.len();
    format!(
        "| {drill} | {runs} | {sessions} | {acknowledged} | {lost} | {misread} | {revived} | {gone} |\n"
    )
}

fn slow(chapter: &Chapter) -> String {
    let answers = chapter.sum(|run| run.slow.answers);
    let of_broken = chapter.sum(|run| run.slow.of_broken);
    let near = chapter.sum(|run| run.slow.near);
    format!("| {} | {answers} | {of_broken} | {near} |\n", chapter.drill)
}

/// Writes a run as one line.
pub fn line(figures: &Figures) -> String {
    let Figures { latencies, failed, lag, verdict, .. } = figures;
    let (calls, slowest) = (latencies.count(), millis(latencies.slowest()));
    let (median, lag) = (millis(latencies.percentile(50)), millis(*lag));
    let Verdict { lost_writes, misread, revived, lost_sessions, .. } = verdict;
    format!(
        "{calls} calls elsewhere, {failed} failed, half within {median} ms, slowest {slowest} ms, lag {lag} ms; \
         {lost_writes} lost, {misread} misread, {revived} revived, {lost_sessions} gone"
    )
}

/// Replaces the tables of a page.
///
/// # Errors
///
/// Returns an error if the page has no markers for them.
pub fn insert(page: &str, tables: &str) -> anyhow::Result<String> {
    let (before, rest) =
        page.split_once(START).context("the page has no marker for the start of the figures")?;
    let (_, after) =
        rest.split_once(END).context("the page has no marker for the end of the figures")?;
    Ok(format!("{before}{START}\n\n{tables}\n{END}{after}"))
}

/// Formats milliseconds with one digit.
fn millis(micros: u64) -> String {
    format!("{}.{}", micros / 1_000, micros / 100 % 10)
}

const START: &str = "<!-- figures -->";
const END: &str = "<!-- end of figures -->";

const SPEED: &str = "| drill | runs | calls elsewhere | failed | p50, ms | p99, ms | slowest, ms | over 500 ms | \
    over 1 s | runs without one over 500 ms | runs without one over 1 s | sent late by up to, ms |\n\
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

const SAFETY: &str = "| drill | runs | sessions | acknowledged writes | lost | misread | revived sessions | \
    lost sessions |\n\
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

const SLOW: &str = "| drill | answers over 500 ms | of sessions that the broken node held | \
    within 1 s of a fault or its mending |\n| --- | ---: | ---: | ---: |";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_replace_those_of_before() {
        let page = "Text.\n<!-- figures -->\nold\n<!-- end of figures -->\nMore.\n";
        let once = insert(page, "| new |\n").unwrap();
        assert!(once.contains("| new |") && !once.contains("old"), "{once}");
        assert!(once.starts_with("Text.") && once.ends_with("More.\n"), "{once}");
        assert_eq!(insert(&once, "| new |\n").unwrap(), once);
        assert!(insert("Text.", "").is_err());
    }

    #[test]
    fn a_row_sums_its_runs() {
        let run = |latencies: &[u64], failed| {
            let latencies = latencies.iter().copied().collect();
            let (slow, verdict) = <_>::default();
            Figures { latencies, failed, lag: 1_250, slow, verdict }
        };
        let runs = vec![run(&[1_000, 600_000], 1), run(&[2_000, 1_000_001], 2)];
        let row = speed(&Chapter { drill: Drill::Kill, runs });
        assert_eq!(row, "| kill | 2 | 4 | 3 | 2.0 | 1000.0 | 1000.0 | 2 | 1 | 0 | 1 | 1.2 |\n");
    }
}
