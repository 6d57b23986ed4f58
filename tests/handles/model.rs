//! A model of handles, in plain maps. It shares no code with the middleware or a store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::EndReason;

use crate::steps::{Act, KEYS, Who};

/// Sessions, and the handles of the requests that were ever opened, by number.
#[derive(Default)]
pub struct Model {
    /// The time in milliseconds since the history began.
    now: u64,
    sessions: Vec<Session>,
    handles: Vec<Handle>,
    secrets: usize,
}

/// The right to a session, as a client holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    pub session: usize,
    secret: usize,
}

pub type Key = &'static str;

pub type Values = BTreeMap<Key, i64>;

/// A session in the store.
struct Session {
    secret: usize,
    /// The secret before it, and when it is forgotten.
    replaced: Option<(usize, u64)>,
    sign_in: u64,
    user: Option<Who>,
    values: Values,
    deadline: u64,
    is_ended: bool,
}

struct Handle {
    token: Option<Token>,
    view: View,
    pending: Pending,
    intent: Option<Intent>,
    cookie: Cookie,
    is_answered: bool,
    /// The session and the sign-in whose end something waits for since the request arrived.
    waits_for: Option<(usize, u64)>,
}

enum View {
    Unread,
    Live(Live),
    Absent,
    /// This handle ended it.
    Over,
    Superseded,
    /// Another one ended it, or it expired: for one of these reasons.
    Gone(Vec<EndReason>),
}

/// A session as a handle knows it.
struct Live {
    token: Token,
    sign_in: u64,
    user: Option<Who>,
    values: Values,
    deadline: u64,
}

#[derive(Clone, Default)]
struct Pending {
    clear: bool,
    puts: Values,
    removes: BTreeSet<Key>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Cycle,
    Elevate,
    Reauthenticate,
    Login(Who),
}

/// The effect of an answer on the client's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cookie {
    #[default]
    Keep,
    Set(Token),
    Remove,
}

/// The result of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Saw(Option<Who>, Values),
    Value(i64),
    Taken(Option<i64>),
    Ended(u64),
    /// The sessions of the user, by number.
    Listed(BTreeSet<usize>),
}

/// The result of a wait for the end of a session.
#[derive(Debug)]
pub enum End {
    NotYet,
    /// The session ended for one of these reasons: if it ended twice, either may be seen.
    Of(Vec<EndReason>),
    NoSession,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Superseded,
    Ended,
    TooLate,
    NoSession,
    NotSignedIn,
}

impl Model {
    pub fn pass(&mut self, time: Duration) {
        self.now += time.as_millis() as u64;
    }

    /// A request arrives.
    pub fn open(&mut self, token: Option<Token>, loads: bool) -> usize {
        self.handles.push(Handle {
            token,
            view: View::Unread,
            pending: Pending::default(),
            intent: None,
            cookie: Cookie::Keep,
            is_answered: false,
            waits_for: None,
        });
        let handle = self.handles.len() - 1;
        if loads {
            self.load(handle);
            self.handles[handle].waits_for = self.live(handle).map(Live::standing);
        }
        handle
    }

    pub fn is_answered(&self, handle: usize) -> bool {
        self.handles[handle].is_answered
    }

    pub fn act(&mut self, handle: usize, act: Act) -> Result<Answer, Refused> {
        match act {
            Act::Look => Ok(self.look(handle)),
            Act::Insert(key, value) => self.insert(handle, key, value),
            Act::Increment(key) => self.increment(handle, key),
            Act::Update(key) => self.update(handle, key),
            Act::Pop(key) => self.pop(handle, key),
            Act::Save => self.save(handle),
            Act::Reload => self.refresh(handle).map(|()| Answer::Done),
            Act::Touch => self.touch(handle),
            Act::Login(who) => self.intend(handle, Intent::Login(who)),
            Act::Cycle => self.intend(handle, Intent::Cycle),
            Act::Elevate => self.intend(handle, Intent::Elevate),
            Act::Reauthenticate => self.intend(handle, Intent::Reauthenticate),
            Act::Logout => self.log_out(handle),
            Act::EndAll => self.end_all(handle),
            Act::List => self.list(handle),
        }
    }

