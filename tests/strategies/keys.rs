//! A change of keys, over all nodes and under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::Client;

use crate::service::Service;

/// Moves the service from no key to one, and from that to another, a node at a time, in the documented
/// order. Its users go on writing, and none of them loses a write or is signed out.
pub async fn change_under_load(service: &Service, change: &Change) {
    let users: Vec<_> = join_all((0..USERS).map(|n| User::sign_in(service, n))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = join_all(users.iter().map(|user| user.write_until(service, change.write, &stop)));
    let steps = async {
        for step in STEPS {
            for node in &service.nodes {
                node.order_json(change.path, &(change.ring)(step)).await;
                wait_for_writes(&users, 2).await;
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, steps);
    for user in &users {
        assert_eq!(
            service.users(&user.client).await,
            vec![Some(user.name.clone()); service.nodes.len()]
        );
        let value = user.client.get(change.read).await.ok().json()["value"].take();
        let written = value.as_array().map_or(value.as_u64(), |list| Some(list.len() as u64));
        assert_eq!(written, Some(user.written.load(Ordering::Relaxed)));
    }
}

/// The keys that change, and the way they change.
pub struct Change {
    path: &'static str,
    /// The body that has a node take a ring, the current key first.
    ring: fn(&[&str]) -> Value,
    /// The work of users during the change, and the proof that it was done.
    write: (&'static str, &'static str),
    read: &'static str,
}

pub const HASH: Change = Change {
    path: "/keys",
    ring: |keys| json!({ "current": keys[0], "accept": keys[1..] }),
    write: ("/incr", ""),
    read: "/get",
};

pub const SEAL: Change = Change {
    path: "/seal-keys",
    ring: |keys| json!({ "keys": keys }),
    write: ("/append?k=list", "1"),
    read: "/get?k=list",
};

struct User {
    name: String,
    client: Client,
    written: AtomicU64,
}

impl User {
    async fn sign_in(service: &Service, n: usize) -> Self {
        let name = format!("user-{n}");
        let client = service.node(n).member(&name).await;
        Self { name, client, written: AtomicU64::new(0) }
    }

    /// Adds on one node after another, two requests at a time.
    async fn write_until(&self, service: &Service, (path, body): (&str, &str), stop: &AtomicBool) {
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let add = async |n| {
                let client = self.client.at(service.node(n));
                client.send("POST", path, &[], body).await.ok();
                self.written.fetch_add(1, Ordering::Relaxed);
            };
            tokio::join!(add(n), add(n + 1));
        }
    }
}

/// Waits until each user has written this many times more.
async fn wait_for_writes(users: &[User], more: u64) {
    let written = |user: &User| user.written.load(Ordering::Relaxed);
    let before: Vec<_> = users.iter().map(written).collect();
    while users.iter().zip(&before).any(|(user, before)| written(user) < before + more) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const USERS: usize = 6;

const FIRST: &str = "k1=1111111111111111111111111111111111111111111111111111111111111111";
const SECOND: &str = "k2=2222222222222222222222222222222222222222222222222222222222222222";

/// The rings, the current key first.
const STEPS: [&[&str]; 6] =
    [&["none", FIRST], &[FIRST, "none"], &[FIRST], &[FIRST, SECOND], &[SECOND, FIRST], &[SECOND]];
