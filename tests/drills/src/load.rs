//! Users who send requests at a fixed rate, without waiting for earlier responses.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use testkit::balancer::{Sent, Unanswered};
use testkit::{Balancer, Client, Policy, Reply};
use tokio::task::{JoinHandle, JoinSet};

use crate::history::{Answer, Call, Event, Journal, Line, Operation, What};
use crate::plan::{Kind, Plan};

/// A load that is in progress.
pub struct Load {
    users: Arc<Users>,
    at_work: JoinHandle<()>,
}

struct Users {
    balancer: Balancer,
    plan: Plan,
    recorder: Arc<Recorder>,
    sign_ins: Vec<Mutex<SignIn>>,
    /// All sessions that were ever opened, including those that ended.
    opened: Mutex<Vec<Session>>,
    ended: Mutex<Vec<Session>>,
    next_session: AtomicU64,
    is_over: AtomicBool,
}

/// A user's sign-in state.
enum SignIn {
    Absent,
    /// The login is in progress.
    InProgress,
    Done(Session),
}

/// A client's view of a session. Clones share it.
#[derive(Clone)]
struct Session {
    number: u64,
    token: String,
    route: Arc<Mutex<String>>,
    /// The highest version that a response carried.
    seen: Arc<AtomicU64>,
}

/// Records events and calls with their times.
pub struct Recorder {
    journal: Journal,
    started: Instant,
}

impl Recorder {
    pub fn new(journal: Journal) -> Self {
        Self { journal, started: Instant::now() }
    }

    pub fn event(&self, what: What) {
        let line = Line::Event(Event { at: self.now(), what });
        self.journal.append(&line);
    }

    /// # Errors
    ///
    /// Returns an error if a line could not be written.
    pub fn complete(&self) -> std::io::Result<()> {
        self.journal.complete()
    }

