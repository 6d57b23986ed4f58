//! The cases of one server, run concurrently.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use steadfast_core::SessionStore;
use testkit::faults::{Direction, Heard};
use testkit::messages::boundaries;
use tokio::task::JoinSet;

use crate::case::{Case, Failure, Situation};
use crate::deployment::{Deployment, Space};
use crate::feed::FeedWorker;
use crate::report::Report;
use crate::scene::Operation;
use crate::worker::Worker;

/// One server, and the number of cases that run concurrently on it.
pub struct Book {
    pub deployment: Arc<Deployment>,
    direct: Arc<dyn SessionStore>,
    jobs: usize,
}

/// The bytes that one kind of call sends and receives when nothing fails.
#[derive(Clone, Debug)]
pub struct Script {
    situation: Situation,
    operation: Operation,
    /// One entry per conversation and direction.
    lines: BTreeMap<(usize, Direction), Line>,
}

/// The bytes in one direction.
#[derive(Clone, Debug, Default)]
struct Line {
    bytes: usize,
    /// The offsets at which messages end, and 0.
    ends: Vec<usize>,
}

impl Book {
    pub async fn open(deployment: Deployment, jobs: usize) -> Self {
        let direct = deployment.direct(Space(0)).await;
        Self { deployment: Arc::new(deployment), direct, jobs }
    }

    /// Records the conversation of one kind of call.
    pub async fn script(&self, situation: Situation, operation: Operation) -> Script {
        let mut script = Script { situation, operation, lines: BTreeMap::new() };
        if operation == Operation::Feed {
            let worker = FeedWorker::start(&self.deployment, Space(1)).await;
            let heard = worker.listen(situation).await;
            heard.iter().enumerate().for_each(|(n, heard)| self.add(&mut script, n, heard));
            return script;
        }
        let mut worker = Worker::start(&self.deployment, &self.direct).await;
        // TLS signatures and numbers sometimes differ in length by a few bytes.
        for _ in 0..3 {
            let heard = worker.listen(situation, operation).await;
            self.add(&mut script, 0, &heard);
        }
        script
    }

    fn add(&self, script: &mut Script, conversation: usize, heard: &Heard) {
        let (protocol, is_new) =
            (self.deployment.target.protocol(), script.situation == Situation::Cold);
        for direction in [Direction::ToServer, Direction::ToClient] {
            let bytes = &heard.of(direction).bytes;
            let line = script.lines.entry((conversation, direction)).or_default();
            if line.bytes < bytes.len() || line.ends.is_empty() {
                let ends = boundaries(protocol, direction, bytes, is_new);
                *line = Line { bytes: bytes.len(), ends };
            }
        }
    }

    /// Runs cases concurrently, and returns their reports.
    pub async fn run(&self, cases: Vec<Case>) -> Vec<Report> {
        let queue = Arc::new(Mutex::new(VecDeque::from(cases)));
        let workers = (0..self.jobs).map(|_| {
            let queue = Arc::clone(&queue);
            let (deployment, direct) = (Arc::clone(&self.deployment), Arc::clone(&self.direct));
            async move {
                let (mut reports, mut worker) = (Vec::new(), None);
                while let Some(case) = next(&queue) {
                    let worker = match &mut worker {
                        Some(worker) => worker,
                        None => worker.insert(Worker::start(&deployment, &direct).await),
                    };
                    reports.push(worker.run(case).await);
                }
                reports
            }
        });
        all(workers).await
    }

    /// Runs cases of listeners. Fewer run concurrently, because each has stores of its own that are
    /// never idle.
    pub async fn run_feed(&self, cases: Vec<Case>) -> Vec<Report> {
        let queue = Arc::new(Mutex::new(VecDeque::from(cases)));
        let workers = (0..self.jobs.div_ceil(4)).map(|job| {
            let (queue, deployment) = (Arc::clone(&queue), Arc::clone(&self.deployment));
            async move {
                let (mut reports, mut worker) = (Vec::new(), None);
                while let Some(case) = next(&queue) {
                    let worker = match &mut worker {
                        Some(worker) => worker,
                        // Calls, and the listener that recorded the script, use other spaces.
                        None => worker.insert(FeedWorker::start(&deployment, Space(2 + job)).await),
                    };
                    reports.push(worker.run(case).await);
                }
                reports
            }
        });
        all(workers).await
    }
}

async fn all(
    workers: impl Iterator<Item = impl Future<Output = Vec<Report>> + Send + 'static>,
) -> Vec<Report> {
    let workers: JoinSet<_> = workers.collect();
    workers.join_all().await.into_iter().flatten().collect()
}

fn next(queue: &Mutex<VecDeque<Case>>) -> Option<Case> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

impl Script {
    /// Returns every fault at every byte.
    pub fn every_byte(&self, book: &Book) -> Vec<Case> {
        self.cases(book, |line| (0..=line.bytes).collect())
    }

    /// Returns every fault between two messages.
    pub fn every_boundary(&self, book: &Book) -> Vec<Case> {
        self.cases(book, |line| line.ends.clone())
    }

    /// Returns cases in which the connection ended before the first byte.
    pub fn idle(book: &Book, operation: Operation) -> Vec<Case> {
        let (target, situation) = (book.deployment.target, Situation::Idle);
        let (conversation, direction, after) = (0, Direction::ToClient, 0);
        let case = |failure| Case {
            target,
            situation,
            operation,
            failure,
            conversation,
            direction,
            after,
        };
        [Failure::Reset, Failure::Close].map(case).to_vec()
    }

    fn cases(&self, book: &Book, offsets: impl Fn(&Line) -> Vec<usize>) -> Vec<Case> {
        let &Self { situation, operation, .. } = self;
        let target = book.deployment.target;
        let mut cases = Vec::new();
        for failure in Failure::ALL {
            // A conversation without bytes belongs to something else.
            for (&(conversation, direction), line) in
                self.lines.iter().filter(|(_, line)| line.bytes > 0)
            {
                cases.extend(offsets(line).into_iter().map(|after| Case {
                    target,
                    situation,
                    operation,
                    failure,
                    conversation,
                    direction,
                    after: after as u64,
                }));
            }
        }
        cases
    }
}
