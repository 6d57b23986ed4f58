//! Tests of the cluster that a node shows on the control port.

use serde_json::{Value, json};
use testkit::{Cluster, eventually};

#[tokio::test]
async fn each_node_shows_the_members_and_its_slots() {
    let cluster = Cluster::start(2, "copies=1&acks=all").await;
    eventually(async || served(&cluster).await == SLOTS).await;
    let shown = cluster.node(0).told("/cluster").await;
    assert_eq!((&shown["node"], &shown["problem"]), (&json!("n1"), &Value::Null));
    assert!(shown["epoch"]["number"].as_u64() > Some(0), "{shown}");
    assert_eq!(shown["settings"], json!({ "copies": "1", "acks": "all" }));
    let members = shown["members"].as_array().unwrap();
    let named: Vec<_> = members.iter().map(|member| (&member["name"], &member["role"])).collect();
    assert_eq!(named, [(&json!("n1"), &json!("full")), (&json!("n2"), &json!("full"))]);
    assert_eq!(members[0].get("linked"), None, "the node does not reach itself");
    assert_eq!((&members[1]["linked"], &members[1]["suspected_by"]), (&json!(true), &json!([])));
    assert_eq!(shown["slots"]["given_up"], 0);
}

#[tokio::test]
async fn a_lost_node_is_shown_aside() {
    let mut cluster = Cluster::start(3, "copies=1").await;
    cluster.kill(1).await;
    eventually(async || {
        let shown = cluster.node(0).told("/cluster").await;
        let lost = &shown["members"][1];
        (&lost["role"], &lost["linked"]) == (&json!("aside"), &json!(false))
    })
    .await;
    let page = cluster.node(0).control_page("/cluster").await.ok();
    assert!(page.body.contains("<b>n2</b><span class=\"this\">aside</span>"), "{}", page.body);
    assert!(page.body.contains("no direct link"), "{}", page.body);
}

#[tokio::test]
async fn the_page_shows_names_as_text() {
    let cluster = Cluster::start(1, "zone=%3Cimg%20src=x%3E").await;
    let page = cluster.node(0).control_page("/cluster").await.ok();
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(
        (page.header("vary"), page.header("cache-control")),
        (Some("accept"), Some("no-store"))
    );
    assert!(page.body.contains("<h1>n1</h1>") && page.body.contains("zone &lt;img src=x&gt;"));
    assert!(!page.body.contains("<img"), "{}", page.body);
    for external in ["http:", "https:", "src=\"", "<script"] {
        assert!(!page.body.contains(external), "{external}: {}", page.body);
    }
}

/// The slots that the nodes serve together.
async fn served(cluster: &Cluster) -> u64 {
    let mut served = 0;
    for n in 0..2 {
        let shown = cluster.node(n).told("/cluster").await;
        served += shown["slots"]["served"].as_u64().unwrap();
    }
    served
}

const SLOTS: u64 = 4_096;
