//! The raw history of a run: a file with one line of JSON per call.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// A line of a history file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first line.
    Run(Run),
    Event(Event),
    Call(Call),
    /// The last line. It is missing if the run was interrupted.
    Complete,
}

/// The identity and the load of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub drill: String,
    pub number: u64,
    pub users: usize,
    pub rate: u64,
}

/// An event of a node or of the load. Times are microseconds since the start of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// All users are signed in. Requests are sent at the planned rate from now on.
    Begins,
    /// A node is broken, or is about to be.
    Out(usize),
    /// The node accepts clients again.
    Back(usize),
    /// A note for human readers.
    Note(String),
    /// The last request was answered.
    Ends,
}

/// One call. Node numbers start at 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The time at which it was due, and the time at which it was sent.
    pub due: u64,
    pub start: u64,
    pub end: u64,
    pub node: usize,
    pub session: u64,
    /// The nodes that held the session according to the client's last response: `n1.n2`.
    pub route: String,
    pub operation: Operation,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Login,
    Put(i64),
    Add,
    Peek,
    Count,
    Logout,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Told {
        status: u16,
        body: String,
        /// True if the node set the session's cookie. A login does so as intended. Any other call
        /// does so only if the node knows no session for the token.
        token: bool,
    },
    /// No node accepted the connection, so the call had no effect.
    Refused,
    /// The connection closed before the response.
    Cut,
    /// No response arrived within 15 s.
    Late,
}

impl Answer {
    /// Returns true if the application performed the operation.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Told { status: 200, .. })
    }
}

/// The contents of a history file.
#[derive(Clone, Debug)]
pub struct History {
    pub run: Run,
    pub events: Vec<Event>,
    pub calls: Vec<Call>,
}

impl History {
    /// Reads a file. Returns `None` if it is missing or its run was not completed.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let lines = BufReader::new(file).split(b'\n').collect::<io::Result<Vec<_>>>()?;
        Ok(Self::of(&lines))
    }

    fn of(lines: &[Vec<u8>]) -> Option<Self> {
        // An interrupted run may leave an incomplete last line.
        let mut lines = lines.iter().map_while(|line| serde_json::from_slice(line).ok());
        let Some(Line::Run(run)) = lines.next() else { return None };
        let mut history = Self { run, events: Vec::new(), calls: Vec::new() };
        for line in lines {
            match line {
                Line::Run(_) => return None,
                Line::Event(event) => history.events.push(event),
                Line::Call(call) => history.calls.push(call),
                Line::Complete => return Some(history),
            }
        }
        None
    }

    /// Returns the calls of the load, without the first logins and the final reads.
    pub fn load(&self) -> impl Iterator<Item = &Call> {
        let at = |what: &What| self.events.iter().find(|event| event.what == *what);
        let begins = at(&What::Begins).map_or(0, |event| event.at);
        let ends = at(&What::Ends).map_or(u64::MAX, |event| event.at);
        self.calls.iter().filter(move |call| begins <= call.start && call.start < ends)
    }

    /// Returns the calls of the load at nodes that were healthy for the whole call.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Call> {
        let outages = self.outages();
        self.load().filter(move |call| {
            let mut outages = outages.iter().filter(|outage| outage.node == call.node);
            outages.all(|outage| call.end < outage.from || outage.until < call.start)
        })
    }

    /// Returns true if, as far as the client knew, a broken node held the session of a call.
    pub fn was_held_by_a_broken_node(&self, call: &Call) -> bool {
        let outages = self.outages();
        let mut labels = outages.iter().map(|outage| format!("n{}", outage.node + 1));
        labels.any(|label| call.route.split('.').any(|holder| holder == label))
    }

    /// Returns true if a call was in progress within this time of a fault or of its repair.
    pub fn is_near_a_change(&self, call: &Call, within: u64) -> bool {
        let changes = self.events.iter();
        let mut changes = changes
            .filter(|event| matches!(event.what, What::Out(_) | What::Back(_) | What::Note(_)));
        changes.any(|event| call.start <= event.at + within && event.at <= call.end)
    }

    fn outages(&self) -> Vec<Outage> {
        let mut outages = Vec::<Outage>::new();
        for Event { at, what } in &self.events {
            match what {
                What::Out(node) => outages.push(Outage { node: *node, from: *at, until: u64::MAX }),
                What::Back(node) => {
                    let mut open = outages.iter_mut().filter(|outage| outage.node == *node);
                    open.next_back().expect("it was out").until = *at;
                }
                What::Begins | What::Ends | What::Note(_) => {}
            }
        }
        outages
    }
}

struct Outage {
    node: usize,
    from: u64,
    until: u64,
}

/// A history file that is being written.
#[derive(Debug)]
pub struct Journal(Mutex<BufWriter<File>>);

