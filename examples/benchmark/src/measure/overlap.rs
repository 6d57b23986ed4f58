//! Overlapping requests of one session: do they lose each other's writes?

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;

use super::runtime;
use crate::cases::Size;
use crate::client::{Client, number};
use crate::peers::{self, LONG, Peer};

#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The number of overlapping requests.
    pub requests: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The number of keys afterwards. Every request wrote its own key.
    pub keys: usize,
    /// The counter afterwards. Every request added one.
    pub count: i64,
}

pub fn run(plan: &Plan) -> anyhow::Result<BTreeMap<String, Kept>> {
    peers::with_sessions()
        .map(|peer| Ok((peer.name().to_owned(), runtime().block_on(kept(plan, peer))?)))
        .collect()
}

async fn kept(plan: &Plan, peer: &dyn Peer) -> anyhow::Result<Kept> {
    let client = Client::new(peer.app(LONG)).with_sessions(1, Size::SMALL).await?;
    let keys: Vec<_> = (0..plan.requests).map(|n| format!("own-{n}")).collect();
    overlap(&client, keys.iter().map(|key| format!("/overlap/put/{key}")).collect()).await?;
    overlap(&client, vec!["/overlap/count".to_owned(); plan.requests]).await?;

    let mut kept = Kept { keys: 0, count: number(client.visit("/has/n").await?).await? - 1 };
    for key in keys {
        let found = number(client.visit(&format!("/has/{key}")).await?).await?;
        kept.keys += usize::from(found == 1);
    }
    Ok(kept)
}

async fn overlap(client: &Client, paths: Vec<String>) -> anyhow::Result<()> {
    let all_have_read = Arc::new(Barrier::new(paths.len()));
    let requests = paths.iter().map(|path| {
        let mut request = client.first(path);
        request.extensions_mut().insert(Arc::clone(&all_have_read));
        client.call(request)
    });
    try_join_all(requests).await.map(drop)
}