    /// A request is answered: what is buffered is committed.
    pub fn finish(&mut self, handle: usize) -> (Result<(), Refused>, Cookie) {
        let pending = std::mem::take(&mut self.handles[handle].pending);
        let done = match self.handles[handle].intent.take() {
            Some(Intent::Cycle) => {
                // Another request's rotation has the only say.
                let _ = self.rotate(handle, Intent::Cycle, &pending);
                Ok(())
            }
            Some(intent) => self.rotate(handle, intent, &pending),
            None if pending.writes() => {
                let _ = self.send(handle, &pending);
                Ok(())
            }
            None => {
                self.touch_later(handle);
                Ok(())
            }
        };
        let handle = &mut self.handles[handle];
        handle.pending = Pending::default();
        handle.is_answered = true;
        (done, std::mem::take(&mut handle.cookie))
    }

    /// Returns the session that a token opens now.
    pub fn opens(&self, token: Token) -> bool {
        self.is_live(token.session) && self.sessions[token.session].secret == token.secret
    }

    /// Returns the allowed results of a wait for the end that begins now.
    pub fn end(&mut self, handle: usize) -> End {
        self.load(handle);
        match &self.handles[handle].view {
            View::Live(live) => self.end_of(live.standing()),
            View::Over => End::Of(vec![EndReason::Logout]),
            View::Gone(reasons) => End::Of(reasons.clone()),
            View::Superseded => End::Of(vec![EndReason::Superseded]),
            View::Absent | View::Unread => End::NoSession,
        }
    }

    /// The same of a wait that began when the request arrived, if one did.
    pub fn end_of_wait(&self, handle: usize) -> Option<End> {
        self.handles[handle].waits_for.map(|standing| self.end_of(standing))
    }

    /// The session that a handle knows as its own.
    pub fn session_of(&self, handle: usize) -> Option<usize> {
        self.live(handle).map(|live| live.token.session)
    }

    fn load(&mut self, handle: usize) {
        if !matches!(self.handles[handle].view, View::Unread) {
            return;
        }
        let view = match self.handles[handle].token {
            Some(token) if self.opens(token) => View::Live(self.loaded(token)),
            Some(token) if self.was_just_replaced(token) => View::Superseded,
            _ => View::Absent,
        };
        self.handles[handle].view = view;
    }

    fn look(&mut self, handle: usize) -> Answer {
        self.load(handle);
        let seen = KEYS.iter().filter_map(|key| Some((*key, self.seen(handle, key)?)));
        Answer::Saw(self.user(handle), seen.collect())
    }

    fn insert(&mut self, handle: usize, key: Key, value: i64) -> Result<Answer, Refused> {
        self.check_unanswered(handle)?;
        self.handles[handle].pending.puts.insert(key, value);
        Ok(Answer::Done)
    }

    fn increment(&mut self, handle: usize, key: Key) -> Result<Answer, Refused> {
        let pending = self.handles[handle].pending.clone();
        self.send_with(handle, pending, |base| Some((key, base.get(key).unwrap_or(&0) + 1)))
            .map(|values| Answer::Value(values[key]))
    }

    fn update(&mut self, handle: usize, key: Key) -> Result<Answer, Refused> {
        self.load(handle);
        let pending = self.handles[handle].pending.clone();
        if let (Some(session), false) = (self.reached(handle), pending.covers(key)) {
            let values = self.sessions[session].values.clone();
            let live = self.live_mut(handle).expect("it reaches its session");
            // A conflict has it load the session again.
            if live.values.get(key) != values.get(key) {
                live.values = values;
            }
        }
        self.send_with(handle, pending, |base| Some((key, base.get(key).unwrap_or(&0) + 1)))
            .map(|values| Answer::Value(values[key]))
    }

