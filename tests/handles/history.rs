//! Plays histories on a service, and compares every answer with the model's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use futures_util::future::poll_immediate;
use http::{Request, Response, header};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use steadfast::{Error, RecordId, Session, SessionLayer};
use steadfast_core::{EndReason, Token as Presented};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};

use crate::model::{Answer, Cookie, End, Model, Refused, Token};
use crate::service::Service;
use crate::steps::{self, Act, KEYS, Step, Who};

/// Plays random histories on one service. They are the same in every run; one that fails is made as
/// short as it can be.
pub fn check<F: Future<Output = Service>>(cases: u32, open: impl FnOnce() -> F) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = runtime.block_on(open());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut played = 0;
    let played = Mutex::new(&mut played);
    let result = TestRunner::new_with_rng(config, rng).run(&steps::steps(), |steps| {
        let number = {
            let mut played = played.lock().unwrap();
            **played += 1;
            **played
        };
        let history = History::new(&service, number).play(&steps);
        runtime.block_on(history).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
            panic!("a handle disagrees with the model: {why}\nafter\n{}", steps.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("no history could be played: {why}"),
    }
}

/// Plays one history.
pub fn play<F: Future<Output = Service>>(open: impl FnOnce() -> F, steps: &[Step]) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let service = open().await;
        History::new(&service, 0).play(steps).await.unwrap();
    });
}

/// One history: users and browsers of its own on a service that all histories share.
struct History<'s> {
    service: &'s Service,
    number: u64,
    model: Model,
    browsers: [Browser; 2],
    /// The handles by their number in the model.
    requests: Vec<Opened>,
    /// Those that steps opened, which later ones may use.
    handles: Vec<usize>,
    /// Every token that was handed out, and the name of every session.
    tokens: BTreeMap<Token, String>,
    names: BTreeMap<RecordId, usize>,
}

#[derive(Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
    token: Option<Token>,
}

/// A request and its handle, which outlives the response.
struct Opened {
    layer: SessionLayer,
    browser: usize,
    session: Session,
    /// Lets the handler return.
    gate: Option<oneshot::Sender<()>>,
    reply: Option<JoinHandle<Response<Body>>>,
    /// Resolves when the session ends. The wait begins with the request.
    ended: Option<Wait>,
}

type Wait = Pin<Box<dyn Future<Output = Result<EndReason, Error>> + Send>>;

