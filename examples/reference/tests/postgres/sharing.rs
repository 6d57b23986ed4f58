//! Tests of one session that requests on different nodes use.

use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn overlapping_writes_of_three_nodes_are_complete() {
    let service = Service::alone().await;
    let client = service.member("alice").await;

    let held = (0..64).map(|n| {
        let tab = client.fork().at(&service.nodes[n % 3]);
        let path = format!("/gate?g=all&mode=write&load=1&k=k{n}&v={n}");
        tokio::spawn(async move { tab.post(&path).await.ok() })
    });
    let held: Vec<_> = held.collect();
    for (node, requests) in service.nodes.iter().zip([22, 21, 21]) {
        node.waiting("all", requests).await;
    }
    for node in &service.nodes {
        node.order("/gate/release?g=all").await;
    }
    for request in held {
        request.await.unwrap();
    }
    for n in 0..64 {
        let tab = client.fork().at(&service.nodes[(n + 1) % 3]);
        assert_eq!(tab.get(&format!("/get?k=k{n}")).await.ok().json(), json!({ "value": n }));
    }

    client.send("DELETE", "/key?k=k0", &[], "").await.ok();
    let increments = (0..100).map(|n| {
        let tab = client.fork().at(&service.nodes[n % 3]);
        tokio::spawn(async move { tab.post("/incr").await.ok() })
    });
    for increment in increments.collect::<Vec<_>>() {
        increment.await.unwrap();
    }
    assert_eq!(client.peek().await["n"], 100);
}

#[tokio::test]
async fn what_one_node_does_every_node_knows() {
    let service = Service::alone().await;
    let (alice, phone) = (service.member("alice").await, service.member("alice").await);
    let old = alice.fork();
    assert_eq!(service.users(&alice).await, vec![Some("alice".to_owned()); 3]);

    alice.at(&service.nodes[1]).post("/cycle").await.ok();
    assert_eq!(service.users(&old).await, vec![None; 3]);
    assert_eq!(service.users(&alice).await, vec![Some("alice".to_owned()); 3]);

    alice.at(&service.nodes[2]).post("/logout-others").await.ok();
    assert_eq!(service.users(&phone).await, vec![None; 3]);
    let copy = alice.fork();
    alice.at(&service.nodes[1]).post("/logout").await.ok();
    assert_eq!(service.users(&copy).await, vec![None; 3]);
}

/// Shows AR-01.
#[tokio::test]
async fn the_database_holds_no_issued_token() {
    let service = Service::alone().await;
    let mut tokens = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let client = service.member(user).await;
        client.post("/cycle").await.ok();
        let cookies = client.cookies();
        tokens.push(cookies.split_once('=').unwrap().1[22..].to_owned());
    }
    let dump = service.primary.dump("shop");
    assert!(dump.contains("alice"), "the dump has the sessions");
    for token in tokens {
        assert!(!dump.contains(&token), "a secret is in the dump");
    }
}

/// Shows IN-06.
#[tokio::test]
async fn a_corrupt_record_is_counted_and_kept() {
    let service = Service::alone().await;
    let client = service.member("alice").await;
    let sql = |sql| service.primary.sql("postgres", "shop", sql);
    sql("UPDATE steadfast.sessions SET values = '[1]'");
    assert_eq!(service.users(&client).await, vec![None; 3]);
    client.fork().post("/incr").await.ok();
    for node in &service.nodes {
        assert!(node.told("/events").await["corrupt_record"].as_u64() >= Some(1));
    }
    let corrupt = "SELECT values FROM steadfast.sessions WHERE jsonb_typeof(values) = 'array'";
    assert_eq!(sql(corrupt), "[1]");
}
