//! The nodes that this one is linked to, or heard from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::{Hello, Refusal};
use crate::epoch::EpochId;
use crate::member::Boot;

/// Knowledge about other nodes, members or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<Boot, Peer>,
    /// The number of frames sent through relays: each frame takes the next relay.
    relayed: usize,
}

/// Knowledge about one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    hello: Option<Hello>,
    /// The time when it sent that.
    said: Option<Duration>,
    epoch: Option<EpochId>,
    /// The time when anything was last received from it.
    heard: Option<Duration>,
    is_linked: bool,
    /// True if it was heard since the link began.
    is_met: bool,
    /// The times when it was last greeted, asked for its epoch, and sent an epoch.
    done: [Option<Duration>; 3],
    /// The epoch that it sent last.
    compared: Option<EpochId>,
    /// The reason why it was last not admitted.
    refusal: Option<Refusal>,
}

/// The kinds of messages that are rate-limited for each peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Courtesy {
    /// This node's greeting.
    Greet,
    /// A request for its epoch.
    Fetch,
    /// This node's epoch.
    Tell,
}

impl Peer {
    /// Returns its last greeting.
    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Returns true if it reported within the last second that it has no majority.
    pub(super) fn is_lost(&self, now: Duration) -> bool {
        let is_fresh = self.said.is_some_and(|at| now.saturating_sub(at) <= RECENT);
        is_fresh && self.hello.as_ref().is_some_and(|hello| hello.is_lost)
    }

    /// The epoch that its last frame named.
    pub(super) fn epoch(&self) -> Option<EpochId> {
        self.epoch
    }

    pub(super) fn is_linked(&self) -> bool {
        self.is_linked
    }

    /// Returns true if a frame of it arrived within the last second.
    pub(super) fn is_heard(&self, now: Duration) -> bool {
        self.heard.is_some_and(|at| now.saturating_sub(at) <= RECENT)
    }
}

impl Peers {
    /// Notes a new link.
    pub(super) fn link(&mut self, hello: Hello) {
        let peer = self.known.entry(hello.member.boot).or_default();
        (peer.is_linked, peer.is_met, peer.done) = (true, false, [None; 3]);
        peer.hello = Some(hello);
    }

    /// Notes that a link ended.
    pub(super) fn unlink(&mut self, boot: Boot) {
        if let Some(peer) = self.known.get_mut(&boot) {
            (peer.is_linked, peer.heard) = (false, None);
        }
    }

    /// Notes a frame.
    pub(super) fn on_frame(&mut self, from: Boot, epoch: Option<EpochId>, now: Duration) {
        let peer = self.known.entry(from).or_default();
        (peer.heard, peer.epoch, peer.is_met) = (Some(now), epoch, true);
    }

    /// Notes what a node said of itself.
    pub(super) fn on_hello(&mut self, hello: Hello, now: Duration) {
        let peer = self.known.entry(hello.member.boot).or_default();
        (peer.hello, peer.said) = (Some(hello), Some(now));
    }

    /// Returns true if the epoch that a peer names has not been compared with this node's yet, and
    /// notes that it has.
    pub(super) fn compare(&mut self, boot: Boot, epoch: EpochId) {
        self.known.entry(boot).or_default().compared = Some(epoch);
    }

    pub(super) fn is_compared(&self, boot: Boot, epoch: EpochId) -> bool {
        self.known.get(&boot).is_some_and(|peer| peer.compared == Some(epoch))
    }

    /// Another epoch of this node makes all comparisons void.
    pub(super) fn forget_comparisons(&mut self) {
        self.known.values_mut().for_each(|peer| peer.compared = None);
    }

    /// Returns true if a message of this kind may be sent to a peer again, and notes that it was.
    pub(super) fn may(&mut self, courtesy: Courtesy, boot: Boot, now: Duration) -> bool {
        let peer = self.known.entry(boot).or_default();
        let at = &mut peer.done[courtesy as usize];
        let is_due = at.is_none_or(|at| now.saturating_sub(at) >= AGAIN);
        if is_due {
            *at = Some(now);
        }
        is_due
    }

    /// The linked peers that are to be greeted: those not heard since the link began, those that are in
    /// another lineage, and all of them if this node has no epoch that counts.
    pub(super) fn due_greetings(&mut self, own: Option<EpochId>, now: Duration) -> Vec<Boot> {
        let is_apart = |peer: &Peer| {
            let both = own.zip(peer.epoch);
            both.is_some_and(|(own, theirs)| own.lineage != theirs.lineage)
        };
        let is_due = |(_, peer): &(&Boot, &Peer)| {
            peer.is_linked && (own.is_none() || !peer.is_met || is_apart(peer))
        };
        let boots: Vec<_> = self.known.iter().filter(is_due).map(|(boot, _)| *boot).collect();
        boots.into_iter().filter(|boot| self.may(Courtesy::Greet, *boot, now)).collect()
    }

    /// Notes why a node is not admitted; says whether that is news.
    pub(super) fn is_news(&mut self, boot: Boot, refusal: &Refusal) -> bool {
        let peer = self.known.entry(boot).or_default();
        peer.refusal.replace(refusal.clone()).as_ref() != Some(refusal)
    }