impl Journal {
    /// Starts a file. Overwrites the file of an interrupted run.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be created.
    pub fn begin(path: &Path, run: Run) -> io::Result<Self> {
        std::fs::create_dir_all(path.parent().unwrap_or(path))?;
        let journal = Self(Mutex::new(BufWriter::new(File::create(path)?)));
        journal.append(&Line::Run(run));
        Ok(journal)
    }

    /// Appends a line.
    ///
    /// # Panics
    ///
    /// Panics if the disk is full, because a history with a gap proves nothing.
    pub fn append(&self, line: &Line) {
        let mut text = serde_json::to_vec(line).expect("a line is JSON");
        text.push(b'\n');
        let mut file = self.0.lock().expect("no writer panicked");
        file.write_all(&text).expect("the history can be written");
    }

    /// Finishes the file of a completed run.
    ///
    /// # Errors
    ///
    /// Returns an error if a line could not be written.
    pub fn complete(&self) -> io::Result<()> {
        self.append(&Line::Complete);
        self.0.lock().expect("no writer panicked").flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_file_is_read_back() {
        let (path, journal) = begun("complete");
        let (begins, call) = (event(1, What::Begins), call(0, 2, 3));
        journal.append(&Line::Event(begins.clone()));
        journal.append(&Line::Call(call.clone()));
        journal.complete().unwrap();
        let history = History::read(&path).unwrap().unwrap();
        assert_eq!((history.run, history.events), (run(), vec![begins]));
        assert_eq!(history.calls, [call]);
    }

    #[test]
    fn a_run_that_was_stopped_is_not_complete() {
        let (path, journal) = begun("stopped");
        journal.append(&Line::Call(call(0, 2, 3)));
        drop(journal);
        assert!(History::read(&path).unwrap().is_none());
        let torn = std::fs::read(&path).unwrap();
        std::fs::write(&path, &torn[..torn.len() - 9]).unwrap();
        assert!(History::read(&path).unwrap().is_none());
    }

    #[test]
    fn an_unstarted_run_is_not_complete() {
        assert!(History::read(Path::new("/nowhere/1.jsonl")).unwrap().is_none());
    }

    #[test]
    fn a_call_at_a_broken_node_counts_there() {
        let events = vec![event(100, What::Out(1)), event(200, What::Back(1))];
        let calls = [(1, 50, 99), (1, 50, 100), (1, 150, 160), (1, 201, 210), (0, 150, 160)];
        let calls = calls.map(|(node, start, end)| call(node, start, end)).to_vec();
        let history = History { run: run(), events, calls };
        let elsewhere = history.elsewhere().map(|call| (call.node, call.start, call.end));
        assert_eq!(elsewhere.collect::<Vec<_>>(), [(1, 50, 99), (1, 201, 210), (0, 150, 160)]);
    }

    #[test]
    fn final_reads_and_first_logins_are_not_load() {
        let events = vec![event(10, What::Begins), event(20, What::Ends)];
        let calls = [5, 15, 25].map(|start| call(0, start, start + 1)).to_vec();
        let history = History { run: run(), events, calls };
        assert_eq!(history.load().map(|call| call.start).collect::<Vec<_>>(), [15]);
    }

    #[test]
    fn calls_on_a_broken_node_are_separate() {
        let history = broken();
        let mut call = call(0, 150, 160);
        assert!(history.was_held_by_a_broken_node(&call));
        call.route = "n1.n3".to_owned();
        assert!(!history.was_held_by_a_broken_node(&call));
    }

    #[test]
    fn a_waiting_call_is_near_its_fault() {
        let history = broken();
        let is_near = |start, end| history.is_near_a_change(&call(0, start, end), 10);
        assert_eq!([is_near(50, 99), is_near(50, 100), is_near(110, 120)], [false, true, true]);
        assert_eq!([is_near(111, 120), is_near(205, 220)], [false, true]);
    }

    /// A history in which the second node is broken for a while.
    fn broken() -> History {
        let events = vec![event(100, What::Out(1)), event(200, What::Back(1))];
        History { run: run(), events, calls: Vec::new() }
    }

    fn begun(name: &str) -> (std::path::PathBuf, Journal) {
        let path = testkit::ports::fresh_directory("drills").join(name);
        let journal = Journal::begin(&path, run()).unwrap();
        (path, journal)
    }

    fn run() -> Run {
        Run { drill: "kill".to_owned(), number: 1, users: 400, rate: 200 }
    }

    fn event(at: u64, what: What) -> Event {
        Event { at, what }
    }

    fn call(node: usize, start: u64, end: u64) -> Call {
        let (operation, answer, route) = (Operation::Put(1), Answer::Refused, "n1.n2".to_owned());
        Call { due: start, start, end, node, session: 0, route, operation, answer }
    }
}
