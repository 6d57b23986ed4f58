//! A node of one release and a node of the next serve the same sessions from one store.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::OnceLock;

use futures_util::future::join_all;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, Redis, USER};
use testkit::{Client, Server};
use tokio::process::Command;

#[tokio::test]
async fn neighbours_share_sessions_in_redis() {
    let server = Redis::start();
    share(&format!("redis://{USER}:{PASSWORD}@{}", server.address())).await;
}

#[tokio::test]
async fn neighbours_share_sessions_in_postgres() {
    let server = Postgres::start(&[]);
    share(&format!("postgres://postgres@{}/postgres", server.address())).await;
}

#[tokio::test]
async fn a_newer_redis_record_is_left_unchanged() {
    let server = Redis::start();
    outgrow(&format!("redis://{USER}:{PASSWORD}@{}", server.address())).await;
}

#[tokio::test]
async fn a_newer_postgres_record_is_left_unchanged() {
    let server = Postgres::start(&[]);
    outgrow(&format!("postgres://postgres@{}/postgres", server.address())).await;
}

/// Concurrent users of both nodes lose no write and no session, and what their sessions say of themselves
/// stays as it is.
async fn share(url: &str) {
    let nodes = Neighbours::start(url).await;
    let users = join_all((0..USERS).map(|n| User::arrive(&nodes, n))).await;
    let users = join_all(users.into_iter().map(|user| user.work(&nodes))).await;
    let counted = join_all(users.iter().map(|user| user.judge(&nodes))).await;
    let lost: i64 = counted.iter().map(|counted| counted.lost_writes).sum();
    let signed_out: usize = counted.iter().map(|counted| counted.signed_out).sum();
    println!(
        "{} writes of {USERS} users on 2 nodes: {lost} lost, {signed_out} users signed out",
        2 * ROUNDS * USERS
    );
    assert_eq!((lost, signed_out), (0, 0));
}

/// A record that needs the later format is an error to the older node, which can only end it.
async fn outgrow(url: &str) {
    let Neighbours { older, newer } = Neighbours::start(url).await;
    let alice = newer.client();
    alice.post("/begin?u=alice&facts=next").await.ok();
    alice.post("/incr").await.ok();
    let before = alice.peek().await;
    let at_older = alice.at(&older);
    for (method, path) in
        [("GET", "/peek"), ("POST", "/incr"), ("POST", "/login?u=mallory"), ("POST", "/cycle")]
    {
        let reply = at_older.send(method, path, &[], "").await;
        assert_eq!(reply.status, 503, "{path}");
        assert!(reply.set_cookies().is_empty(), "{path}");
    }
    assert_eq!(alice.peek().await, before, "it is left as it is");

    let other = older.member("alice").await;
    let listed = other.get("/sessions").await.ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "its user sees it");
    let later = before["handle"].as_str().unwrap();
    let ended = other.post(&format!("/sessions/{later}/end")).await.ok();
    assert_eq!(ended.json(), true);
    assert_eq!(alice.at(&newer).user().await, None);

    let bob = newer.client();
    bob.post("/begin?u=bob&facts=next").await.ok();
    let signed_out = bob.at(&older).post("/logout").await.ok();
    assert!(signed_out.set_cookies().iter().any(|line| line.contains("Max-Age=0")));
    assert_eq!(bob.at(&newer).user().await, None, "a user signs out on either node");

    older.signal("TERM");
    let (_, said) = older.ended().await;
    assert!(said.contains(REASON), "{said}");
}

/// A node of each format, over one store.
struct Neighbours {
    older: Server,
    newer: Server,
}

impl Neighbours {
    async fn start(url: &str) -> Self {
        let (older, newer) = (node(OLDER, url).await, node(NEWER, url).await);
        Self { older, newer }
    }

    fn node(&self, n: usize) -> &Server {
        [&self.older, &self.newer][n % 2]
    }
}

async fn node(format: u16, url: &str) -> Server {
    let mut program = Command::new(program(format));
    program.arg(url);
    let server = Server::of(program).await;
    assert_eq!(server.client().get("/format").await.json(), format);
    server
}

/// The program with this format: the one that was built with these tests, or another.
fn program(format: u16) -> PathBuf {
    static OTHER: OnceLock<PathBuf> = OnceLock::new();
    match format == steadfast_core::Record::FORMAT {
        true => PathBuf::from(env!("CARGO_BIN_EXE_node")),
        false => OTHER.get_or_init(|| build(format)).clone(),
    }
}

/// Builds the program with the other format, in a directory of its own: this one's features would have
/// to be built again.
fn build(format: u16) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("format-{format}"));
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", "neighbours", "--bin", "node"]);
    if format == NEWER {
        cargo.args(["--features", "next-format"]);
    }
    let built = cargo.arg("--target-dir").arg(&target).env("CARGO_PROFILE_DEV_DEBUG", "0").status();
    assert!(built.unwrap().success());
    target.join("debug/node")
}

/// A user whose requests come to both nodes.
struct User {
    name: String,
    client: Client,
    facts: &'static str,
}

/// The final state of a user.
struct Counted {
    lost_writes: i64,
    signed_out: usize,
}

impl User {
    async fn arrive(nodes: &Neighbours, n: usize) -> Self {
        let (name, client) = (format!("user-{n}"), nodes.node(n).client());
        let facts = ["", "phone"][n / 2 % 2];
        client.post(&format!("/begin?u={name}&facts={facts}")).await.ok();
        Self { name, client, facts }
    }

    /// Adds at both nodes concurrently, and now and then replaces the token at one of them.
    async fn work(self, nodes: &Neighbours) -> Self {
        let at = |n| self.client.at(nodes.node(n));
        for round in 0..ROUNDS {
            let (one, other) = (at(0), at(1));
            let (one, other) = tokio::join!(one.post("/incr"), other.post("/incr"));
            one.ok();
            other.ok();
            match round % 8 {
                3 => drop(at(round / 8).post("/cycle").await.ok()),
                // A sign-in would replace what the session says of itself.
                7 => drop(at(round / 8).post("/elevate").await.ok()),
                _ => {}
            }
        }
        self
    }

    async fn judge(&self, nodes: &Neighbours) -> Counted {
        let mut counted = Counted { lost_writes: 0, signed_out: 0 };
        for node in [&nodes.older, &nodes.newer] {
            let found = self.client.at(node).peek().await;
            counted.signed_out += usize::from(found["user"] != self.name);
            counted.lost_writes += 2 * ROUNDS as i64 - found["n"].as_i64().unwrap_or(0);
            assert_eq!(found["facts"], self.facts);
        }
        counted
    }
}

const OLDER: u16 = 2;

const NEWER: u16 = 3;

const REASON: &str = "the session's record has format 3, and this release knows formats up to 2";

const USERS: usize = 8;

const ROUNDS: usize = 32;