    fn pop(&mut self, handle: usize, key: Key) -> Result<Answer, Refused> {
        self.load(handle);
        self.check_current(handle)?;
        let mut pending = self.handles[handle].pending.clone();
        if let (Some(session), false) = (self.reached(handle), pending.covers(key)) {
            let (seen, stored) = (self.seen(handle, key), self.sessions[session].values.get(key));
            // A conflict has it load the session again.
            if seen.is_some() && seen.as_ref() != stored {
                self.refresh(handle)?;
            }
        }
        let taken = self.seen(handle, key);
        if taken.is_some() {
            pending.puts.remove(key);
            pending.removes.insert(key);
            self.send(handle, &pending)?;
        }
        Ok(Answer::Taken(taken))
    }

    fn save(&mut self, handle: usize) -> Result<Answer, Refused> {
        let pending = self.handles[handle].pending.clone();
        if pending.writes() {
            self.send(handle, &pending)?;
        } else {
            self.check_current(handle)?;
        }
        Ok(Answer::Done)
    }

    fn touch(&mut self, handle: usize) -> Result<Answer, Refused> {
        self.load(handle);
        self.check_current(handle)?;
        let live = self.live(handle).ok_or(Refused::NoSession)?;
        if !self.is_due(live) {
            return Ok(Answer::Done);
        }
        let session = self.reach(handle)?;
        self.use_session(session);
        let deadline = self.sessions[session].deadline;
        self.live_mut(handle).expect("it was reached").deadline = deadline;
        Ok(Answer::Done)
    }

    fn intend(&mut self, handle: usize, intent: Intent) -> Result<Answer, Refused> {
        self.check_unanswered(handle)?;
        self.load(handle);
        match intent {
            Intent::Elevate | Intent::Reauthenticate => {
                self.check_current(handle)?;
                self.user(handle).ok_or(Refused::NotSignedIn)?;
            }
            Intent::Login(who) if self.user(handle).is_some_and(|known| known != who) => {
                self.handles[handle].pending = Pending { clear: true, ..Pending::default() };
            }
            Intent::Login(_) | Intent::Cycle => {}
        }
        let known = &mut self.handles[handle].intent;
        if known.is_none_or(|known| known.rank() <= intent.rank()) {
            *known = Some(intent);
        }
        Ok(Answer::Done)
    }

    fn log_out(&mut self, handle: usize) -> Result<Answer, Refused> {
        self.load(handle);
        if matches!(self.handles[handle].view, View::Superseded) {
            return Err(Refused::Superseded);
        }
        self.end_own(handle).map(|_| Answer::Done)
    }

    fn end_all(&mut self, handle: usize) -> Result<Answer, Refused> {
        self.refresh(handle)?;
        let user = self.user(handle).ok_or(Refused::NotSignedIn)?;
        let own = self.live(handle).map(|live| live.token.session);
        let others = self.sessions_of(user).into_iter().filter(|session| Some(*session) != own);
        let mut ended = 0;
        for session in others.collect::<Vec<_>>() {
            self.sessions[session].is_ended = true;
            ended += 1;
        }
        Ok(Answer::Ended(ended + u64::from(self.end_own(handle)?)))
    }

    fn list(&mut self, handle: usize) -> Result<Answer, Refused> {
        self.load(handle);
        self.check_current(handle)?;
        let user = self.user(handle).ok_or(Refused::NotSignedIn)?;
        let own = self.live(handle).filter(|live| live.user == Some(user));
        // A list that cannot hold the handle's own session says that the handle is out of date.
        if own.is_some_and(|live| self.reachable(live).is_err()) {
            self.refresh(handle)?;
        }
        Ok(Answer::Listed(self.sessions_of(user)))
    }

    /// Sees the session as it is now.
    fn refresh(&mut self, handle: usize) -> Result<(), Refused> {
        self.load(handle);
        if self.live(handle).is_some() {
            let session = self.reach(handle)?;
            let now = &self.sessions[session];
            let (user, values, deadline) = (now.user, now.values.clone(), now.deadline);
            let live = self.live_mut(handle).expect("it was reached");
            *live = Live { user, values, deadline, ..*live };
        }
        self.check_current(handle)
    }