impl<'s> History<'s> {
    fn new(service: &'s Service, number: u64) -> Self {
        Self {
            service,
            number,
            model: Model::default(),
            browsers: Default::default(),
            requests: Vec::new(),
            handles: Vec::new(),
            tokens: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    async fn play(mut self, steps: &[Step]) -> Result<(), String> {
        for (n, step) in steps.iter().enumerate() {
            let at = |why| format!("step {}, {step:?}: {why}", n + 1);
            // Every sign-in has a time of its own.
            self.pass(Duration::from_millis(1));
            self.step(step).await.map_err(at)?;
            self.observe().await.map_err(at)?;
        }
        self.observe_tokens().await?;
        self.observe_ends().await
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Open { browser, node, loads } => {
                let opened = self.open(browser, node, loads).await?;
                self.handles.push(opened);
                Ok(())
            }
            Step::Act { handle, act } if !self.handles.is_empty() => {
                self.act(self.handles[handle % self.handles.len()], act).await
            }
            Step::Finish { handle } => {
                let waiting = self.handles.iter().copied().filter(|n| !self.model.is_answered(*n));
                let waiting: Vec<_> = waiting.collect();
                match waiting.len() {
                    0 => Ok(()),
                    many => self.finish(waiting[handle % many]).await,
                }
            }
            Step::Visit { browser, node, act } => {
                let visited = self.visit(browser, node, act).await?;
                self.handles.push(visited);
                Ok(())
            }
            Step::Pass { seconds } => {
                self.pass(Duration::from_secs(seconds));
                Ok(())
            }
            Step::Act { .. } => Ok(()),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.model.pass(time);
        self.service.clock.advance(time);
    }

    async fn visit(&mut self, browser: usize, node: usize, act: Act) -> Result<usize, String> {
        let handle = self.open(browser, node, false).await?;
        self.act(handle, act).await?;
        self.finish(handle).await?;
        Ok(handle)
    }

    async fn open(&mut self, browser: usize, node: usize, loads: bool) -> Result<usize, String> {
        let Browser { cookies, token } = &self.browsers[browser];
        let layer = self.service.node(node).clone();
        let mut request = Opened::start(layer, browser, cookies).await;
        let handle = self.model.open(*token, loads);
        if loads {
            request.session.status().await.map_err(|error| format!("{error:?}"))?;
        }
        if self.model.end_of_wait(handle).is_some() {
            let mut ended: Wait = Box::pin(request.session.ended());
            let is_early = poll_immediate(ended.as_mut()).await;
            same("a wait for the end", &is_early.map(Result::ok), &None)?;
            request.ended = Some(ended);
        }
        self.requests.push(request);
        Ok(handle)
    }

    async fn act(&mut self, handle: usize, act: Act) -> Result<(), String> {
        let session = self.requests[handle].session.clone();
        let said = match self.call(&session, act).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(refused(&error)?),
        };
        same("an answer", &said, &self.model.act(handle, act))?;
        self.learn_name(handle).await
    }

    async fn call(&self, session: &Session, act: Act) -> Result<Answer, Error> {
        let done = |()| Answer::Done;
        match act {
            Act::Look => self.look(session).await,
            Act::Insert(key, value) => session.insert(key, value).await.map(done),
            Act::Increment(key) => session.increment(key, 1).await.map(Answer::Value),
            Act::Update(key) => {
                let next = |value: Option<i64>| value.unwrap_or(0) + 1;
                session.update(key, next).await.map(Answer::Value)
            }
            Act::Pop(key) => session.pop(key).await.map(Answer::Taken),
            Act::Save => session.save().await.map(|_| Answer::Done),
            Act::Reload => session.reload().await.map(done),
            Act::Touch => session.touch().await.map(done),
            Act::Login(who) => session.login(self.user(who)).await.map(done),
            Act::Cycle => session.cycle_id().await.map(done),
            Act::Elevate => session.elevate().await.map(done),
            Act::Reauthenticate => session.reauthenticate().await.map(done),
            Act::Logout => session.flush().await.map(done),
            Act::EndAll => session.end_all().await.map(Answer::Ended),
            Act::List => {
                let listed = session.list().await?;
                let names = listed.iter().map(|info| self.names.get(&info.id).copied());
                Ok(Answer::Listed(names.map(|name| name.unwrap_or(usize::MAX)).collect()))
            }
        }
    }

    async fn look(&self, session: &Session) -> Result<Answer, Error> {
        let user = session.principal().await?;
        let is = |who: &Who| user.as_ref().is_some_and(|user| user.id() == self.user(*who));
        let user = [Who::Alice, Who::Bob].into_iter().find(is);
        let mut values = BTreeMap::new();
        for key in KEYS {
            if let Some(value) = session.get(key).await? {
                values.insert(key, value);
            }
        }
        Ok(Answer::Saw(user, values))
    }

    async fn finish(&mut self, handle: usize) -> Result<(), String> {
        let response = self.requests[handle].finish().await;
        let (done, cookie) = self.model.finish(handle);
        let status = done.map_or_else(status_of, |()| 200);
        same("the status", &response.status().as_u16(), &status)?;
        let browser = self.requests[handle].browser;
        self.browsers[browser].keep(&response);
        let set: Vec<_> = set_cookies(&response).filter(|(name, _)| *name == COOKIE).collect();
        match (cookie, set.as_slice()) {
            (Cookie::Keep, []) => {}
            (Cookie::Remove, [(_, "")]) => self.browsers[browser].token = None,
            (Cookie::Set(token), [(_, value)]) if !value.is_empty() => {
                self.browsers[browser].token = Some(token);
                self.tokens.insert(token, (*value).to_owned());
                let id = Presented::decode(value.as_bytes()).unwrap().id();
                same("the session of a token", self.names.entry(id).or_insert(token.session), {
                    &token.session
                })?;
            }
            (expected, _) => return Err(format!("{} cookies instead of {expected:?}", set.len())),
        }
        Ok(())
    }

    /// Compares what both browsers see now.
    async fn observe(&mut self) -> Result<(), String> {
        for browser in 0..self.browsers.len() {
            let node = self.requests.len() + browser;
            self.visit(browser, node, Act::Look).await?;
        }
        Ok(())
    }

    /// Compares what every token opens that was ever handed out.
    async fn observe_tokens(&self) -> Result<(), String> {
        for (n, (token, value)) in self.tokens.iter().enumerate() {
            let cookies = BTreeMap::from([(COOKIE.to_owned(), value.clone())]);
            let mut request = Opened::start(self.service.node(n).clone(), 0, &cookies).await;
            let found = request.session.handle().await.map_err(|error| format!("{error:?}"))?;
            request.finish().await;
            same(&format!("what {token:?} opens"), &found.is_some(), &self.model.opens(*token))?;
        }
        Ok(())
    }

    /// Compares the ends that handles report.
    async fn observe_ends(&mut self) -> Result<(), String> {
        let mut waiting = Vec::new();
        for handle in 0..self.requests.len() {
            let begun = self.requests[handle].ended.take();
            let early = begun.zip(self.model.end_of_wait(handle));
            // A wait that begins now has the store asked, which helps those that began before.
            let mut late: Wait = Box::pin(self.requests[handle].session.ended());
            let expected = self.model.end(handle);
            if matches!(expected, End::NotYet) {
                same("a wait for the end", &poll_immediate(late.as_mut()).await.is_none(), &true)?;
            }
            for (wait, expected) in [(late, expected)].into_iter().chain(early) {
                waiting.extend(observe_end(handle, wait, expected).await?);
            }
        }
        for wait in waiting {
            let ended = poll_immediate(wait).await.map(Result::ok);
            same("a wait for the end of a live session", &ended, &None)?;
        }
        Ok(())
    }

    /// Learns how the store names a session that a handle began.
    async fn learn_name(&mut self, handle: usize) -> Result<(), String> {
        if let Some(session) = self.model.session_of(handle) {
            let named = self.requests[handle].session.handle().await;
            let id = named.ok().flatten().ok_or("a live handle has no name")?;
            same("the session of a handle", self.names.entry(id).or_insert(session), &session)?;
        }
        Ok(())
    }

    fn user(&self, who: Who) -> String {
        format!("{who:?} of {}", self.number)
    }
}

impl Opened {
    async fn start(
        layer: SessionLayer,
        browser: usize,
        cookies: &BTreeMap<String, String>,
    ) -> Self {
        let (gate, opened) = oneshot::channel::<()>();
        let (sender, arrived) = oneshot::channel();
        let parts = Arc::new(Mutex::new(Some((sender, opened))));
        let service = layer.layer(service_fn(move |request: Request<()>| {
            let (sender, opened) = parts.lock().unwrap().take().expect("there is one request");
            async move {
                let session = request.extensions().get::<Session>().cloned();
                sender.send(session.expect("the layer adds a session")).unwrap();
                let _ = opened.await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        }));
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder().header(header::COOKIE, pairs.join("; ")).body(()).unwrap();
        let reply = tokio::spawn(async move { service.oneshot(request).await.unwrap() });
        let session = arrived.await.unwrap();
        Self { layer, browser, session, gate: Some(gate), reply: Some(reply), ended: None }
    }

    /// Has the handler return, and waits for the answer and for what comes after it.
    async fn finish(&mut self) -> Response<Body> {
        let _ = self.gate.take().expect("the handler waits").send(());
        let reply = self.reply.take().expect("the answer is to come");
        let response = timeout(PATIENCE, reply).await.expect("an answer comes in time").unwrap();
        timeout(PATIENCE, async {
            while self.layer.has_pending_work() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("a touch ends in time");
        response
    }
}

impl Browser {
    fn keep(&mut self, response: &Response<Body>) {
        for (name, value) in set_cookies(response) {
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
    }
}

/// Compares the end that a wait comes to. Gives back one that is to go on.
async fn observe_end(handle: usize, wait: Wait, expected: End) -> Result<Option<Wait>, String> {
    if matches!(expected, End::NotYet) {
        return Ok(Some(wait));
    }
    let ended = timeout(PATIENCE, wait).await;
    match (ended, &expected) {
        (Ok(Ok(reason)), End::Of(reasons)) if reasons.contains(&reason) => Ok(None),
        (Ok(Ok(EndReason::Expired) | Err(Error::NoSession)), End::NoSession) => Ok(None),
        (ended, _) => Err(format!("handle {handle} ended with {ended:?} instead of {expected:?}")),
    }
}

fn set_cookies(response: &Response<Body>) -> impl Iterator<Item = (&str, &str)> {
    let lines = response.headers().get_all(header::SET_COOKIE).iter();
    lines.map(|line| {
        let (name, rest) = line.to_str().unwrap().split_once('=').unwrap();
        (name, rest.split(';').next().unwrap())
    })
}

fn refused(error: &Error) -> Result<Refused, String> {
    Ok(match error {
        Error::Superseded => Refused::Superseded,
        Error::Ended => Refused::Ended,
        Error::TooLate => Refused::TooLate,
        Error::NoSession => Refused::NoSession,
        Error::NotSignedIn => Refused::NotSignedIn,
        other => return Err(format!("a healthy store fails: {other:?}")),
    })
}

fn status_of(refused: Refused) -> u16 {
    match refused {
        Refused::Superseded | Refused::Ended => 409,
        Refused::TooLate => 500,
        Refused::NoSession | Refused::NotSignedIn => 401,
    }
}

fn same<T: PartialEq + Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    match seen == expected {
        true => Ok(()),
        false => Err(format!("{what} is {seen:?} instead of {expected:?}")),
    }
}

const COOKIE: &str = "__Host-id";

const PATIENCE: Duration = Duration::from_secs(60);
