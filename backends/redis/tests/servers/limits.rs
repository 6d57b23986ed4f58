//! Records under limits that were lowered.

use steadfast_core::{
    LimitError, Limits, Outcome, Patch, RawJson, Rejection, RequestHint, SessionStore,
};
use testkit::redis::Redis;

use crate::fixture::{Visitor, builder, on};

#[tokio::test]
async fn a_record_over_a_lowered_limit_may_shrink() {
    let server = Redis::start();
    let same = || builder().prefix("steadfast:limits".parse().unwrap());
    let before = on(&server, same());
    let id = Visitor::arrive(&before).await.id;
    let put = |key: &str, value: &str| {
        let mut patch = Patch::new();
        patch.put(key, RawJson::encode(&value).unwrap()).unwrap();
        patch
    };
    before.update(id, &put("a", &"x".repeat(40)), &RequestHint::default()).await.unwrap();
    before.update(id, &put("b", "yy"), &RequestHint::default()).await.unwrap();
    let limits = Limits { keys: 1, record_bytes: 20, ..Limits::default() };
    let after = on(&server, same().limits(limits));
    let update =
        async |patch: Patch| after.update(id, &patch, &RequestHint::default()).await.unwrap();
    for fits in [put("a", &"y".repeat(40)), put("b", "y")] {
        let outcome = update(fits).await;
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    }
    let more_keys = update(put("c", "")).await;
    assert!(matches!(more_keys, Outcome::Rejected(Rejection::Limit(LimitError::Keys { .. }))));
    let longer = update(put("b", "yy")).await;
    assert!(matches!(longer, Outcome::Rejected(Rejection::Limit(LimitError::Record { .. }))));
}
