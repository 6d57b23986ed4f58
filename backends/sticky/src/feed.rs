//! The change feed of the backup, and whether it can be trusted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use steadfast_core::{Change, ChangeStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A reader of the backup's change feed.
///
/// All pending news is read before a copy is served, and by a background task in between. Only a
/// [complete](ChangeStream::is_complete) feed replaces checks of the copies. Any other feed does not
/// report changes by people and servers: its news is used, but its silence proves nothing.
#[derive(Debug)]
pub(crate) struct Feed {
    /// `None` if the feed is not followed.
    bell: Option<Arc<Bell>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stream: Option<ChangeStream>,
    /// The time since which the stream reports everything it can.
    told_since: Option<Instant>,
    /// True until the stream reports its first change.
    is_silent: bool,
    gaps: u64,
}

/// Wakes the background task when the feed has news.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

/// Waits until the bell rings, at most this long.
pub(crate) async fn rung(bell: Option<Arc<Bell>>, at_most: Duration) {
    match bell {
        Some(bell) => drop(tokio::time::timeout(at_most, bell.0.notified()).await),
        None => tokio::time::sleep(at_most).await,
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Feed {
    pub(crate) fn new(is_followed: bool) -> Self {
        Self { bell: is_followed.then(Arc::default), state: Mutex::default() }
    }

    /// Opens the feed, unless it is open.
    pub(crate) fn open(&self, changes: impl FnOnce() -> Option<ChangeStream>) {
        let mut state = self.lock();
        if self.bell.is_some() && state.stream.is_none() {
            let now = Instant::now();
            state.stream = changes();
            state.told_since = state.stream.is_some().then_some(now);
            state.is_silent = true;
        }
    }

    /// Reads all available news. Returns the time since which nothing can have been missed, if that
    /// is certain.
    pub(crate) fn catch_up(&self, now: Instant, mut heard: impl FnMut(Change)) -> Option<Instant> {
        let waker = Waker::from(Arc::clone(self.bell.as_ref()?));
        let mut state = self.lock();
        while let Some(change) = state.next(&waker) {
            state.note(change, now);
            heard(change);
        }
        state.told_since.filter(|_| state.stream.as_ref().is_some_and(ChangeStream::is_complete))
    }

    /// Returns true if the backup reports changes now.
    pub(crate) fn is_up(&self) -> bool {
        self.lock().told_since.is_some()
    }

    /// Takes the number of gaps since the last call: times at which changes may have been missed.
    pub(crate) fn take_gaps(&self) -> u64 {
        std::mem::take(&mut self.lock().gaps)
    }

    /// Returns the bell, so that a caller can wait without locking the feed.
    pub(crate) fn bell(&self) -> Option<Arc<Bell>> {
        self.bell.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the next available change. Every caller registers the same waker, because only the
    /// last registered one is woken. The poll is unconstrained: Tokio's budget would otherwise make
    /// a busy task see the feed as empty while it has news.
    fn next(&mut self, waker: &Waker) -> Option<Change> {
        let stream = self.stream.as_mut()?;
        let next = tokio::task::unconstrained(stream.next());
        let polled = std::pin::pin!(next).poll(&mut Context::from_waker(waker));
        match polled {
            Poll::Ready(None) => {
                self.stream = None;
                self.cut();
                None
            }
            Poll::Ready(change) => change,
            Poll::Pending => None,
        }
    }

    fn note(&mut self, change: Change, now: Instant) {
        let is_first = std::mem::take(&mut self.is_silent);
        match change {
            // The stream has not connected yet. This is not a gap.
            Change::Down if is_first => self.told_since = None,
            Change::Down => self.cut(),
            Change::Missed => {
                self.cut();
                self.told_since = Some(now);
            }
            Change::Patched(..) | Change::SignedIn(..) | Change::Ended(..) => {}
        }
    }

    fn cut(&mut self) {
        self.gaps += u64::from(self.told_since.take().is_some());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use steadfast_core::{EndReason, RecordId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_complete_feed_is_trusted_when_it_opens() {
        let feed = feed();
        let start = Instant::now();
        open(&feed, [Poll::Pending, CHANGE, Poll::Pending, Poll::Pending]);
        assert_eq!(listen(&feed), (Some(start), 0));
        assert_eq!(listen(&feed), (Some(start), 1));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(listen(&feed), (Some(start), 0), "its silence says that nothing changed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_incomplete_feed_is_heard_and_never_trusted() {
        let feed = feed();
        feed.open(|| Some(ChangeStream::new(stream::iter([CHANGED, CHANGED]))));
        assert_eq!(listen(&feed), (None, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_is_trusted_again_after_gaps() {
        let feed = feed();
        open(&feed, [CHANGE, Poll::Ready(Change::Missed), Poll::Pending]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(listen(&feed).0, Some(Instant::now()));
        assert_eq!(feed.take_gaps(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_is_trusted_again_once_back() {
        let feed = feed();
        let (down, missed) = (Poll::Ready(Change::Down), Poll::Ready(Change::Missed));
        open(&feed, [CHANGE, down, Poll::Pending, CHANGE, Poll::Pending, missed, Poll::Pending]);
        assert_eq!((listen(&feed).0, feed.is_up()), (None, false));
        assert_eq!(listen(&feed).0, None, "a change does not say that others were told");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((listen(&feed).0, feed.is_up()), (Some(Instant::now()), true));
        assert_eq!(feed.take_gaps(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_begins_down_has_no_gap() {
        let feed = feed();
        open(&feed, [Poll::Ready(Change::Down), Poll::Pending]);
        assert_eq!((listen(&feed).0, feed.is_up(), feed.take_gaps()), (None, false, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_ended_is_opened_again() {
        let feed = feed();
        open(&feed, [CHANGE]);
        assert_eq!((listen(&feed), feed.is_up()), ((None, 1), false));
        open(&feed, [CHANGE, Poll::Pending]);
        assert_eq!(listen(&feed).0, Some(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_all_are_rung() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let feed = feed();
        let next = async |mut receiver: tokio::sync::mpsc::UnboundedReceiver<Change>| {
            receiver.recv().await.map(|change| (change, receiver))
        };
        feed.open(|| Some(ChangeStream::complete(stream::unfold(receiver, next))));
        listen(&feed);
        sender.send(CHANGED).unwrap();
        let start = Instant::now();
        rung(feed.bell(), Duration::from_secs(1)).await;
        assert_eq!((Instant::now(), listen(&feed).1), (start, 1));
    }

    fn feed() -> Feed {
        Feed::new(true)
    }

    fn open(feed: &Feed, says: impl Into<Vec<Poll<Change>>>) {
        let mut says = says.into().into_iter();
        let next = move |_: &mut Context<'_>| match says.next() {
            Some(said) => said.map(Some),
            None => Poll::Ready(None),
        };
        feed.open(|| Some(ChangeStream::complete(stream::poll_fn(next))));
    }

    fn listen(feed: &Feed) -> (Option<Instant>, u32) {
        let mut heard = 0;
        (feed.catch_up(Instant::now(), |_| heard += 1), heard)
    }

    const CHANGED: Change = Change::Ended(RecordId::from_bytes([7; 16]), EndReason::Logout);
    const CHANGE: Poll<Change> = Poll::Ready(CHANGED);
}
