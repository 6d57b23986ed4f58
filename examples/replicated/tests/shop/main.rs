//! The example as it is run: one command, three nodes, and what the README says to try.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod example;
mod readme;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use testkit::Shopper;

use crate::example::{Example, send};

#[tokio::test]
async fn each_node_counts_the_same_visitor() {
    let example = Example::start().await;
    let visitor = example.visitor();
    let mut served = BTreeSet::new();
    for visit in 1..=9 {
        let page = visitor.page().await.expect("every node serves");
        assert_eq!(page.visits, visit);
        served.insert(page.node);
    }
    assert_eq!(served.into_iter().collect::<Vec<_>>(), ["n1", "n2", "n3"]);
}

#[tokio::test]
async fn a_session_survives_the_crash_of_its_node() {
    let mut example = Example::start().await;
    let visitor = example.visitor();
    visitor.signs_in("alice").await;
    let before = visitor.page().await.unwrap();
    let owner = visitor.owner();
    send("KILL", example.nodes[&owner]);
    assert!(example.says(&owner).await.contains("SIGKILL"));

    let after = visitor.page_after_outage(&before).await;
    assert_eq!(after.user.as_deref(), Some("alice"));
    for visit in after.visits + 1..=after.visits + 4 {
        let page = visitor.page().await.expect("the outage is over");
        assert_eq!(page.visits, visit);
        assert_ne!(page.node, owner);
    }
    assert!(example.says(&owner).await.contains("is process"));
    let mut served = BTreeSet::new();
    let last = visitor.page().await.unwrap().visits;
    for visit in last + 1..=last + 3 {
        let page = visitor.page().await.expect("a node that joins disturbs nobody");
        assert_eq!(page.visits, visit);
        served.insert(page.node);
    }
    assert!(served.contains(&owner), "{served:?}");
}

#[tokio::test]
async fn a_session_outlives_its_owner() {
    let mut example = Example::start().await;
    let shopper = Shopper::new(&example.address);
    let page = shopper.signs_in_with_a_tea().await;
    let route = shopper.route();
    let (owner, backup) = route.split_once('.').expect("an owner and a backup");
    page.says(&format!("{owner} (owner) and {backup} (backup) hold your session."));

    let page = shopper.orders(&page, owner, "stop").await;
    page.says(&format!("{owner} was stopped. {} serves you now.", page.node()));
    page.says(
        "Your session survived. You are still signed in as alice, and the basket still has 1 tea.",
    );
    assert!(example.says(owner).await.contains("SIGKILL"));
    let page = shopper.orders(&page, owner, "start").await;
    page.says(&format!("{owner} runs again."));
    page.says("Hello, alice.");
    assert!(example.says(owner).await.contains("is process"));
}

#[tokio::test]
async fn a_graceful_stop_fails_no_request() {
    let mut example = Example::start().await;
    let visitor = example.visitor();
    let first = visitor.page().await.unwrap();
    let owner = visitor.owner();
    send("TERM", example.nodes[&owner]);
    for visit in first.visits + 1..=first.visits + 50 {
        assert_eq!(visitor.page().await.expect("no request fails").visits, visit);
    }
    let ended = example.says(&owner).await;
    assert!(ended.contains("exit status: 0"), "{ended}");
}

#[tokio::test]
async fn the_secret_file_is_private_and_removed() {
    for signal in ["INT", "TERM"] {
        let mut example = Example::start().await;
        let secret = example.secret();
        let mode = secret.metadata().unwrap().permissions().mode();
        assert_eq!((mode & 0o777, secret.metadata().unwrap().len()), (0o600, 32));
        // A process that serves pages also handles signals.
        example.visitor().page().await.unwrap();
        send(signal, example.id());
        assert!(example.ended().await.success());
        assert!(!secret.parent().unwrap().exists());
        example.has_no_process_left().await;
    }
}

#[tokio::test]
async fn no_node_outlives_a_service_that_was_killed() {
    let mut example = Example::start().await;
    send("KILL", example.id());
    example.ended().await;
    example.has_no_process_left().await;
}
