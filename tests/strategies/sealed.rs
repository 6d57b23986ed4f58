//! Values sealed at rest, on every store.

use crate::service::Service;

/// Writes on one node after another, and looks at what every node keeps.
pub async fn no_dump_shows_a_value(service: &Service) {
    let client = service.node(0).client();
    let (value, list) = (format!("\"{MARKER}\""), format!("[\"{MARKER}\"]"));
    for (n, (path, body)) in [
        ("/put?k=created", &value),
        ("/put?k=blind", &value),
        ("/append?k=list", &value),
        ("/login?u=alice", &String::new()),
        ("/put?k=blind", &list),
        ("/append?k=list", &value),
        ("/cycle", &String::new()),
        ("/incr", &String::new()),
    ]
    .into_iter()
    .enumerate()
    {
        client.at(service.node(n)).send("POST", path, &[], body).await.ok();
        for node in &service.nodes {
            let dump = node.control("GET", "/dump").await.ok().body;
            assert!(!dump.contains(MARKER), "{path}");
        }
    }
    for (key, expected) in [("created", &value), ("blind", &list)] {
        let read = client.at(service.node(1)).get(&format!("/get?k={key}")).await.ok().body;
        assert_eq!(read, format!("{{\"value\":{expected}}}"));
    }
    assert_eq!(client.peek().await["n"], 1);
}

/// Fills a session to the last byte, as it counts without seals.
pub async fn limits_count_the_plain_value(service: &Service) {
    let client = service.node(0).client();
    let put = async |key: &str, bytes: usize| {
        let value = format!("\"{}\"", "x".repeat(bytes - 2));
        client.send("POST", &format!("/put?k={key}"), &[], &value).await.status.as_u16()
    };
    assert_eq!(put("a", VALUE + 1).await, 413);
    for key in ["a", "b", "c"] {
        assert_eq!(put(key, VALUE).await, 200, "{key}");
    }
    let left = RECORD - 3 * (VALUE + 1) - 1;
    assert_eq!(put("d", left + 1).await, 500);
    assert_eq!(put("d", left - 2).await, 200);
    client.post("/incr").await.ok();
    assert_eq!(put("e", 2).await, 500);
    assert_eq!(put("a", VALUE - 10).await, 200);
    assert_eq!(put("e", 2).await, 200);
}

/// Every node seals, and accepts nothing else.
pub const ON: &[&str] =
    &["--seal", "k1=1111111111111111111111111111111111111111111111111111111111111111"];

/// No node seals yet.
pub const NOT_YET: &[&str] = &[
    "--seal",
    "none",
    "--seal",
    "k1=1111111111111111111111111111111111111111111111111111111111111111",
];

const MARKER: &str = "marker-6f2b01";
const VALUE: usize = 16 << 10;
const RECORD: usize = 64 << 10;