    /// Returns up to the given number of linked peers that may reach a boot, different ones each
    /// time.
    pub(super) fn relays(
        &mut self,
        to: Boot,
        count: usize,
        is_trusted: impl Fn(Boot) -> bool,
    ) -> Vec<Boot> {
        let linked = self.known.iter().filter(|(_, peer)| peer.is_linked).map(|(boot, _)| *boot);
        let all: Vec<_> = linked.filter(|boot| *boot != to && is_trusted(*boot)).collect();
        self.relayed = self.relayed.wrapping_add(1);
        let first = self.relayed.checked_rem(all.len()).unwrap_or_default();
        all.iter().cycle().skip(first).take(count.min(all.len())).copied().collect()
    }

    pub(super) fn get(&self, boot: Boot) -> Option<&Peer> {
        self.known.get(&boot)
    }

    pub(super) fn is_linked(&self, boot: Boot) -> bool {
        self.get(boot).is_some_and(Peer::is_linked)
    }

    pub(super) fn is_heard(&self, boot: Boot, now: Duration) -> bool {
        self.get(boot).is_some_and(|peer| peer.is_heard(now))
    }

    /// All peers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Boot, &Peer)> {
        self.known.iter().map(|(boot, peer)| (*boot, peer))
    }

    /// Forgets peers without a link that were not heard for a while.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.known.retain(|_, peer| peer.is_linked || peer.is_heard(now));
    }
}

/// The time for which a frame proves that its sender is alive.
const RECENT: Duration = Duration::from_secs(1);

/// The interval at which a message to a peer is repeated.
const AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::epoch::Lineage;
    use crate::epoch::tests::{boot, grown, joining};

    #[test]
    fn a_peer_is_greeted_until_it_is_heard() {
        let (mut peers, own) = (linked(&[1, 2]), Some(grown(2).id()));
        assert_eq!(peers.due_greetings(own, ms(0)), [boot(1), boot(2)]);
        assert!(peers.due_greetings(own, ms(99)).is_empty());
        peers.on_frame(boot(1), own, ms(99));
        assert_eq!(peers.due_greetings(own, ms(100)), [boot(2)]);
        assert_eq!(peers.due_greetings(None, ms(200)), [boot(1), boot(2)]);
        let lineage = Lineage::new([3; 16]);
        peers.on_frame(boot(2), own, ms(200));
        assert!(peers.due_greetings(own, ms(300)).is_empty());
        peers.on_frame(boot(2), Some(EpochId { lineage, number: 1 }), ms(300));
        assert_eq!(peers.due_greetings(own, ms(300)), [boot(2)], "it is in another lineage");
    }

    #[test]
    fn a_loss_has_to_be_said_again() {
        let mut peers = linked(&[1]);
        let is_lost = |peers: &Peers, now| peers.get(boot(1)).unwrap().is_lost(ms(now));
        peers.on_hello(Hello { is_lost: true, ..hello(1) }, ms(0));
        assert!(is_lost(&peers, 1_000) && !is_lost(&peers, 1_001));
        peers.on_hello(hello(1), ms(1_000));
        assert!(!is_lost(&peers, 1_000));
    }

    #[test]
    fn relays_take_turns() {
        let mut peers = linked(&[1, 2, 3]);
        let all = |_| true;
        let first = peers.relays(boot(3), 1, all);
        let second = peers.relays(boot(3), 1, all);
        assert!(first != second && !first.contains(&boot(3)) && !second.contains(&boot(3)));
        assert_eq!(peers.relays(boot(9), 2, |relay| relay != boot(1)).len(), 2);
        peers.unlink(boot(2));
        assert_eq!(peers.relays(boot(3), 2, all), [boot(1)]);
    }

    #[test]
    fn a_peer_without_a_link_is_forgotten() {
        let mut peers = linked(&[1]);
        peers.on_frame(boot(2), None, ms(0));
        peers.tidy(ms(1_000));
        assert_eq!(peers.iter().count(), 2);
        peers.tidy(ms(1_001));
        assert!(peers.is_linked(boot(1)) && !peers.is_heard(boot(2), ms(1_001)));
        assert_eq!(peers.iter().count(), 1);
    }

    #[test]
    fn an_epoch_is_compared_once() {
        let (mut peers, id) = (linked(&[1]), grown(2).id());
        peers.compare(boot(1), id);
        assert!(peers.is_compared(boot(1), id) && !peers.is_compared(boot(1), grown(3).id()));
        peers.forget_comparisons();
        assert!(!peers.is_compared(boot(1), id));
    }

    pub(in super::super) fn linked(numbers: &[usize]) -> Peers {
        let mut peers = Peers::default();
        numbers.iter().for_each(|n| peers.link(hello(*n)));
        peers
    }

    pub(in super::super) fn hello(n: usize) -> Hello {
        let member = joining(n);
        let lowest = (member.name.clone(), member.boot);
        Hello { member, listed_in: None, in_sight: None, lowest, is_waiting: false, is_lost: false }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