    /// Ends the handle's own session, and says whether it was live.
    fn end_own(&mut self, handle: usize) -> Result<bool, Refused> {
        (self.handles[handle].pending, self.handles[handle].intent) = Default::default();
        let Some(session) = self.live(handle).map(|live| live.token.session) else {
            return Ok(false);
        };
        let was_live = match self.reach(handle) {
            Err(Refused::Superseded) => return Err(Refused::Superseded),
            reached => reached.is_ok(),
        };
        let ended = &mut self.sessions[session];
        ended.is_ended |= was_live;
        let handle = &mut self.handles[handle];
        handle.view = View::Over;
        let was_presented = handle.token.is_some_and(|token| token.session == session);
        handle.cookie = match was_live && was_presented {
            true => Cookie::Remove,
            false => Cookie::Keep,
        };
        Ok(was_live)
    }

    fn rotate(&mut self, handle: usize, intent: Intent, pending: &Pending) -> Result<(), Refused> {
        let Some(live) = self.live(handle) else {
            return self.rotate_nothing(handle, intent, pending);
        };
        let (token, reachable) = (live.token, self.reachable(live));
        match (self.opens(token), reachable) {
            (true, Ok(session)) => {
                self.replace_secret(handle, session, intent, pending);
                Ok(())
            }
            // Another request was first.
            _ if intent == Intent::Cycle && pending.writes() => {
                self.send(handle, pending).map(drop)
            }
            _ if intent == Intent::Cycle => Ok(()),
            (false, _) if self.was_just_replaced(token) => {
                self.handles[handle].view = View::Superseded;
                self.rotate_nothing(handle, intent, pending)
            }
            (true, Err(Refused::Superseded)) => {
                self.handles[handle].view = View::Superseded;
                self.rotate_nothing(handle, intent, pending)
            }
            _ => {
                let mut reasons = self.reasons(token.session);
                if reasons.is_empty() {
                    // It lives on under a secret that this handle does not know.
                    reasons.push(EndReason::Logout);
                }
                self.handles[handle].view = View::Gone(reasons);
                self.rotate_nothing(handle, intent, pending)
            }
        }
    }

    fn replace_secret(&mut self, handle: usize, session: usize, intent: Intent, pending: &Pending) {
        self.write(handle, session, pending, None);
        let secret = self.fresh_secret();
        let now = &mut self.sessions[session];
        now.replaced = Some((now.secret, self.now + REPLACED_KEPT));
        now.secret = secret;
        if let Intent::Login(who) = intent
            && now.user != Some(who)
        {
            now.user = Some(who);
            now.sign_in += 1;
        }
        let (user, sign_in, token) = (now.user, now.sign_in, Token { session, secret });
        let live = self.live_mut(handle).expect("it rotates its session");
        (live.user, live.sign_in, live.token) = (user, sign_in, token);
        self.handles[handle].cookie = Cookie::Set(token);
    }

    /// A rotation where the handle has no session: a login begins one.
    fn rotate_nothing(
        &mut self,
        handle: usize,
        intent: Intent,
        pending: &Pending,
    ) -> Result<(), Refused> {
        match intent {
            Intent::Login(who) => {
                self.create(handle, pending.puts.clone(), Some(who));
                Ok(())
            }
            Intent::Cycle => self.send(handle, pending).map(drop),
            Intent::Elevate | Intent::Reauthenticate => {
                self.check_current(handle)?;
                Err(Refused::NotSignedIn)
            }
        }
    }

    fn send(&mut self, handle: usize, pending: &Pending) -> Result<Values, Refused> {
        self.send_with(handle, pending.clone(), |_| None)
    }

