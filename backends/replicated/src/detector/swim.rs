//! SWIM with suspicion, by foca: nodes probe each other, also through third ones, and gossip about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    Config, Foca, Header, Member, NoCustomBroadcast, Notification, PeriodicParams, Runtime, State,
    Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::BEAT;
use super::gossip::{GossipCodec, GossipError, Life};
use steadfast_replication::member::Boot;

/// The detector of one node.
pub(crate) struct Detector {
    foca: Foca<Life, GossipCodec, SmallRng, NoCustomBroadcast>,
    outside: Outside,
    /// Linked nodes, each with the time of the next announcement, if it still needs one.
    linked: BTreeMap<Boot, Duration>,
    suspects: BTreeMap<Boot, Suspect>,
    has_left: bool,
}

/// A node whose link was lost: dead, unless it says otherwise before a deadline.
struct Suspect {
    member: Member<Life>,
    until: Duration,
}

impl Detector {
    /// The detector of a node.
    pub(crate) fn new(boot: Boot, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(Life { boot, number: 0 }, config(), random, GossipCodec),
            outside: Outside::default(),
            linked: BTreeMap::new(),
            suspects: BTreeMap::new(),
            has_left: false,
        }
    }

    fn active(&self, boot: Boot) -> Option<&Member<Life>> {
        self.foca.iter_members().find(|member| member.id().boot == boot)
    }

    fn pass_timers(&mut self) {
        while let Some(timer) = self.outside.due() {
            // After a long pause, foca finds its probe cut short, says so, and begins another one.
            let _ = self.foca.handle_timer(timer, &mut self.outside);
        }
    }

    /// Declares nodes dead that were suspected for long enough and neither came back nor objected.
    fn pass_suspects(&mut self) {
        let now = self.outside.now;
        let due = self.suspects.iter().filter(|(_, suspect)| suspect.until <= now);
        for boot in due.map(|(boot, _)| *boot).collect::<Vec<_>>() {
            let suspect = self.suspects.remove(&boot).map(|suspect| suspect.member);
            if suspect.is_some() && self.active(boot) == suspect.as_ref() {
                self.learn(suspect.map(|member| in_state(&member, State::Down)));
            }
        }
    }

    /// Announces this node to nodes that are linked and not known, or that were considered dead.
    fn introduce(&mut self) {
        let now = self.outside.now;
        let due = self.linked.iter().filter(|(_, at)| **at <= now);
        for boot in due.map(|(boot, _)| *boot).collect::<Vec<_>>() {
            self.linked.insert(boot, now + INTRODUCE_EVERY);
            if self.active(boot).is_none() {
                // It answers to every number, and tells its own.
                let _ = self.foca.announce(Life { boot, number: 0 }, &mut self.outside);
            }
        }
    }

    fn learn(&mut self, update: Option<Member<Life>>) {
        // A stale update is not an error, and the codec has room for one member.
        let _ = self.foca.apply_many(update.into_iter(), true, &mut self.outside);
        let _ = self.foca.gossip(&mut self.outside);
    }

    /// Notes that a link to a node is up.
    pub(crate) fn reached(&mut self, now: Duration, boot: Boot) {
        self.outside.now = now;
        self.suspects.remove(&boot);
        self.linked.insert(boot, now);
    }

    /// Notes that a link to a node is gone. It is a probe that failed: a node that lives hears of it
    /// through the others, and objects.
    pub(crate) fn lost(&mut self, now: Duration, boot: Boot) {
        self.outside.now = now;
        self.linked.remove(&boot);
        let Some(member) = self.active(boot).filter(|_| !self.has_left) else {
            return;
        };
        let member = in_state(member, State::Suspect);
        self.learn(Some(member.clone()));
        let suspect = Suspect { member, until: now + SUSPECTED_FOR };
        self.suspects.insert(boot, suspect);
    }

    /// Takes gossip of a node that is linked.
    ///
    /// # Errors
    ///
    /// If it is malformed, or of another node.
    pub(crate) fn heard(
        &mut self,
        now: Duration,
        from: Boot,
        gossip: &[u8],
    ) -> Result<(), GossipError> {
        self.outside.now = now;
        let Header { src, .. } = foca::Codec::decode_header(&mut GossipCodec, gossip)?;
        if src.boot != from {
            return Err(GossipError::Foreign { boot: src.boot });
        }
        if self.has_left {
            return Ok(());
        }
        self.foca.handle_data(gossip, &mut self.outside).map_err(GossipError::Refused)
    }

    /// Lets time pass: to be called about every [`BEAT`].
    pub(crate) fn pass(&mut self, now: Duration) {
        self.outside.now = now;
        if !self.has_left {
            self.pass_timers();
            self.pass_suspects();
            self.introduce();
        }
    }

    /// Tells the others that this node leaves. It takes no gossip afterwards: it would object to its own
    /// death.
    pub(crate) fn leave(&mut self, now: Duration) {
        self.outside.now = now;
        if !self.has_left {
            let _ = self.foca.leave_cluster(&mut self.outside);
            self.has_left = true;
        }
    }

    /// Returns the packets to send. A packet may be lost, and its receiver may not be linked.
    pub(crate) fn take_gossip(&mut self) -> Vec<(Boot, Vec<u8>)> {
        std::mem::take(&mut self.outside.gossip)
    }

    /// Nodes that are dead, none of them linked: each again and again.
    pub(crate) fn dead(&self) -> BTreeSet<Boot> {
        let is_down = |member: &&Member<Life>| member.state() == State::Down;
        let down = self.foca.iter_membership_state().filter(is_down).map(|member| member.id().boot);
        let others = down.filter(|boot| *boot != self.foca.identity().boot);
        others.filter(|boot| !self.linked.contains_key(boot)).collect()
    }
}

impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.foca.iter_membership_state().collect();
        f.debug_struct("Detector")
            .field("me", self.foca.identity())
            .field("members", &members)
            .field("linked", &self.linked)
            .finish_non_exhaustive()
    }
}

/// The requests of foca: packets that wait to be sent, and timers that wait for their time.
#[derive(Default)]
struct Outside {
    now: Duration,
    gossip: Vec<(Boot, Vec<u8>)>,
    timers: BTreeMap<(Duration, u64), Timer<Life>>,
    last_timer: u64,
}

impl Outside {
    fn due(&mut self) -> Option<Timer<Life>> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }
}

impl Runtime<Life> for Outside {
    fn notify(&mut self, _: Notification<'_, Life>) {}

    fn send_to(&mut self, to: Life, data: &[u8]) {
        self.gossip.push((to.boot, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Life>, after: Duration) {
        self.last_timer += 1;
        self.timers.insert((self.now + after, self.last_timer), timer);
    }
}

fn in_state(member: &Member<Life>, state: State) -> Member<Life> {
    Member::new(*member.id(), member.incarnation(), state)
}

/// The SWIM settings: with six idle nodes, about half of the 5 KB/s that all their links may cost.
fn config() -> Config {
    Config {
        probe_period: Duration::from_millis(500),
        probe_rtt: Duration::from_millis(150),
        num_indirect_probes: THREE,
        max_transmissions: NonZeroU8::new(8).expect("8 is not 0"),
        suspect_to_down_after: SUSPECTED_FOR,
        remove_down_after: Some(Duration::from_secs(60 * 60)),
        max_packet_size: NonZeroUsize::new(4_096).expect("4,096 is not 0"),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: Duration::from_secs(30),
            num_members: NonZeroUsize::MIN,
        }),
        // Linked nodes already get repeated announcements.
        periodic_announce_to_down_members: None,
        // Only while there is news.
        periodic_gossip: Some(PeriodicParams { frequency: 3 * BEAT, num_members: THREE }),
    }
}

const THREE: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

/// The time in which a node may deny that it is dead: enough to dial a link or ask a third node
/// several times.
const SUSPECTED_FOR: Duration = Duration::from_millis(1_300);

/// The interval at which this node announces itself to a node that is linked and not known.
const INTRODUCE_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_nodes_are_alive() {
        let mut nodes = Nodes::linked(3);
        nodes.run(Duration::from_secs(60));
        assert!(nodes.dead(0).is_empty());
        assert_eq!(nodes.members[0].foca.num_members(), 2);
    }

    #[test]
    fn a_silent_node_without_a_link_is_dead() {
        let mut nodes = Nodes::linked(3);
        nodes.crash(2);
        nodes.run(SUSPECTED_FOR / 2);
        assert!(nodes.dead(0).is_empty());
        nodes.run(SUSPECTED_FOR / 2 + 2 * BEAT);
        assert_eq!((nodes.dead(0), nodes.dead(1)), (vec![boot(2)], vec![boot(2)]));
    }

    #[test]
    fn one_of_two_nodes_is_missed_too() {
        let mut nodes = Nodes::linked(2);
        nodes.crash(1);
        nodes.run(SUSPECTED_FOR + 2 * BEAT);
        assert_eq!(nodes.dead(0), [boot(1)]);
    }

    #[test]
    fn a_silent_node_with_a_link_is_alive() {
        let mut nodes = Nodes::linked(3);
        nodes.mute.insert(2);
        nodes.run(Duration::from_secs(10));
        assert!(nodes.dead(0).is_empty());
        nodes.unlink(0, 2);
        assert_eq!(nodes.dead(0), [boot(2)], "its silence was noticed before");
    }

    #[test]
    fn a_third_node_vouches_for_another() {
        let mut nodes = Nodes::linked(3);
        nodes.unlink(0, 2);
        nodes.run(Duration::from_secs(30));
        assert!(nodes.dead(0).is_empty() && nodes.dead(1).is_empty() && nodes.dead(2).is_empty());
        nodes.crash(2);
        nodes.run(Duration::from_secs(3));
        assert_eq!(nodes.dead(0), [boot(2)], "and tells when it dies");
    }

