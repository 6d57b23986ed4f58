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

use super::gossip::{GossipCodec, GossipError, Life};
use super::{BEAT, Membership};
use crate::placement::Name;

/// The detector of one node.
pub(crate) struct SwimMembership {
    foca: Foca<Life, GossipCodec, SmallRng, NoCustomBroadcast>,
    outside: Outside,
    /// Nodes at the other end of a link, and when they are told about this one, if they have to be.
    linked: BTreeMap<Name, Duration>,
    suspects: BTreeMap<Name, Suspect>,
    has_left: bool,
}

/// A node whose link was lost: dead, unless it says otherwise before a deadline.
struct Suspect {
    member: Member<Life>,
    until: Duration,
}

impl SwimMembership {
    /// Of the node of that name; later processes of the name have a higher `number`.
    pub(crate) fn new(name: Name, number: u64, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(Life { name, number }, config(), random, GossipCodec),
            outside: Outside::default(),
            linked: BTreeMap::new(),
            suspects: BTreeMap::new(),
            has_left: false,
        }
    }

    fn active(&self, name: &Name) -> Option<&Member<Life>> {
        self.foca.iter_members().find(|member| member.id().name == *name)
    }

    fn pass_timers(&mut self) {
        while let Some(timer) = self.outside.due() {
            // After a long pause, foca finds its probe cut short, says so, and begins another one.
            let _ = self.foca.handle_timer(timer, &mut self.outside);
        }
    }

    /// Declares dead who was suspected for long enough and neither came back nor said anything.
    fn pass_suspects(&mut self) {
        let now = self.outside.now;
        let due = self.suspects.iter().filter(|(_, suspect)| suspect.until <= now);
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let suspect = self.suspects.remove(&name).map(|suspect| suspect.member);
            if suspect.is_some() && self.active(&name) == suspect.as_ref() {
                self.learn(suspect.map(|member| in_state(&member, State::Down)));
            }
        }
    }

    /// Says hello to nodes that are linked and not known, or that were taken for dead.
    fn introduce(&mut self) {
        let now = self.outside.now;
        let due = self.linked.iter().filter(|(_, at)| **at <= now);
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.linked.insert(name.clone(), now + INTRODUCE_EVERY);
            if self.active(&name).is_none() {
                // It answers whatever the number is, and tells its own.
                let _ = self.foca.announce(Life { name, number: 0 }, &mut self.outside);
            }
        }
    }

    fn learn(&mut self, update: Option<Member<Life>>) {
        // An update that is no news is no error, and the codec has room for one member.
        let _ = self.foca.apply_many(update.into_iter(), true, &mut self.outside);
        let _ = self.foca.gossip(&mut self.outside);
    }
}

impl Membership for SwimMembership {
    fn reached(&mut self, now: Duration, name: &Name) {
        self.outside.now = now;
        self.suspects.remove(name);
        self.linked.insert(name.clone(), now);
    }

    /// A link that broke is a probe that failed. Who lives hears of it through the others, and denies.
    fn lost(&mut self, now: Duration, name: &Name) {
        self.outside.now = now;
        self.linked.remove(name);
        let Some(member) = self.active(name).filter(|_| !self.has_left) else {
            return;
        };
        let member = in_state(member, State::Suspect);
        self.learn(Some(member.clone()));
        let suspect = Suspect { member, until: now + SUSPECTED_FOR };
        self.suspects.insert(name.clone(), suspect);
    }

    fn heard(&mut self, now: Duration, from: &Name, gossip: &[u8]) -> Result<(), GossipError> {
        self.outside.now = now;
        let Header { src, .. } = foca::Codec::decode_header(&mut GossipCodec, gossip)?;
        if src.name != *from {
            return Err(GossipError::Foreign { name: src.name });
        }
        if self.has_left {
            return Ok(());
        }
        self.foca.handle_data(gossip, &mut self.outside).map_err(GossipError::Refused)
    }

    fn pass(&mut self, now: Duration) {
        self.outside.now = now;
        if !self.has_left {
            self.pass_timers();
            self.pass_suspects();
            self.introduce();
        }
    }

