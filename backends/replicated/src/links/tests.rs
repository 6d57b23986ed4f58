use steadfast_core::{Env, Limits, Principal, Realm};
use steadfast_replication::budget::Budgets;
use steadfast_replication::cluster::Timing;
use steadfast_replication::engine::Packet;
use steadfast_replication::member::Member;
use steadfast_replication::membership::{self, Frame, Identity, Membership};
use steadfast_replication::rules::Rules;
use steadfast_replication::settings::Settings;
use steadfast_replication::wire::{EDITION, Greeting};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::carry::{SILENT_FOR, SPEAK_EVERY};
use super::frames::write_frame;
use super::refusals::Refusal;
use super::strangers::{MAX_STRANGERS, Strangers};
use super::*;

#[tokio::test]
async fn a_queue_that_is_full_ends_the_link() {
    let (links, node) = node(1);
    let mut silent = linked(&links, &node, 2, None);
    while links.lock().links[&boot(2)].is_up() {
        links.send(boot(2), &ping());
    }
    links.send(boot(2), &ping());
    silent.read_to_end(&mut Vec::new()).await.unwrap();
    while !links.lock().links.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn malformed_gossip_ends_the_link() {
    let (links, node) = node(1);
    let mut peer = linked(&links, &node, 2, None);
    write_frame(&mut peer, &wire::encode_gossip(vec![0xff; 40])).await.unwrap();
    peer.read_to_end(&mut Vec::new()).await.unwrap();
}

/// Shows CL-07.
#[tokio::test(start_paused = true)]
async fn a_flood_of_empty_frames_ends_the_link() {
    let (links, node) = node(1);
    let mut peer = linked(&links, &node, 2, None);
    for _ in 0..1_000 {
        write_frame(&mut peer, &[]).await.unwrap();
        tokio::time::sleep(SPEAK_EVERY).await;
    }
    assert!(links.lock().links[&boot(2)].is_up());
    let flood = async { while write_frame(&mut peer, &[]).await.is_ok() {} };
    tokio::time::timeout(SILENT_FOR, flood).await.expect("the link ends");
}

#[tokio::test]
async fn frames_of_a_replaced_link_are_not_taken() {
    let (links, node) = node(1);
    let _replaced = linked(&links, &node, 2, Some(Vec::new()));
    let number = links.lock().links[&boot(2)].number;
    let _link = linked(&links, &node, 2, Some(Vec::new()));
    let body = wire::encode(&ping(), Ends { from: boot(2), to: boot(1) });
    assert!(links.take(&node, (boot(2), number), &body).is_err());
    assert!(links.take(&node, (boot(2), number + 1), &body).is_ok());
}

#[tokio::test]
async fn the_link_of_the_lower_boot_stays() {
    for (me, is_lower) in [(1, true), (3, false)] {
        let (links, node) = node(me);
        let _dialled = linked(&links, &node, 2, None);
        let _accepted = linked(&links, &node, 2, Some(Vec::new()));
        let stayed = links.lock().links[&boot(2)].number;
        assert_eq!(stayed, if is_lower { 0 } else { 1 }, "at {me}");
    }
}

#[tokio::test]
async fn a_second_address_adds_no_link() {
    let (links, node) = node(1);
    let _link = linked(&links, &node, 2, None);
    let mut other = linked(&links, &node, 2, None);
    other.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(links.lock().links[&boot(2)].number, 0);
}

/// Shows CL-06.
#[tokio::test]
async fn the_oldest_stranger_makes_room() {
    let mut strangers = Strangers::default();
    let all: Vec<_> = (0..=MAX_STRANGERS).map(|_| tokio::spawn(std::future::pending())).collect();
    all.iter().for_each(|stranger: &tokio::task::JoinHandle<()>| {
        strangers.admit(stranger.abort_handle());
    });
    let mut all = all.into_iter();
    assert!(all.next().unwrap().await.unwrap_err().is_cancelled());
    assert!(all.all(|stranger| !stranger.is_finished()));
    assert_eq!(strangers.0.len(), MAX_STRANGERS);
}

#[tokio::test]
async fn another_service_or_edition_is_refused() {
    let (links, node) = node(1);
    let greeting = links.greeting(&node);
    assert!(links.examine(greeting.clone()).is_ok());
    let other = Greeting { cluster: "forum".to_owned(), ..greeting.clone() };
    assert_eq!(links.examine(other).err(), Some(Refusal::OtherService("forum".to_owned())));
    let first = Greeting { edition: EDITION - 1, hello: None, ..greeting };
    let refusal = links.examine(first).err().expect("it is refused").to_string();
    let says =
        "it speaks edition 2 of the protocol, and this node speaks 3: they never form one service";
    assert_eq!(refusal, says);
}

#[tokio::test]
async fn a_node_that_dials_itself_makes_no_link() {
    let (links, node) = node(1);
    let (stream, mut other) = duplex(1 << 10);
    write_frame(&mut other, &links.greeting(&node).encode()).await.unwrap();
    assert_eq!(links.greet_dialled(stream, "127.0.0.1:9").await.unwrap(), boot(1));
    assert!(links.lock().links.is_empty());
}

#[tokio::test]
async fn a_panic_makes_the_node_fail_every_call() {
    let (_links, node) = node(1);
    let list = |engine: &mut Engine, now: Now| engine.list(now, alice(), Duration::from_secs(60));
    let pending = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.call(list).await }
    });
    tokio::task::yield_now().await;
    let broken = Arc::clone(&node);
    let panicked = std::thread::spawn(move || broken.with_engine(|_, _| panic!("a bug")));
    assert!(panicked.join().is_err());
    assert!(node.is_broken());
    assert!(node.call(list).await.is_err(), "it does not wait");
    node.abandon();
    assert!(pending.await.unwrap().is_err());
}

fn alice() -> Principal {
    Principal::new(Realm::default(), "alice").unwrap()
}

/// A node without peers.
fn node(n: u8) -> (Arc<Links>, Arc<Node>) {
    let settings = Settings {
        replication: Default::default(),
        acknowledgements: Default::default(),
        policy: None,
    };
    let identity = Identity { member: member(n), settings, seed: [n; 16] };
    let membership = Membership::new(identity, Timing::DEFAULT, Rules::default(), uptime());
    let engine = Engine::new(membership, Limits::default(), Budgets::default(), Rules::default());
    let node = Node::new(member(n).name, boot(n), engine, Env::system());
    let place = Place {
        cluster: "default".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        seeds: Vec::new(),
        max_frame: 1 << 20,
    };
    let links = Links::new(&node, place, None).unwrap();
    (links, node)
}

/// The other end of a link to a peer: dialled by this node, or by the peer, with its first frame.
fn linked(links: &Arc<Links>, node: &Node, n: u8, first: Option<Vec<u8>>) -> DuplexStream {
    let (stream, other) = duplex(1 << 10);
    let Greeting { hello, .. } = links.greeting(node);
    let hello = membership::Hello { member: member(n), ..hello.unwrap() };
    let peer = Peer { hello, address: format!("n{n}:1"), known: Vec::new() };
    links.register(node, stream, peer, first);
    other
}

fn member(n: u8) -> Member {
    Member::joining(format!("n{n}").parse().unwrap(), boot(n), "127.0.0.1:1".to_owned(), None)
}

fn ping() -> Packet {
    Packet::Cluster(Frame { from: boot(2), epoch: None, message: membership::Message::Ping })
}

fn boot(n: u8) -> Boot {
    Boot::new([n; 16])
}
