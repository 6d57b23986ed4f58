//! `sticky:`: sessions on their node, over the store of another URL.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use steadfast_core::{Env, RouteLabel, RouteLabelError};
use steadfast_sticky::{StickyStore, StickyStoreBuilder};

use super::build;
use super::error::ConnectError;
use super::url::{Url, YesNo};

pub(super) async fn open(
    mut url: Url,
    env: Env,
    node: Option<RouteLabel>,
) -> Result<StickyStore, ConnectError> {
    url.has_no_address()?;
    let node = node.ok_or_else(|| ConnectError::NoNode { scheme: url.scheme.clone() })?;
    let backup = url.take::<String>("backup", "the URL of a store")?;
    let builder = settings(&mut url, StickyStore::builder(node.clone()))?;
    url.has_no_other_setting()?;
    let builder = builder.env(env.clone());
    let Some(backup) = backup else { return Ok(builder.build()) };
    let backup = Box::pin(build(Url::parse(&backup)?, env, Some(node))).await?;
    Ok(builder.backup(backup).build())
}

fn settings(
    url: &mut Url,
    mut builder: StickyStoreBuilder,
) -> Result<StickyStoreBuilder, ConnectError> {
    if let Some(Labels(peers)) = url.take("peers", "route labels with commas between them")? {
        builder = builder.peers(peers);
    }
    if let Some(YesNo(follow)) = url.take("changes", "yes or no")? {
        builder = builder.follow_changes(follow);
    }
    if let Some(millis) = url.take("recheck-ms", "a whole number of milliseconds")? {
        builder = builder.recheck(Duration::from_millis(millis));
    }
    if let Some(millis) = url.take::<NonZeroU64>("write-behind-ms", "milliseconds, at least 1")? {
        builder = builder.write_behind(Duration::from_millis(millis.get()));
    }
    if let Some(millis) = url.take("drain-ms", "a whole number of milliseconds")? {
        builder = builder.drain_within(Duration::from_millis(millis));
    }
    if let Some(bytes) = url.take::<NonZeroU64>("copies-bytes", "a whole number from 1")? {
        builder = builder.copies(bytes.get());
    }
    Ok(builder)
}

struct Labels(Vec<RouteLabel>);

impl FromStr for Labels {
    type Err = RouteLabelError;

    fn from_str(labels: &str) -> Result<Self, Self::Err> {
        labels.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use steadfast_core::SessionStore;

    use super::*;
    use crate::connect::Connect;

    #[tokio::test]
    async fn a_backup_is_any_other_store() {
        for url in [
            "sticky:",
            "sticky:?backup=memory:",
            "sticky:?backup=memory:%3Fanonymous-records%3D7%26anonymous-bytes%3D1000",
            "sticky:?backup=memory:&peers=n1,n2&changes=no&recheck-ms=0&write-behind-ms=5&drain-ms=0",
            "sticky:?backup=sticky:%3Fbackup%3Dmemory:&copies-bytes=1000000",
        ] {
            assert!(open(url).await.is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_node_without_a_label_is_refused() {
        let opened = Connect::new("sticky:").open().await;
        let said = opened.map(drop).unwrap_err().to_string();
        assert_eq!(said, r#"the store "sticky" needs the label of this node"#);
    }

    #[tokio::test]
    async fn what_a_setting_wants_is_said() {
        for (url, says) in [
            ("sticky:?peers=n1,n.2", r#"invalid value for "peers": expected route labels"#),
            ("sticky:?changes=some", r#"invalid value for "changes": expected yes or no"#),
            (
                "sticky:?write-behind-ms=0",
                r#"invalid value for "write-behind-ms": expected milliseconds"#,
            ),
            ("sticky:?backup=nowhere:", r#"unknown scheme "nowhere""#),
            ("sticky:?backup=memory:%3Fx=1", r#"the store "memory" has no setting "x""#),
        ] {
            let said = open(url).await.map(drop).unwrap_err().to_string();
            assert!(said.starts_with(says), "{url}: {said}");
        }
    }

    #[tokio::test]
    async fn the_store_tells_its_label() {
        assert!(open("sticky:?backup=memory:").await.unwrap().places_sessions());
    }

    async fn open(url: &str) -> Result<std::sync::Arc<dyn steadfast_core::Store>, ConnectError> {
        let node = "n1".parse().expect("a plain label");
        Connect::new(url).node(node).open().await
    }
}