    /// Writes what is pending, and a value that depends on what it is written over. Returns the values
    /// of the session afterwards.
    fn send_with(
        &mut self,
        handle: usize,
        pending: Pending,
        more: impl Fn(&Values) -> Option<(Key, i64)>,
    ) -> Result<Values, Refused> {
        if matches!(self.handles[handle].view, View::Unread) {
            match self.handles[handle].token {
                // A write that has seen nothing needs the secret alone.
                Some(token) if self.opens(token) => {
                    let more = more(&pending.over(&self.sessions[token.session].values));
                    self.write(handle, token.session, &pending, more);
                    self.handles[handle].pending = Pending::default();
                    return Ok(self.sessions[token.session].values.clone());
                }
                _ => self.load(handle),
            }
        }
        self.check_current(handle)?;
        if self.live(handle).is_some() {
            let session = self.reach(handle)?;
            let more = more(&pending.over(&self.sessions[session].values));
            self.write(handle, session, &pending, more);
            self.handles[handle].pending = Pending::default();
            return Ok(self.sessions[session].values.clone());
        }
        let mut values = pending.puts;
        values.extend(more(&values));
        if values.is_empty() {
            self.handles[handle].pending = Pending::default();
            return Ok(values);
        }
        self.check_unanswered(handle)?;
        self.create(handle, values.clone(), None);
        Ok(values)
    }

    fn write(
        &mut self,
        handle: usize,
        session: usize,
        pending: &Pending,
        more: Option<(Key, i64)>,
    ) {
        let change = |values: &mut Values| {
            *values = pending.over(values);
            values.extend(more);
        };
        change(&mut self.sessions[session].values);
        self.use_session(session);
        let deadline = self.now + IDLE;
        if let Some(live) = self.live_mut(handle) {
            change(&mut live.values);
            live.deadline = live.deadline.max(deadline);
        }
    }

    fn create(&mut self, handle: usize, values: Values, user: Option<Who>) {
        let (secret, session) = (self.fresh_secret(), self.sessions.len());
        self.sessions.push(Session {
            secret,
            replaced: None,
            sign_in: 0,
            user,
            values,
            deadline: self.now + IDLE,
            is_ended: false,
        });
        let token = Token { session, secret };
        let view = View::Live(self.loaded(token));
        let handle = &mut self.handles[handle];
        handle.pending = Pending::default();
        handle.view = view;
        handle.cookie = Cookie::Set(token);
    }

    fn touch_later(&mut self, handle: usize) {
        let Some(live) = self.live(handle).filter(|live| self.is_due(live)) else { return };
        if let Ok(session) = self.reachable(live) {
            self.use_session(session);
        }
    }

    /// The session that a live handle may write to, or why it may not from now on.
    fn reach(&mut self, handle: usize) -> Result<usize, Refused> {
        let live = self.live(handle).expect("the handle is live");
        let reachable = self.reachable(live);
        match reachable {
            Ok(_) => {}
            Err(Refused::Superseded) => self.handles[handle].view = View::Superseded,
            Err(_) => {
                let reasons = self.reasons(live.token.session);
                self.handles[handle].view = View::Gone(reasons);
            }
        }
        reachable
    }

    fn reached(&self, handle: usize) -> Option<usize> {
        self.live(handle).and_then(|live| self.reachable(live).ok())
    }

    fn reachable(&self, live: &Live) -> Result<usize, Refused> {
        let session = live.token.session;
        if !self.is_live(session) {
            return Err(Refused::Ended);
        }
        match self.sessions[session].sign_in == live.sign_in {
            true => Ok(session),
            false => Err(Refused::Superseded),
        }
    }

    fn check_current(&self, handle: usize) -> Result<(), Refused> {
        match self.handles[handle].view {
            View::Superseded => Err(Refused::Superseded),
            View::Gone(_) => Err(Refused::Ended),
            _ => Ok(()),
        }
    }

    fn check_unanswered(&self, handle: usize) -> Result<(), Refused> {
        if self.handles[handle].is_answered { Err(Refused::TooLate) } else { Ok(()) }
    }

