//! The audit log, and mails about new devices.

use std::time::Duration;

use example_administration::audit::write;
use serde_json::Value;
use steadfast::Login;

use crate::{Node, csrf};

#[tokio::test]
async fn the_log_has_a_line_per_event() {
    let node = Node::alone();
    node.user("alice").await;
    end_all(&node).await;
    let (log, _) = written(node).await;
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<_> = lines.collect();
    let seen = |line: &Value| {
        ["realm", "event", "user"]
            .map(|field| line[field].as_str().map(str::to_owned))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        lines.iter().map(seen).collect::<Vec<_>>(),
        [
            "session created alice",
            "session signed_in alice",
            "admin created root",
            "admin signed_in root",
            "session all_ended alice",
        ]
    );
    let by_root = serde_json::json!({ "administrator": "root" });
    assert_eq!((&lines[4]["count"], &lines[4]["by"]), (&1.into(), &by_root));
}

#[tokio::test(start_paused = true)]
async fn the_log_has_expired_sessions_of_users() {
    let node = Node::alone();
    node.user("alice").await;
    node.administrator().await;
    node.site.clock().advance(Duration::from_secs(31 * 60));
    // Longer than the longest pause between two reports; the time is not lived through.
    tokio::time::sleep(Duration::from_secs(13)).await;
    let (log, _) = written(node).await;
    let ended = log.lines().filter(|line| line.contains("\"reason\":\"expired\"")).count();
    assert_eq!(ended, 2, "{log}");
}

#[tokio::test]
async fn a_mail_is_sent_per_new_device() {
    let node = Node::alone();
    for device in ["Firefox on Linux", "Firefox on Linux", "Safari on iPhone"] {
        node.user(Login::new("alice").label("sid", "s1").label("device", device)).await;
        node.realms.join().await;
    }
    node.user(Login::new("alice").label("sid", "s2")).await;
    let (_, mails) = written(node).await;
    let expected = ["Firefox on Linux", "Safari on iPhone"]
        .map(|device| format!("Mail to alice: new sign-in from {device}\n"));
    assert_eq!(mails, expected.concat());
}

/// Ends all sessions of a user, on the page.
async fn end_all(node: &Node) {
    let admin = node.administrator().await;
    let page = admin.get("/admin").await.ok();
    let form = format!("csrf={}&user=alice", csrf(page.text()));
    admin.post_form("/admin/end-all", &form).await.ok();
}

/// Stops a node, and returns its log and mails.
async fn written(node: Node) -> (String, String) {
    node.realms.join().await;
    let Node { realms, site, queue } = node;
    drop((realms, site));
    let (mut log, mut mails) = (Vec::new(), Vec::new());
    write(queue, &mut log, &mut mails).await.unwrap();
    (String::from_utf8(log).unwrap(), String::from_utf8(mails).unwrap())
}