    /// Whatever is heard afterwards is no longer for this node: it would deny its own death.
    fn leave(&mut self, now: Duration) {
        self.outside.now = now;
        if !self.has_left {
            let _ = self.foca.leave_cluster(&mut self.outside);
            self.has_left = true;
        }
    }

    fn take_gossip(&mut self) -> Vec<(Name, Vec<u8>)> {
        std::mem::take(&mut self.outside.gossip)
    }

    fn dead(&self) -> BTreeSet<Name> {
        let is_down = |member: &&Member<Life>| member.state() == State::Down;
        let down =
            self.foca.iter_membership_state().filter(is_down).map(|member| &member.id().name);
        let others = down.filter(|name| **name != self.foca.identity().name);
        others.filter(|name| !self.linked.contains_key(*name)).cloned().collect()
    }
}

impl fmt::Debug for SwimMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.foca.iter_membership_state().collect();
        f.debug_struct("SwimMembership")
            .field("me", self.foca.identity())
            .field("members", &members)
            .field("linked", &self.linked)
            .finish_non_exhaustive()
    }
}

/// What foca wants done: packets that wait to be sent, and timers that wait for their time.
#[derive(Default)]
struct Outside {
    now: Duration,
    gossip: Vec<(Name, Vec<u8>)>,
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
        self.gossip.push((to.name, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Life>, after: Duration) {
        self.last_timer += 1;
        self.timers.insert((self.now + after, self.last_timer), timer);
    }
}

fn in_state(member: &Member<Life>, state: State) -> Member<Life> {
    Member::new(member.id().clone(), member.incarnation(), state)
}

/// With six nodes at rest, about half of the 5 KB a second that all their links may cost.
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
        // Whoever is linked is told again and again already.
        periodic_announce_to_down_members: None,
        // Only while there is news.
        periodic_gossip: Some(PeriodicParams { frequency: 3 * BEAT, num_members: THREE }),
    }
}

const THREE: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

/// How long a node may take to deny that it is dead: a link is dialled anew, or a third node asked,
/// several times over.
const SUSPECTED_FOR: Duration = Duration::from_millis(1_300);