    /// Returns the microseconds since the start of the run.
    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

impl Load {
    /// Signs in all users, and starts to send requests.
    pub async fn start(balancer: &Balancer, plan: Plan, recorder: &Arc<Recorder>) -> Self {
        let users = Arc::new(Users {
            balancer: balancer.clone(),
            plan,
            recorder: Arc::clone(recorder),
            sign_ins: (0..plan.users).map(|_| Mutex::new(SignIn::Absent)).collect(),
            opened: Mutex::default(),
            ended: Mutex::default(),
            next_session: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let sign_ins = (0..plan.users).map(|user| users.sign_in(user, recorder.now()));
        stream::iter(sign_ins).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        recorder.event(What::Begins);
        let at_work = tokio::spawn(Arc::clone(&users).work());
        Self { users, at_work }
    }

    /// Stops sending requests, and waits for the outstanding responses.
    ///
    /// # Errors
    ///
    /// Returns an error if a user's task panicked.
    pub async fn finish(self) -> anyhow::Result<FinishedUsers> {
        self.users.is_over.store(true, Ordering::SeqCst);
        self.at_work.await?;
        self.users.recorder.event(What::Ends);
        Ok(FinishedUsers(self.users))
    }
}

/// The sessions after the load, which are compared with what the clients were told.
pub struct FinishedUsers(Arc<Users>);

impl FinishedUsers {
    /// Reads every session from each of these nodes.
    pub async fn read_all(self, nodes: &[usize]) {
        let opened = lock(&self.0.opened).clone();
        let pairs = opened.iter().flat_map(|session| nodes.iter().map(move |n| (session, *n)));
        let reads = pairs.map(|(session, node)| self.0.read_final(session, node));
        stream::iter(reads).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    }
}

impl Users {
    async fn work(self: Arc<Self>) {
        let begun = self.recorder.now();
        let mut working = JoinSet::new();
        for number in 0.. {
            let due = begun + self.plan.due(number);
            self.sleep_until(due).await;
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let users = Arc::clone(&self);
            working.spawn(async move { users.serve(number, due).await });
            while working.try_join_next().is_some() {}
        }
        working.join_all().await;
    }

    async fn sleep_until(&self, due: u64) {
        let at = self.recorder.started + Duration::from_micros(due);
        tokio::time::sleep_until(at.into()).await;
    }

    /// Sends the next request of a user. A user without a session signs in instead.
    async fn serve(&self, number: u64, due: u64) {
        let request = self.plan.request(number);
        if request.kind == Kind::Replay {
            return self.replay(number, due).await;
        }
        let Some(user) = self.available(request.user) else { return };
        let Some(session) = self.session_of(user, request.kind) else {
            return self.sign_in(user, due).await;
        };
        let operation = match request.kind {
            Kind::Put => Operation::Put(number as i64 + 1),
            Kind::Add => Operation::Add,
            Kind::Count => Operation::Count,
            Kind::Logout => Operation::Logout,
            Kind::Peek | Kind::Replay => Operation::Peek,
        };
        let is_known = self.ask(Policy::RoundRobin, &session, due, operation).await;
        match operation {
            Operation::Logout => lock(&self.ended).extend(is_known.then_some(session)),
            _ if !is_known => self.sign_out(user, &session),
            _ => {}
        }
    }

    /// Returns this user, or the next one who is not signing in at the moment.
    fn available(&self, user: usize) -> Option<usize> {
        let all = (0..self.sign_ins.len()).map(|n| (user + n) % self.sign_ins.len());
        all.into_iter().find(|user| !matches!(*lock(&self.sign_ins[*user]), SignIn::InProgress))
    }

    /// Returns the session of a user. If the request ends it, the user is signed out from now on.
    fn session_of(&self, user: usize, kind: Kind) -> Option<Session> {
        let mut sign_in = lock(&self.sign_ins[user]);
        let SignIn::Done(session) = &*sign_in else { return None };
        let session = session.clone();
        if kind == Kind::Logout {
            *sign_in = SignIn::Absent;
        }
        Some(session)
    }

    /// Signs a user in.
    async fn sign_in(&self, user: usize, due: u64) {
        *lock(&self.sign_ins[user]) = SignIn::InProgress;
        let number = self.next_session.fetch_add(1, Ordering::SeqCst);
        let client = Client::new("");
        let start = self.recorder.now();
        let (method, path, body) = Operation::Login.request(number);
        let sent = self.balancer.send(Policy::RoundRobin, &client, method, &path, &body).await;
        let session = Session::of(number, &client);
        self.record(&session, due, start, Operation::Login, &sent);
        let is_done = is_done(&sent);
        if is_done {
            lock(&self.opened).push(session.clone());
        }
        *lock(&self.sign_ins[user]) = if is_done { SignIn::Done(session) } else { SignIn::Absent };
    }

    /// Sends the token of a session whose end was confirmed.
    async fn replay(&self, number: u64, due: u64) {
        if let Some(session) = self.one_that_ended(number) {
            self.ask(Policy::RoundRobin, &session, due, Operation::Peek).await;
        }
    }

    fn one_that_ended(&self, number: u64) -> Option<Session> {
        let ended = lock(&self.ended);
        ended.get(number as usize % ended.len().max(1)).cloned()
    }

    /// Marks the user as signed out, unless the user has a newer session.
    fn sign_out(&self, user: usize, session: &Session) {
        let mut sign_in = lock(&self.sign_ins[user]);
        if matches!(&*sign_in, SignIn::Done(current) if current.number == session.number) {
            *sign_in = SignIn::Absent;
        }
    }

    /// Reads a session from a node, as soon as the node can answer.
    async fn read_final(&self, session: &Session, node: usize) {
        for operation in [Operation::Peek, Operation::Count] {
            for _ in 0..TRIES {
                let (policy, now) = (Policy::At(node), self.recorder.now());
                let sent = self.send(policy, session, now, operation).await;
                if is_done(&sent) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Sends one operation. Returns true if it was a logout and was confirmed, or if it was another
    /// operation and the node knew the session.
    async fn ask(&self, policy: Policy, session: &Session, due: u64, operation: Operation) -> bool {
        let sent = self.send(policy, session, due, operation).await;
        match operation {
            Operation::Logout => is_done(&sent),
            _ => !sent.answer.as_ref().is_ok_and(sets_token),
        }
    }

    async fn send(
        &self,
        policy: Policy,
        session: &Session,
        due: u64,
        operation: Operation,
    ) -> Sent {
        let (method, path, body) = operation.request(session.number);
        let client = session.client();
        let start = self.recorder.now();
        let sent = self.balancer.send(policy, &client, method, &path, &body).await;
        self.record(session, due, start, operation, &sent);
        session.learn(&sent);
        sent
    }

    fn record(&self, session: &Session, due: u64, start: u64, operation: Operation, sent: &Sent) {
        let (end, route) = (self.recorder.now(), lock(&session.route).clone());
        let (session, node, answer) = (session.number, sent.node, answer(sent));
        let call = Call { due, start, end, node, session, route, operation, answer };
        self.recorder.journal.append(&Line::Call(call));
    }
}

impl Session {
    /// Creates the view of a client that just signed in.
    fn of(number: u64, client: &Client) -> Self {
        let cookie = |name| client.cookie(name).unwrap_or_default();
        let (token, route) = (cookie(TOKEN), Arc::new(Mutex::new(cookie(ROUTE))));
        let seen = Arc::new(AtomicU64::new(cookie(SEEN).parse().unwrap_or(0)));
        Self { number, token, route, seen }
    }

    /// Returns a client that sends each request once.
    fn client(&self) -> Client {
        let client = Client::new("");
        client.set_cookie(TOKEN, &self.token);
        client.set_cookie(ROUTE, &lock(&self.route));
        client.set_cookie(SEEN, &self.seen.load(Ordering::SeqCst).to_string());
        client
    }

    /// Keeps the version and the route of a response, unless a newer response was seen.
    fn learn(&self, sent: &Sent) {
        let Ok(reply) = &sent.answer else { return };
        if sets_token(reply) {
            return;
        }
        if let Some(seen) = set_cookie(reply, SEEN).and_then(|text| text.parse().ok()) {
            self.seen.fetch_max(seen, Ordering::SeqCst);
        }
        if let Some(route) = set_cookie(reply, ROUTE) {
            *lock(&self.route) = route;
        }
    }
}

impl Operation {
    /// Returns the method, the path and the body.
    fn request(self, session: u64) -> (&'static str, String, String) {
        let (method, path) = match self {
            Self::Login => return ("POST", format!("/login?u=s{session}"), String::new()),
            Self::Put(number) => return ("POST", "/put".to_owned(), number.to_string()),
            Self::Add => ("POST", "/incr?k=count"),
            Self::Logout => ("POST", "/logout"),
            Self::Peek => ("GET", "/peek"),
            Self::Count => ("GET", "/get?k=count"),
        };
        (method, path.to_owned(), String::new())
    }
}

fn answer(sent: &Sent) -> Answer {
    match &sent.answer {
        Ok(reply) => Answer::Told {
            status: reply.status.as_u16(),
            body: reply.body.clone(),
            token: sets_token(reply),
        },
        Err(Unanswered::Refused) => Answer::Refused,
        Err(Unanswered::Cut) => Answer::Cut,
        Err(Unanswered::Late) => Answer::Late,
    }
}

fn is_done(sent: &Sent) -> bool {
    sent.answer.as_ref().is_ok_and(|reply| reply.status == 200)
}

/// Returns true if a response replaces or removes the token.
fn sets_token(reply: &Reply) -> bool {
    set_cookie(reply, TOKEN).is_some()
}

fn set_cookie(reply: &Reply, name: &str) -> Option<String> {
    let lines = reply.set_cookies();
    let mut pairs = lines.iter().filter_map(|line| line.split(';').next()?.split_once('='));
    pairs.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cookies of the profile `host`: the secret, the route and the last version.
const TOKEN: &str = "__Host-id";
const ROUTE: &str = "__Host-id-route";
const SEEN: &str = "__Host-id-seen";

/// The number of users or sessions that are handled concurrently before and after the load.
const AT_ONCE: usize = 32;

/// The number of attempts to read a session from a node after the load.
const TRIES: usize = 50;
