//! The change feed of the backup: whether it can be trusted, and what it says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use steadfast_core::{Change, ChangeStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What the backup says of changes, and since when without a gap.
///
/// It is read to its end before a copy is served, and by a task in between. Silence proves nothing: the
/// feed is alive while its last change is at most `recheck` ago. So what it does not tell, because it was
/// cut, or because this process stood still, is served for no longer than what nobody tells at all.
#[derive(Debug)]
pub(crate) struct Feed {
    recheck: Duration,
    /// `None` if the feed is not to be followed.
    bell: Option<Arc<Bell>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stream: Option<ChangeStream>,
    /// Since when nothing was missed, and when the last change came.
    alive: Option<(Instant, Instant)>,
}

/// Rung when the feed has something to say.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

/// Waits until a bell rings, at most this long.
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
    pub(crate) fn new(recheck: Duration, is_followed: bool) -> Self {
        let state = State { stream: None, alive: None };
        Self { recheck, bell: is_followed.then(Arc::default), state: Mutex::new(state) }
    }

    /// Opens the feed, unless it is open.
    pub(crate) fn open(&self, changes: impl FnOnce() -> Option<ChangeStream>) {
        let mut state = self.lock();
        if self.bell.is_some() && state.stream.is_none() {
            state.stream = changes();
        }
    }

    /// Hears all that there is to hear, and says since when nothing was missed.
    pub(crate) fn catch_up(&self, now: Instant, mut heard: impl FnMut(Change)) -> Option<Instant> {
        let waker = Waker::from(Arc::clone(self.bell.as_ref()?));
        let mut state = self.lock();
        state.expire(now, self.recheck);
        while let Some(change) = state.next(&waker) {
            state.alive = match (change, state.alive) {
                (Change::Missed | Change::Down, _) => None,
                (_, Some((since, _))) => Some((since, now)),
                (_, None) => Some((now, now)),
            };
            heard(change);
        }
        state.alive.map(|(since, _)| since)
    }

    /// What rings when there is something to hear; to be waited for without holding the feed.
    pub(crate) fn bell(&self) -> Option<Arc<Bell>> {
        self.bell.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next change that is there. Every look leaves the same waker, whoever looks; and none is cut
    /// short because the task that looks has had its share of the processor.
    fn next(&mut self, waker: &Waker) -> Option<Change> {
        let stream = self.stream.as_mut()?;
        let next = tokio::task::unconstrained(stream.next());
        let polled = std::pin::pin!(next).poll(&mut Context::from_waker(waker));
        if polled == Poll::Ready(None) {
            (self.stream, self.alive) = (None, None);
        }
        match polled {
            Poll::Ready(change) => change,
            Poll::Pending => None,
        }
    }

    fn expire(&mut self, now: Instant, after: Duration) {
        self.alive = self.alive.filter(|(_, heard)| now.duration_since(*heard) <= after);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use steadfast_core::{EndReason, RecordId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_feed_is_trusted_from_a_change_on_while_more_come() {
        let feed = feed();
        open(
            &feed,
            [[Poll::Pending, CHANGE], [Poll::Pending, CHANGE], [Poll::Pending; 2]].concat(),
        );
        assert_eq!(listen(&feed), (None, 0));
        let start = Instant::now();
        assert_eq!(listen(&feed), (Some(start), 1));
        tokio::time::advance(RECHECK).await;
        assert_eq!(listen(&feed), (Some(start), 1));
        tokio::time::advance(RECHECK + Duration::from_millis(1)).await;
        assert_eq!(listen(&feed), (None, 0), "silence proves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_gap_it_is_trusted_from_the_next_change_on() {
        let feed = feed();
        open(
            &feed,
            vec![CHANGE, Poll::Ready(Change::Missed), Poll::Pending, CHANGE, Poll::Pending],
        );
        assert_eq!(listen(&feed).0, None);
        tokio::time::advance(RECHECK / 2).await;
        assert_eq!(listen(&feed).0, Some(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_standstill_nothing_of_before_is_trusted() {
        let feed = feed();
        open(&feed, vec![CHANGE, Poll::Pending, CHANGE, Poll::Pending]);
        assert!(listen(&feed).0.is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(listen(&feed), (Some(Instant::now()), 1), "it waited to be heard");
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_ended_is_opened_again() {
        let feed = feed();
        open(&feed, vec![CHANGE]);
        assert_eq!(listen(&feed), (None, 1));
        open(&feed, vec![CHANGE, Poll::Pending]);
        assert_eq!(listen(&feed).0, Some(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_all_are_rung() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let feed = feed();
        let next = async |mut receiver: tokio::sync::mpsc::UnboundedReceiver<Change>| {
            receiver.recv().await.map(|change| (change, receiver))
        };
        feed.open(|| Some(ChangeStream::new(stream::unfold(receiver, next))));
        listen(&feed);
        sender.send(Change::Ended(ID, EndReason::Logout)).unwrap();
        let start = Instant::now();
        rung(feed.bell(), RECHECK).await;
        assert_eq!((Instant::now(), listen(&feed).1), (start, 1));
    }

    fn feed() -> Feed {
        Feed::new(RECHECK, true)
    }

    fn open(feed: &Feed, says: impl Into<Vec<Poll<Change>>>) {
        let mut says = says.into().into_iter();
        let next = move |_: &mut Context<'_>| match says.next() {
            Some(said) => said.map(Some),
            None => Poll::Ready(None),
        };
        feed.open(|| Some(ChangeStream::new(stream::poll_fn(next))));
    }

    fn listen(feed: &Feed) -> (Option<Instant>, u32) {
        let mut heard = 0;
        (feed.catch_up(Instant::now(), |_| heard += 1), heard)
    }

    const RECHECK: Duration = Duration::from_secs(1);
    const ID: RecordId = RecordId::from_bytes([7; 16]);
    const CHANGE: Poll<Change> = Poll::Ready(Change::Ended(ID, EndReason::Logout));
}