/// How often a node that is linked and not known is told about this one.
const INTRODUCE_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_linked_is_alive() {
        let mut nodes = Nodes::linked(3);
        nodes.run(Duration::from_secs(60));
        assert!(nodes.dead(0).is_empty());
        assert_eq!(nodes.members[0].foca.num_members(), 2);
    }

    #[test]
    fn dead_is_who_is_silent_and_not_linked_for_a_while() {
        let mut nodes = Nodes::linked(3);
        nodes.crash(2);
        nodes.run(SUSPECTED_FOR / 2);
        assert!(nodes.dead(0).is_empty());
        nodes.run(SUSPECTED_FOR / 2 + 2 * BEAT);
        assert_eq!((nodes.dead(0), nodes.dead(1)), (vec![name(2)], vec![name(2)]));
    }

    #[test]
    fn of_two_the_other_one_dies_as_soon() {
        let mut nodes = Nodes::linked(2);
        nodes.crash(1);
        nodes.run(SUSPECTED_FOR + 2 * BEAT);
        assert_eq!(nodes.dead(0), [name(1)]);
    }

    #[test]
    fn who_is_silent_is_not_dead_while_the_link_is_up() {
        let mut nodes = Nodes::linked(3);
        nodes.mute.insert(2);
        nodes.run(Duration::from_secs(10));
        assert!(nodes.dead(0).is_empty());
        nodes.unlink(0, 2);
        assert_eq!(nodes.dead(0), [name(2)], "that it is silent is known for long");
    }

    #[test]
    fn a_third_node_saves_who_cannot_be_reached() {
        let mut nodes = Nodes::linked(3);
        nodes.unlink(0, 2);
        nodes.run(Duration::from_secs(30));
        assert!(nodes.dead(0).is_empty() && nodes.dead(1).is_empty() && nodes.dead(2).is_empty());
        nodes.crash(2);
        nodes.run(Duration::from_secs(3));
        assert_eq!(nodes.dead(0), [name(2)], "and tells when it dies");
    }

    #[test]
    fn a_node_that_is_cut_off_comes_back() {
        let mut nodes = Nodes::linked(3);
        nodes.unlink(0, 2);
        nodes.unlink(1, 2);
        nodes.run(Duration::from_secs(5));
        assert_eq!((nodes.dead(0), nodes.dead(2)), (vec![name(2)], vec![name(0), name(1)]));
        nodes.link(0, 2);
        nodes.run(Duration::from_secs(2));
        assert!(nodes.dead(0).is_empty() && nodes.dead(1).is_empty(), "reached through the first");
        assert!(nodes.dead(2).is_empty());
    }

    #[test]
    fn a_later_process_of_the_name_is_another_one() {
        let mut nodes = Nodes::linked(3);
        nodes.crash(2);
        nodes.run(Duration::from_secs(5));
        nodes.members[2] = SwimMembership::new(name(2), 9, 0);
        nodes.mute.clear();
        nodes.link(0, 2);
        nodes.run(Duration::from_secs(2));
        assert!(nodes.dead(0).is_empty() && nodes.dead(1).is_empty());
        assert_eq!(nodes.members[1].active(&name(2)).map(|member| member.id().number), Some(9));
    }

    #[test]
    fn who_leaves_is_dead_as_soon_as_it_is_gone() {
        let mut nodes = Nodes::linked(3);
        let now = nodes.now;
        nodes.members[2].leave(now);
        nodes.run(Duration::from_secs(1));
        assert!(nodes.dead(0).is_empty(), "it still serves");
        nodes.crash(2);
        assert_eq!((nodes.dead(0), nodes.dead(1)), (vec![name(2)], vec![name(2)]));
    }

    #[test]
    fn gossip_of_another_node_or_of_nobody_is_refused() {
        let mut nodes = Nodes::linked(2);
        let now = nodes.now;
        let heard = nodes.members[0].heard(now, &name(1), &[0xff; 40]);
        assert!(matches!(heard, Err(GossipError::Unreadable { .. })));
        nodes.members[1].leave(now);
        let gossip = nodes.members[1].take_gossip().remove(0).1;
        let heard = nodes.members[0].heard(now, &name(7), &gossip);
        assert!(matches!(heard, Err(GossipError::Foreign { .. })));
        let heard = nodes.members[0].heard(now, &name(1), &[&gossip[..], &[0; 3]].concat());
        assert!(matches!(heard, Err(GossipError::Refused(_))));
    }

    #[test]
    fn cl_08_gossip_with_any_byte_changed_makes_no_panic() {
        let mut nodes = Nodes::linked(3);
        let now = nodes.now;
        nodes.members[1].leave(now);
        let gossip = nodes.members[1].take_gossip().remove(0).1;
        for at in 0..gossip.len() {
            for flip in 1..=u8::MAX {
                let mut bytes = gossip.clone();
                bytes[at] ^= flip;
                let _ = nodes.members[0].heard(now, &name(1), &bytes);
            }
        }
    }

    #[test]
    fn the_same_seed_says_the_same() {
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
        members: Vec<SwimMembership>,
        links: BTreeSet<(usize, usize)>,
        /// Nodes that neither hear nor say anything.
        mute: BTreeSet<usize>,
        said: Vec<Vec<u8>>,
    }

    impl Nodes {
        fn linked(count: usize) -> Self {
            let member = |n| SwimMembership::new(name(n), 1, n as u64);
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
            self.members[a].reached(self.now, &name(b));
            self.members[b].reached(self.now, &name(a));
        }

        fn unlink(&mut self, a: usize, b: usize) {
            self.links.remove(&(a, b));
            self.links.remove(&(b, a));
            self.members[a].lost(self.now, &name(b));
            self.members[b].lost(self.now, &name(a));
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
                    let to = to.as_str()[1..].parse().unwrap();
                    let is_heard = !self.mute.contains(&from) && !self.mute.contains(&to);
                    if self.links.contains(&(from, to)) && is_heard {
                        self.members[to].heard(self.now, &name(from), &gossip).unwrap();
                        self.said.push(gossip);
                        carried = true;
                    }
                }
            }
            carried
        }

        fn dead(&self, n: usize) -> Vec<Name> {
            self.members[n].dead().into_iter().collect()
        }
    }

    fn name(n: usize) -> Name {
        format!("n{n}").parse().unwrap()
    }
}