    fn end_of(&self, (session, sign_in): (usize, u64)) -> End {
        let now = &self.sessions[session];
        let mut reasons = Vec::new();
        if now.sign_in != sign_in {
            reasons.push(EndReason::Superseded);
        }
        reasons.extend(self.reasons(session));
        if reasons.is_empty() { End::NotYet } else { End::Of(reasons) }
    }

    /// Returns the reason for which a session is over; `None` if it lives.
    fn reasons(&self, session: usize) -> Vec<EndReason> {
        let now = &self.sessions[session];
        if now.is_ended {
            vec![EndReason::Logout]
        } else if self.now >= now.deadline {
            // A store may have forgotten it by now.
            vec![EndReason::Expired, EndReason::Logout]
        } else {
            Vec::new()
        }
    }

    fn loaded(&self, token: Token) -> Live {
        let Session { sign_in, user, ref values, deadline, .. } = self.sessions[token.session];
        Live { token, sign_in, user, values: values.clone(), deadline }
    }

    fn seen(&self, handle: usize, key: Key) -> Option<i64> {
        let pending = &self.handles[handle].pending;
        match pending.covers(key) {
            true => pending.puts.get(key).copied(),
            false => self.live(handle)?.values.get(key).copied(),
        }
    }

    fn user(&self, handle: usize) -> Option<Who> {
        match self.handles[handle].intent {
            Some(Intent::Login(who)) => Some(who),
            _ => self.live(handle)?.user,
        }
    }

    fn sessions_of(&self, user: Who) -> BTreeSet<usize> {
        let is_of =
            |session: &usize| self.is_live(*session) && self.sessions[*session].user == Some(user);
        (0..self.sessions.len()).filter(is_of).collect()
    }

    fn is_live(&self, session: usize) -> bool {
        let session = &self.sessions[session];
        !session.is_ended && self.now < session.deadline
    }

    fn was_just_replaced(&self, token: Token) -> bool {
        let replaced = self.sessions[token.session].replaced;
        self.is_live(token.session)
            && replaced.is_some_and(|(secret, until)| secret == token.secret && self.now < until)
    }

    fn is_due(&self, live: &Live) -> bool {
        self.now + IDLE - live.deadline >= IDLE / 20
    }

    fn use_session(&mut self, session: usize) {
        let session = &mut self.sessions[session];
        session.deadline = session.deadline.max(self.now + IDLE);
    }

    fn live(&self, handle: usize) -> Option<&Live> {
        match &self.handles[handle].view {
            View::Live(live) => Some(live),
            _ => None,
        }
    }

    fn live_mut(&mut self, handle: usize) -> Option<&mut Live> {
        match &mut self.handles[handle].view {
            View::Live(live) => Some(live),
            _ => None,
        }
    }

    fn fresh_secret(&mut self) -> usize {
        self.secrets += 1;
        self.secrets
    }
}

impl Live {
    fn standing(&self) -> (usize, u64) {
        (self.token.session, self.sign_in)
    }
}

impl Pending {
    fn writes(&self) -> bool {
        self.clear || !self.puts.is_empty() || !self.removes.is_empty()
    }

    fn covers(&self, key: &str) -> bool {
        self.clear || self.puts.contains_key(key) || self.removes.contains(key)
    }

    fn over(&self, values: &Values) -> Values {
        let mut over = if self.clear { Values::new() } else { values.clone() };
        over.extend(&self.puts);
        over.retain(|key, _| !self.removes.contains(key));
        over
    }
}

impl Intent {
    fn rank(self) -> u8 {
        match self {
            Self::Cycle => 0,
            Self::Elevate => 1,
            Self::Reauthenticate => 2,
            Self::Login(_) => 3,
        }
    }
}

/// The idle lifetime of a session, in milliseconds.
const IDLE: u64 = crate::steps::IDLE * 1_000;

/// The time for which a replaced secret is distinguished from an unknown one, in milliseconds.
const REPLACED_KEPT: u64 = 60_000;
