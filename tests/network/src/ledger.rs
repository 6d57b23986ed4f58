//! The results so far, kept in a file, and their tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::faults::Direction;

use crate::case::{Case, Failure, Situation, way};
use crate::deployment::Target;
use crate::report::{Report, Tally};
use crate::scene::Operation;

/// Calls of one kind in one situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chapter {
    pub target: Target,
    pub situation: Situation,
    pub operation: Operation,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    chapter: Chapter,
    failure: Failure,
    direction: Direction,
}

/// The results so far. A chapter is either complete or missing.
pub struct Ledger {
    path: PathBuf,
    rows: BTreeMap<Row, Tally>,
}

impl Ledger {
    /// Opens a file, or starts a new one.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, or has other contents.
    pub fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let rows = text.lines().map(|line| parse(line).ok_or_else(|| io::Error::other(line)));
        Ok(Self { path: path.to_owned(), rows: rows.collect::<io::Result<_>>()? })
    }

    pub fn has(&self, chapter: Chapter) -> bool {
        self.rows.keys().any(|row| row.chapter == chapter)
    }

    /// Appends a chapter.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn add(&mut self, chapter: Chapter, reports: &[Report]) -> io::Result<()> {
        let mut lines = String::new();
        let mut by_row = BTreeMap::<Row, Vec<&Report>>::new();
        for report in reports {
            let Case { failure, direction, .. } = report.case;
            by_row.entry(Row { chapter, failure, direction }).or_default().push(report);
        }
        for (row, reports) in by_row {
            let tally = Tally::of(reports);
            lines += &line(&row, &tally);
            self.rows.insert(row, tally);
        }
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(lines.as_bytes())
    }

    /// Returns the tables, in Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        self.write_summary(&mut text).expect("a string takes everything");
        for target in Target::ALL {
            self.write_target(&mut text, target).expect("a string takes everything");
        }
        text
    }

    fn write_summary(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "| server | connection | {COUNTS}")?;
        writeln!(text, "| --- | --- |{RULE}")?;
        let kinds: BTreeSet<_> = self.rows.keys().map(|row| kind(row.chapter)).collect();
        for (target, is_feed, situation) in kinds {
            let is_same = |row: &Row| kind(row.chapter) == (target, is_feed, situation);
            let feed = if is_feed { "feed, " } else { "" };
            writeln!(text, "| {target} | {feed}{situation} |{}", self.sum(is_same))?;
        }
        writeln!(text, "| all | |{}", self.sum(|_| true))
    }

    fn write_target(&self, text: &mut String, target: Target) -> fmt::Result {
        writeln!(text, "\n## {target}\n")?;
        writeln!(text, "| call | connection | fault | direction | {COUNTS}")?;
        writeln!(text, "| --- | --- | --- | --- |{RULE}")?;
        for (row, tally) in self.rows.iter().filter(|(row, _)| row.chapter.target == target) {
            let Chapter { situation, operation, .. } = row.chapter;
            let way = way(row.direction);
            writeln!(text, "| {operation} | {situation} | {} | {way} |{tally}", row.failure)?;
        }
        Ok(())
    }

    fn sum(&self, is_meant: impl Fn(&Row) -> bool) -> Tally {
        let meant = self.rows.iter().filter(|(row, _)| is_meant(row));
        meant.fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
    }
}

impl Display for Chapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, situation, operation } = self;
        write!(f, "{target}, {situation}, {operation}")
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, as_before, as_after, errors, retried, wrong, slowest } = self;
        let slowest = slowest.as_secs_f64();
        write!(
            f,
            " {cases} | {as_before} | {as_after} | {errors} | {retried} | {wrong} | {slowest:.2} s |"
        )
    }
}

/// Returns the key of a summary row.
fn kind(chapter: Chapter) -> (Target, bool, Situation) {
    (chapter.target, chapter.operation == Operation::Feed, chapter.situation)
}

fn line(row: &Row, tally: &Tally) -> String {
    let Chapter { target, situation, operation } = row.chapter;
    let (failure, way) = (row.failure, way(row.direction));
    let Tally { cases, as_before, as_after, errors, retried, wrong, slowest } = tally;
    let slowest = slowest.as_millis();
    format!(
        "{target}\t{situation}\t{operation}\t{failure}\t{way}\t\
         {cases}\t{as_before}\t{as_after}\t{errors}\t{retried}\t{wrong}\t{slowest}\n"
    )
}

fn parse(line: &str) -> Option<(Row, Tally)> {
    let mut fields = line.split('\t');
    let chapter = Chapter {
        target: named(&Target::ALL, fields.next()?)?,
        situation: named(&Situation::ALL, fields.next()?)?,
        operation: operation(fields.next()?)?,
    };
    let failure = named(&Failure::ALL, fields.next()?)?;
    let direction = match fields.next()? {
        name if name == way(Direction::ToServer) => Direction::ToServer,
        name if name == way(Direction::ToClient) => Direction::ToClient,
        _ => return None,
    };
    let mut number = || fields.next()?.parse().ok();
    let tally = Tally {
        cases: number()?,
        as_before: number()?,
        as_after: number()?,
        errors: number()?,
        retried: number()?,
        wrong: number()?,
        slowest: Duration::from_millis(number()?),
    };
    Some((Row { chapter, failure, direction }, tally))
}

fn operation(name: &str) -> Option<Operation> {
    named(&Operation::CALLS, name).or_else(|| named(&[Operation::Feed], name))
}

fn named<T: Copy + Display>(all: &[T], name: &str) -> Option<T> {
    all.iter().copied().find(|one| one.to_string() == name)
}

const COUNTS: &str = "cases | as before | as after | errors | again | wrong | slowest |";

const RULE: &str = " ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for operation in Operation::CALLS.into_iter().chain([Operation::Feed]) {
            let (target, situation) = (Target::PostgresOverTls, Situation::Cold);
            let chapter = Chapter { target, situation, operation };
            let (failure, direction) = (Failure::Late, Direction::ToClient);
            let row = Row { chapter, failure, direction };
            let slowest = Duration::from_millis(7);
            let tally = Tally {
                cases: 1,
                as_before: 2,
                as_after: 3,
                errors: 4,
                retried: 5,
                wrong: 6,
                slowest,
            };
            assert_eq!(parse(line(&row, &tally).trim_end()), Some((row, tally)));
        }
        assert_eq!(parse("Redis\twarm\tnonsense"), None);
    }
}
