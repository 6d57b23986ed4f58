//! Random histories of two browsers with overlapping requests, faults, and time that passes: after
//! every step, everything that can be seen obeys the invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::store::{Operate, RecordId};
use steadfast::{Error, Session};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::site::{Browser, Reply, Site};

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_history_obeys_the_invariants(steps in prop::collection::vec(step(), 1..40)) {
        runtime().block_on(async {
            let mut history = History::new();
            for step in steps {
                history.take(step).await;
                history.check().await;
            }
        });
    }

    /// Without logouts, expiry and faults, in any order of the answers.
    /// Shows RC-05.
    #[test]
    fn no_history_leaves_a_dead_cookie(
        acts in prop::collection::vec((rotating_act(), any::<bool>()), 1..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        runtime().block_on(async {
            let site = Site::new();
            let browser = site.member("user0").await;
            let mut under_way = Vec::new();
            for (act, load) in acts {
                under_way.push(UnderWay::start(&browser, act, load, 0).await);
            }
            let mut answers = Vec::new();
            for index in &order {
                if !under_way.is_empty() {
                    let next = under_way.remove(index.index(under_way.len()));
                    answers.push(next.finish().await);
                }
            }
            for index in order.iter().rev() {
                if !answers.is_empty() {
                    browser.keep(&answers.remove(index.index(answers.len())));
                }
            }
            assert!(is_live(&site, &browser.token().unwrap()).await);
        });
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Read,
    Insert,
    Increment,
    Update,
    Clear,
    Cycle,
    Elevate,
    Reauthenticate,
    Login,
    LoginAsAnother,
    Logout,
    EndOthers,
    EndAll,
    Fail,
}

#[derive(Clone, Debug)]
enum Step {
    /// A request from its beginning to its end.
    Run {
        browser: usize,
        act: Act,
    },
    /// A request that waits in its handler, after a load or before.
    Start {
        browser: usize,
        act: Act,
        load: bool,
    },
    /// One of those that wait goes on to its end.
    Finish(prop::sample::Index),
    Pass {
        seconds: u64,
    },
    Break {
        call: usize,
        ack_lost: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let act = || prop::sample::select(ACTS);
    prop_oneof![
        4 => (0..2_usize, act()).prop_map(|(browser, act)| Step::Run { browser, act }),
        4 => (0..2_usize, act(), any::<bool>())
            .prop_map(|(browser, act, load)| Step::Start { browser, act, load }),
        4 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => prop::sample::select(&[1, 59, 61, 900, 1_800, 28_800][..])
            .prop_map(|seconds| Step::Pass { seconds }),
        1 => (0..4_usize, any::<bool>()).prop_map(|(call, ack_lost)| Step::Break { call, ack_lost }),
    ]
}

fn rotating_act() -> impl Strategy<Value = Act> {
    prop::sample::select(&ACTS[..9])
}

const ACTS: &[Act] = &[
    Act::Read,
    Act::Insert,
    Act::Increment,
    Act::Update,
    Act::Clear,
    Act::Cycle,
    Act::Elevate,
    Act::Reauthenticate,
    Act::Login,
    Act::LoginAsAnother,
    Act::Logout,
    Act::EndOthers,
    Act::EndAll,
    Act::Fail,
];

struct History {
    site: Site,
    browsers: [Browser; 2],
    under_way: Vec<(usize, UnderWay)>,
    /// Every token that was ever handed out, by its record.
    issued: BTreeMap<RecordId, BTreeSet<String>>,
    /// Records that the store was seen to hold, and those that it was seen to have lost.
    seen: BTreeSet<RecordId>,
    gone: BTreeSet<RecordId>,
}

impl History {
    fn new() -> Self {
        let site = Site::new();
        let browsers = [site.browser(), site.browser()];
        Self {
            site,
            browsers,
            under_way: Vec::new(),
            issued: BTreeMap::new(),
            seen: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Run { browser, act } => {
                let request = UnderWay::start(&self.browsers[browser], act, false, browser).await;
                self.finish(browser, request).await;
            }
            Step::Start { browser, act, load } if self.under_way.len() < 6 => {
                let request = UnderWay::start(&self.browsers[browser], act, load, browser).await;
                self.under_way.push((browser, request));
            }
            Step::Finish(index) if !self.under_way.is_empty() => {
                let (browser, request) = self.under_way.remove(index.index(self.under_way.len()));
                self.finish(browser, request).await;
            }
            Step::Pass { seconds } => self.site.clock.advance(Duration::from_secs(seconds)),
            Step::Break { call, ack_lost } => {
                let call = [Call::Load, Call::Create, Call::Update, Call::Delete][call];
                let fault = if ack_lost { Fault::AckLost } else { Fault::Down };
                self.site.store.once(call, fault);
            }
            Step::Start { .. } | Step::Finish(_) => {}
        }
    }

    async fn finish(&mut self, browser: usize, request: UnderWay) {
        let reply = request.finish().await;
        let set = reply.set_cookies();
        assert!(set.len() <= 1, "7: {reply:?}");
        if reply.status.as_u16() == 503 {
            assert!(
                set.iter().all(|line| line.contains("__Host-id=") && !line.contains("Max-Age=0"))
            );
        }
        self.browsers[browser].keep(&reply);
        let Some(token) = set.first().and_then(|line| line.strip_prefix("__Host-id=")) else {
            return;
        };
        let token = token.split(';').next().unwrap().to_owned();
        if token.is_empty() {
            return;
        }
        self.site.store.heal();
        assert!(is_live(&self.site, &token).await, "7: what was set opens nothing");
        self.issued.entry(record(&token)).or_default().insert(token);
    }

    async fn check(&mut self) {
        let held = self.site.store.scan(None, 1_000).await.unwrap().records;
        let held: BTreeSet<_> = held.iter().map(|scanned| scanned.id).collect();
        assert!(held.is_disjoint(&self.gone), "1, 3, 4: a record came back");
        self.gone.extend(self.seen.difference(&held));
        self.seen.extend(&held);
        for (id, tokens) in &self.issued {
            let live = self.live_among(*id, tokens).await;
            assert!(live <= 1, "2: {live} secrets of one record are live");
        }
    }

    async fn live_among(&self, id: RecordId, tokens: &BTreeSet<String>) -> usize {
        use steadfast::store::{Keyring, Realm, Token, Verdict};
        let page = self.site.store.scan(None, 1_000).await.unwrap();
        let found = page.records.into_iter().find(|scanned| scanned.id == id);
        let Some(record) = found.and_then(|scanned| scanned.record) else { return 0 };
        let now = self.site.now();
        let opens = |token: &&String| {
            let token = Token::decode(token.as_bytes()).unwrap();
            let proof = Keyring::unkeyed().prove(&Realm::default(), token.secret());
            !record.is_expired(now.into()) && record.verify(&proof, now.into()) == Verdict::Right
        };
        tokens.iter().filter(opens).count()
    }
}

/// A request that waits in its handler.
struct UnderWay {
    gate: Arc<Semaphore>,
    reply: JoinHandle<Reply>,
}

impl UnderWay {
    async fn start(browser: &Browser, act: Act, load: bool, owner: usize) -> Self {
        let (gate, reached) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (wait, arrived) = (Arc::clone(&gate), Arc::clone(&reached));
        let reply = tokio::spawn(browser.request(move |session| {
            let (wait, arrived) = (Arc::clone(&wait), Arc::clone(&arrived));
            async move {
                let loaded = if load { session.status().await.map(drop) } else { Ok(()) };
                arrived.add_permits(1);
                wait.acquire().await.unwrap().forget();
                loaded?;
                run(session, act, owner).await
            }
        }));
        reached.acquire().await.unwrap().forget();
        Self { gate, reply }
    }

    async fn finish(self) -> Reply {
        self.gate.add_permits(1);
        self.reply.await.unwrap()
    }
}

async fn run(session: Session, act: Act, owner: usize) -> Result<(), Error> {
    match act {
        Act::Read => {
            let known = session.get::<usize>("owner").await?;
            assert!(known.is_none_or(|known| known == owner), "6: the session of another browser");
            Ok(())
        }
        Act::Insert => session.insert("owner", owner).await,
        Act::Increment => session.increment("n", 1).await.map(drop),
        Act::Update => session.update("m", |m: Option<i64>| m.unwrap_or(0) + 1).await.map(drop),
        Act::Clear => session.clear().await,
        Act::Cycle => session.cycle_id().await,
        Act::Elevate => session.elevate().await,
        Act::Reauthenticate => session.reauthenticate().await,
        Act::Login => session.login(format!("user{owner}")).await,
        Act::LoginAsAnother => session.login("shared").await,
        Act::Logout => session.flush().await,
        Act::EndOthers => session.end_others().await.map(drop),
        Act::EndAll => session.end_all().await.map(drop),
        Act::Fail => {
            session.login("nobody").await?;
            Err(Error::Poisoned)
        }
    }
}

async fn is_live(site: &Site, token: &str) -> bool {
    let browser = site.browser();
    browser.set_token(token);
    let seen = browser.request(|session| async move {
        Ok::<_, Error>(session.handle().await?.map(|id| id.to_string()).unwrap_or_default())
    });
    !seen.await.ok().body.is_empty()
}

fn record(token: &str) -> RecordId {
    steadfast::store::Token::decode(token.as_bytes()).unwrap().id()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
