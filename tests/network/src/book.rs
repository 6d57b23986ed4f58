//! The cases of one server, run side by side.

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

/// One server, and how many cases it is put through at once.
pub struct Book {
    pub deployment: Arc<Deployment>,
    direct: Arc<dyn SessionStore>,
    jobs: usize,
}

/// What one kind of call sends and receives where nothing fails.
#[derive(Clone, Debug)]
pub struct Script {
    situation: Situation,
    operation: Operation,
    /// By conversation and direction.
    lines: BTreeMap<(usize, Direction), Line>,
}

/// What passes in one direction.
#[derive(Clone, Debug, Default)]
struct Line {
    bytes: usize,
    /// Where messages end, and 0.
    ends: Vec<usize>,
}

impl Book {
    pub async fn open(deployment: Deployment, jobs: usize) -> Self {
        let direct = deployment.direct(Space(0)).await;
        Self { deployment: Arc::new(deployment), direct, jobs }
    }

    /// Listens to calls of one kind.
    pub async fn script(&self, situation: Situation, operation: Operation) -> Script {
        let mut script = Script { situation, operation, lines: BTreeMap::new() };
        if operation == Operation::Feed {
            let worker = FeedWorker::start(&self.deployment, Space(1)).await;
            let heard = worker.listen(situation).await;
            heard.iter().enumerate().for_each(|(n, heard)| self.add(&mut script, n, heard));
            return script;
        }
        let mut worker = Worker::start(&self.deployment, &self.direct).await;
        // Signatures of TLS, and numbers, are a few bytes longer at times.
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

    /// Runs cases side by side, and says how each of them went.
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

    /// The same for listeners, fewer of them: each has stores of its own, which are never idle.
    pub async fn run_feed(&self, cases: Vec<Case>) -> Vec<Report> {
        let queue = Arc::new(Mutex::new(VecDeque::from(cases)));
        let workers = (0..self.jobs.div_ceil(4)).map(|job| {
            let (queue, deployment) = (Arc::clone(&queue), Arc::clone(&self.deployment));
            async move {
                let (mut reports, mut worker) = (Vec::new(), None);
                while let Some(case) = next(&queue) {
                    let worker = match &mut worker {
                        Some(worker) => worker,
                        // Beside the spaces of calls, and of the listener that the script is from.
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
    /// Every fault at every byte.
    pub fn every_byte(&self, book: &Book) -> Vec<Case> {
        self.cases(book, |line| (0..=line.bytes).collect())
    }

    /// Every fault between two messages.
    pub fn every_boundary(&self, book: &Book) -> Vec<Case> {
        self.cases(book, |line| line.ends.clone())
    }

    /// A connection that ended before the first byte.
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
            // A conversation in which nothing was said is that of something else.
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
