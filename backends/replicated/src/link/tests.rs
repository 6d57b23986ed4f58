use steadfast_core::{Change, EndReason, Env, Limits, RecordId};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::engine::Config;
use crate::engine::config::{Acks, Copies};

#[tokio::test]
async fn a_queue_that_is_full_ends_the_link_and_the_engine_hears_of_it() {
    let (links, node) = node("n1");
    let (mut changes, _) = node.listen();
    let mut silent = linked(&links, &node, "n2", None);
    let message = || {
        Message::Changes(vec![
            Change::Ended(RecordId::from_bytes([1; 16]), EndReason::Logout);
            20_000
        ])
    };
    let peer = name("n2");
    while links.lock().links[&peer].is_up() {
        links.send(&peer, message());
    }
    links.send(&peer, message());
    silent.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(changes.recv().await, Ok(Change::Down), "that of the link that is lost");
    assert!(links.lock().links.is_empty());
}

#[tokio::test]
async fn gossip_that_is_none_ends_the_link() {
    let (links, node) = node("n1");
    let mut peer = linked(&links, &node, "n2", None);
    write_frame(&mut peer, &wire::encode_gossip(&[0xff; 40])).await.unwrap();
    peer.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cl_07_a_flood_of_empty_frames_ends_the_link_and_signs_of_life_do_not() {
    let (links, node) = node("n1");
    let mut peer = linked(&links, &node, "n2", None);
    for _ in 0..1_000 {
        write_frame(&mut peer, &[]).await.unwrap();
        tokio::time::sleep(SPEAK_EVERY).await;
    }
    assert!(links.lock().links[&name("n2")].is_up());
    let flood = async { while write_frame(&mut peer, &[]).await.is_ok() {} };
    tokio::time::timeout(SILENT_FOR, flood).await.expect("nobody reads it any more");
}

#[tokio::test]
async fn what_still_comes_over_a_link_that_was_replaced_is_not_taken() {
    let (links, node) = node("n1");
    let _replaced = linked(&links, &node, "n2", Some(Vec::new()));
    let number = links.lock().links[&name("n2")].number;
    let _link = linked(&links, &node, "n2", Some(Vec::new()));
    let body = wire::encode(&Message::Unsettled(Vec::new()));
    assert!(links.take(&node, &name("n2"), number, &body).is_err());
    assert!(links.take(&node, &name("n2"), number + 1, &body).is_ok());
}

#[tokio::test]
async fn of_two_links_that_cross_the_one_dialled_by_the_first_name_stays() {
    for (me, is_first) in [("n1", true), ("n3", false)] {
        let (links, node) = node(me);
        let _dialled = linked(&links, &node, "n2", None);
        let _accepted = linked(&links, &node, "n2", Some(Vec::new()));
        let stayed = links.lock().links[&name("n2")].number;
        assert_eq!(stayed, if is_first { 0 } else { 1 }, "at {me}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_dials_again_has_lost_its_link() {
    let (links, node) = node("n1");
    let _lost = linked(&links, &node, "n2", None);
    tokio::time::advance(CROSS_WITHIN).await;
    let _accepted = linked(&links, &node, "n2", Some(Vec::new()));
    assert_eq!(links.lock().links[&name("n2")].number, 1);
}

#[tokio::test]
async fn a_second_address_of_a_peer_makes_no_second_link() {
    let (links, node) = node("n1");
    let (mut changes, _) = node.listen();
    let _link = linked(&links, &node, "n2", None);
    let mut other = linked(&links, &node, "n2", None);
    other.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(links.lock().links[&name("n2")].number, 0);
    assert!(is_quiet(&mut changes));
}

#[tokio::test]
async fn cl_06_the_oldest_stranger_makes_room() {
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
async fn who_is_refused_as_a_peer_is_told_apart() {
    let (links, node) = node("n1");
    let peer = Hello { name: name("n2"), ..links.hello(&node) };
    assert_eq!(links.examine(&node, &peer), Ok(()));
    let ahead = peer.wall + MAX_SKEW.as_millis() as u64;
    let refused = [
        (Hello { cluster: "forum".into(), ..peer.clone() }, "it belongs to the service \"forum\""),
        (Hello { protocol: 1, ..peer.clone() }, "it speaks protocol 1, and this node speaks 2"),
        (Hello { name: name("n1"), ..peer.clone() }, "it has the name of this node"),
        (Hello { wall: ahead + 60_000, ..peer.clone() }, "its clock differs"),
        (Hello { wall: 0, ..peer }, "its clock differs"),
    ];
    for (hello, why) in refused {
        let refusal = links.examine(&node, &hello).unwrap_err().to_string();
        assert!(refusal.starts_with(why), "{refusal}");
    }
}

#[tokio::test]
async fn another_node_of_the_same_name_is_no_peer_and_this_one_is_nobody_to_refuse() {
    let (links, node) = node("n1");
    for (address, is_refused) in [("127.0.0.1:1", false), ("127.0.0.1:2", true)] {
        let (stream, mut other) = duplex(1 << 10);
        let hello = Hello { address: address.to_owned(), ..links.hello(&node) };
        write_frame(&mut other, &hello.encode()).await.unwrap();
        let dialled = links.greet_dialled(stream, address).await;
        assert_eq!(dialled.is_err(), is_refused, "{address}");
    }
    assert!(links.lock().links.is_empty());
}

/// A node without peers.
fn node(of: &str) -> (Arc<Links>, Arc<Node>) {
    let config = Config {
        copies: Copies::default(),
        acks: Acks::default(),
        drain_as: Default::default(),
        partition: None,
        limits: Limits::default(),
        budgets: Default::default(),
        expects_peers: false,
        without: None,
    };
    let node = Node::new(name(of), config, Env::system()).unwrap();
    let address = "127.0.0.1:1".to_owned();
    let links = Links::new(&node, "default".to_owned(), address, Vec::new(), None).unwrap();
    (links, node)
}

/// The other end of a link to a peer: dialled by this node, or by the peer, with its first frame.
fn linked(links: &Arc<Links>, node: &Node, peer: &str, first: Option<Vec<u8>>) -> DuplexStream {
    let (stream, other) = duplex(1 << 10);
    let hello = Hello { name: name(peer), address: format!("{peer}:1"), ..links.hello(node) };
    links.register(node, stream, &hello, first);
    other
}

fn is_quiet(changes: &mut Receiver<Change>) -> bool {
    changes.try_recv() == Err(TryRecvError::Empty)
}

fn name(name: &str) -> Name {
    name.parse().unwrap()
}
