//! Sessions as applications serialize them.

#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::json;
use steadfast_core::{Drained, EndReason, Facts, RecordId, SessionInfo, Stats, Timestamp};

#[test]
fn a_listed_session_shows_rfc_3339_times() {
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
    let at = Timestamp::from_millis;
    let member = SessionInfo::new(id, at(0), Some(at(1_500)), at(3_600_000));
    let shown = serde_json::to_value(&member).unwrap();
    assert_eq!(shown["id"], "67e55044-10b1-426f-9247-bb680e5fe0c8");
    assert_eq!(shown["created"], "1970-01-01T00:00:00Z");
    assert_eq!(shown["authenticated"], "1970-01-01T00:00:01.5Z");
    assert_eq!(shown["deadline"], "1970-01-01T01:00:00Z");
    let visitor = SessionInfo::new(id, at(0), None, at(0));
    assert_eq!(serde_json::to_value(&visitor).unwrap()["authenticated"], json!(null));
}

#[test]
fn a_listed_session_shows_its_labels() {
    let (id, at) = (RecordId::from_bytes([7; 16]), Timestamp::from_millis(0));
    let facts = Facts::of(None, Some(true), [("device", "Firefox on Linux")]).unwrap();
    let info = SessionInfo::new(id, at, None, at).with_facts(at, facts);
    let shown = serde_json::to_value(&info).unwrap();
    assert_eq!(shown["persistent"], true);
    assert_eq!(shown["labels"], json!({ "device": "Firefox on Linux" }));
    assert_eq!(shown["last_used"], json!(null));
}

#[test]
fn a_reason_shows_its_name() {
    for reason in EndReason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
    }
}

#[test]
fn counts_of_a_store_show_their_fields() {
    let stats = Stats { records: 3, authenticated: 2, bytes: 100 };
    let shown = json!({ "records": 3, "authenticated": 2, "bytes": 100 });
    assert_eq!(serde_json::to_value(stats).unwrap(), shown);
    let drained = Drained { moved: 1, lost: 0 };
    assert_eq!(serde_json::to_value(drained).unwrap(), json!({ "moved": 1, "lost": 0 }));
}
