//! The program ends within its stated time, also with a stream open.

#![allow(missing_docs, clippy::unwrap_used)]

use testkit::Example;
use testkit::redis::Redis;
use tokio::process::Command;

#[tokio::test]
async fn an_open_stream_does_not_block_shutdown() {
    let redis = Redis::start();
    let mut program = Command::new(env!("CARGO_BIN_EXE_example-redis"));
    program.arg("127.0.0.1:0").arg(redis.url());
    let ended = Example::start(&mut program).await.ends_with_a_stream_open().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.last_event, Some(("ended".to_owned(), "shutdown".to_owned())));
    assert!(ended.took < 2 * example_app::PATIENCE, "{ended:?}");
}
