//! Logins that are refused at the cap.

use std::time::Duration;

use steadfast_core::{
    AtCap, Deleted, EndReason, LoginPolicy, Outcome, Record, RecordId, Rejection, Timestamp,
};

use super::{Nodes, alice, id, login, principal, record, signed_in};
use crate::call::{Reply, Request};

#[test]
fn a_login_at_a_refusing_cap_is_refused() {
    let mut nodes = Nodes::new(3);
    let refuses = refusing(2);
    let ids = [1, 2].map(|n| nodes.admit(n as usize, n, refuses).expect("there is room"));
    for node in 0..3 {
        assert_eq!(nodes.admit(node, 9, refuses), None);
        assert_eq!(nodes.listed(node), ids);
    }
    nodes.end(0, ids[0]);
    assert_eq!(nodes.admit(0, 3, refuses), Some(id(3)));
    assert_eq!(nodes.listed(1), [ids[1], id(3)]);
}

#[test]
fn parallel_logins_fill_the_cap_exactly() {
    let mut nodes = Nodes::new(3);
    let refuses = refusing(5);
    let calls: Vec<_> = (0..30).map(|n| nodes.begin(n as usize % 3, n, refuses)).collect();
    let replies = calls.into_iter().map(|(node, number)| nodes.wait(node, number));
    let admitted = replies.collect::<Vec<_>>().into_iter().filter_map(admitted).count();
    assert_eq!((admitted, nodes.listed(0).len()), (5, 5));
}

#[test]
fn expired_sessions_leave_room_for_a_login() {
    let mut nodes = Nodes::new(3);
    let refuses = refusing(2);
    let first = nodes.sign_in_until(0, 1, 600);
    nodes.admit(1, 2, refuses).expect("there is room");
    assert_eq!(nodes.admit(2, 9, refuses), None);
    nodes.now.wall = nodes.now.wall + Duration::from_secs(601);
    assert_eq!(nodes.admit(2, 9, refuses), Some(id(9)), "no sweep found {first:?} before");
}

#[test]
fn lost_sessions_do_not_count_for_the_cap() {
    let mut nodes = Nodes::new(3);
    let refuses = refusing(8_000);
    nodes.put_list(8_000);
    assert_eq!(nodes.admit(0, 1, refuses), Some(id(1)));
}

#[test]
fn refused_logins_do_not_wait_for_each_other() {
    let mut nodes = Nodes::new(3);
    let refuses = refusing(1);
    nodes.admit(0, 1, refuses).expect("there is room");
    let bobs = Record { principal: Some(principal("bob")), ..record(2) };
    let create = Request::Create { id: id(2), record: Box::new(bobs), policy: refuses };
    assert!(admitted(nodes.call(nodes.boot(1), create)).is_some());
    let start = nodes.now.mono;
    let calls = [(1, principal("bob")), (2, alice())]
        .map(|(n, other)| nodes.begin_call(n as usize, login(n, other, refuses)));
    for (node, number) in calls {
        assert_eq!(admitted(nodes.wait(node, number)), None);
    }
    assert!(nodes.now.mono - start < Duration::from_millis(500), "{:?}", nodes.now.mono - start);
}

impl Nodes {
    /// A session of alice's, where she is admitted.
    fn admit(&mut self, node: usize, n: u64, policy: LoginPolicy) -> Option<RecordId> {
        admitted(self.call(self.boot(node), signed_in(n, policy))).map(|()| id(n))
    }

    fn sign_in_until(&mut self, node: usize, n: u64, seconds: u64) -> RecordId {
        let mut request = signed_in(n, LoginPolicy::default());
        if let Request::Create { record, .. } = &mut request {
            record.idle_deadline = Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        }
        admitted(self.call(self.boot(node), request)).expect("there is room");
        id(n)
    }

    fn end(&mut self, node: usize, id: RecordId) {
        let (proof, sign_in, reason) = (None, None, EndReason::Logout);
        let request = Request::Delete { id, proof, sign_in, reason };
        let reply = self.call(self.boot(node), request);
        assert!(matches!(reply, Reply::Deleted(Deleted::Ended)), "{reply:?}");
    }
}

fn refusing(cap: usize) -> LoginPolicy {
    LoginPolicy { at_cap: AtCap::Refuse, ..LoginPolicy::capped(cap) }
}

/// Returns whether a login was admitted; `None` if it was refused at the cap.
fn admitted(reply: Reply) -> Option<()> {
    match reply {
        Reply::Outcome(Outcome::Applied(applied)) => {
            assert_eq!(applied.ended, [], "nothing ends where logins are refused");
            Some(())
        }
        Reply::Outcome(Outcome::Rejected(Rejection::AtCap)) => None,
        reply => panic!("{reply:?}"),
    }
}