    #[test]
    fn a_node_that_is_cut_off_comes_back() {
        let mut nodes = Nodes::linked(3);
        nodes.unlink(0, 2);
        nodes.unlink(1, 2);
        nodes.run(Duration::from_secs(5));
        assert_eq!((nodes.dead(0), nodes.dead(2)), (vec![boot(2)], vec![boot(0), boot(1)]));
        nodes.link(0, 2);
        nodes.run(Duration::from_secs(2));
        assert!(nodes.dead(0).is_empty() && nodes.dead(1).is_empty(), "reached through the first");
        assert!(nodes.dead(2).is_empty());
    }

    #[test]
    fn nodes_that_left_are_dead() {
        let mut nodes = Nodes::linked(3);
        let now = nodes.now;
        nodes.members[2].leave(now);
        nodes.run(Duration::from_secs(1));
        assert!(nodes.dead(0).is_empty(), "it still serves");
        nodes.crash(2);
        assert_eq!((nodes.dead(0), nodes.dead(1)), (vec![boot(2)], vec![boot(2)]));
    }

    #[test]
    fn gossip_of_another_node_is_refused() {
        let mut nodes = Nodes::linked(2);
        let now = nodes.now;
        let heard = nodes.members[0].heard(now, boot(1), &[0xff; 40]);
        assert!(matches!(heard, Err(GossipError::Unreadable { .. })));
        nodes.members[1].leave(now);
        let gossip = nodes.members[1].take_gossip().remove(0).1;
        let heard = nodes.members[0].heard(now, boot(7), &gossip);
        assert!(matches!(heard, Err(GossipError::Foreign { .. })));
        let heard = nodes.members[0].heard(now, boot(1), &[&gossip[..], &[0; 3]].concat());
        assert!(matches!(heard, Err(GossipError::Refused(_))));
    }

    /// Shows CL-08.
    #[test]
    fn changed_gossip_causes_no_panic() {
        let mut nodes = Nodes::linked(3);
        let now = nodes.now;
        nodes.members[1].leave(now);
        let gossip = nodes.members[1].take_gossip().remove(0).1;
        for at in 0..gossip.len() {
            for flip in 1..=u8::MAX {
                let mut bytes = gossip.clone();
                bytes[at] ^= flip;
                let _ = nodes.members[0].heard(now, boot(1), &bytes);
            }
        }
    }

    #[test]
    fn a_seed_repeats_the_same_gossip() {
        let said = || {
            let mut nodes = Nodes::linked(4);
            nodes.run(Duration::from_secs(5));
            nodes.said
        };
        assert_eq!(said(), said());
    }

    /// Nodes, and links without delay.
    struct Nodes {
        now: Duration,
        members: Vec<Detector>,
        links: BTreeSet<(usize, usize)>,
        /// Nodes that neither hear nor say anything.
        mute: BTreeSet<usize>,
        said: Vec<Vec<u8>>,
    }

    impl Nodes {
        fn linked(count: usize) -> Self {
            let member = |n| Detector::new(boot(n), n as u64);
            let mut nodes = Self {
                now: Duration::ZERO,
                members: (0..count).map(member).collect(),
                links: BTreeSet::new(),
                mute: BTreeSet::new(),
                said: Vec::new(),
            };
            for a in 0..count {
                (0..a).for_each(|b| nodes.link(b, a));
            }
            nodes.run(Duration::from_secs(1));
            nodes
        }

        fn link(&mut self, a: usize, b: usize) {
            self.links.extend([(a, b), (b, a)]);
            self.members[a].reached(self.now, boot(b));
            self.members[b].reached(self.now, boot(a));
        }

        fn unlink(&mut self, a: usize, b: usize) {
            self.links.remove(&(a, b));
            self.links.remove(&(b, a));
            self.members[a].lost(self.now, boot(b));
            self.members[b].lost(self.now, boot(a));
        }

        fn crash(&mut self, n: usize) {
            self.mute.insert(n);
            for other in (0..self.members.len()).filter(|other| *other != n) {
                self.unlink(other, n);
            }
        }

        fn run(&mut self, by: Duration) {
            let end = self.now + by;
            while self.now < end {
                self.now += BEAT;
                for n in 0..self.members.len() {
                    if !self.mute.contains(&n) {
                        self.members[n].pass(self.now);
                    }
                }
                while self.deliver() {}
            }
        }

        fn deliver(&mut self) -> bool {
            let mut carried = false;
            for from in 0..self.members.len() {
                for (to, gossip) in self.members[from].take_gossip() {
                    let to = to.to_bytes()[15].into();
                    let is_heard = !self.mute.contains(&from) && !self.mute.contains(&to);
                    if self.links.contains(&(from, to)) && is_heard {
                        self.members[to].heard(self.now, boot(from), &gossip).unwrap();
                        self.said.push(gossip);
                        carried = true;
                    }
                }
            }
            carried
        }

        fn dead(&self, n: usize) -> Vec<Boot> {
            self.members[n].dead().into_iter().collect()
        }
    }

    fn boot(n: usize) -> Boot {
        Boot::new((n as u128).to_be_bytes())
    }
}
