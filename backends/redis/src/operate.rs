//! Administration. Each page and each count scans all keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::cmd;
use steadfast_core::{Event, RecordId, Scan, Scanned, Stats, StoreError};

use crate::codec::{HEAD, Head, Unreadable};
use crate::connection::Server;
use crate::error::Fault;
use crate::reply;
use crate::script_reply::unexpected;
use crate::sessions::{Collected, Sessions};

impl Sessions {
    pub(crate) async fn collect(&self) -> Result<u64, StoreError> {
        let mut collected = 0;
        for id in self.ids().await? {
            let is_expired = match self.endings.get() {
                Some(_) => self.make_due_if_ended(id).await?,
                None => self.collect_one(id).await? == Collected::Expired,
            };
            collected += u64::from(is_expired);
        }
        Ok(collected)
    }

    pub(crate) async fn scan(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Scan, StoreError> {
        let mut ids: Vec<_> =
            self.ids().await?.into_iter().filter(|id| Some(*id) > after).take(limit + 1).collect();
        let next = (ids.len() > limit).then(|| {
            ids.truncate(limit);
            ids.last().copied().or(after)
        });
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            match self.read(id).await? {
                Ok(Some(record)) => records.push(Scanned { id, record: Some(Arc::new(record)) }),
                Ok(None) => {}
                Err(Unreadable::Corrupt(_)) => {
                    Event::CorruptRecord.emit(Some(id));
                    records.push(Scanned { id, record: None });
                }
                Err(Unreadable::Newer(_)) => records.push(Scanned { id, record: None }),
            }
        }
        Ok(Scan { records, next: next.flatten() })
    }

    /// Counts records one by one, which is slow. The bytes are those of keys and values.
    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats::default();
        for server in self.servers.primaries().await? {
            for keys in self.keys_of(&server).await?.chunks(PAGE) {
                let mut commands = redis::pipe();
                for key in keys {
                    commands.cmd("HMGET").arg(key).arg(&HEAD);
                }
                let heads = server.ask_all(&commands).await?.into_iter().map(reply::items);
                for head in heads.filter_map(|fields| Head::of(&fields)) {
                    stats.records += 1;
                    stats.bytes += head.bytes as u64;
                    stats.authenticated += u64::from(head.record.principal.is_some());
                }
            }
        }
        Ok(stats)
    }

    /// Returns the ids of all stored records.
    async fn ids(&self) -> Result<BTreeSet<RecordId>, StoreError> {
        let mut ids = BTreeSet::new();
        for server in self.servers.primaries().await? {
            let keys = self.keys_of(&server).await?;
            ids.extend(keys.iter().filter_map(|key| self.prefix.id_of(key)));
        }
        Ok(ids)
    }

    /// Returns the names of all records on a server, each once.
    async fn keys_of(&self, server: &Server) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.prefix.records()).arg("COUNT").arg(PAGE);
            let mut page = reply::items(server.ask(&scan).await?).into_iter();
            cursor = page.next().and_then(reply::text).ok_or_else(unexpected)?;
            let found = page.next().map(reply::items).ok_or_else(unexpected)?;
            keys.extend(found.iter().filter_map(reply::bytes).map(<[u8]>::to_vec));
            if cursor == "0" {
                return Ok(keys.into_iter().collect());
            }
        }
    }
}

/// Returns a server's policy for full memory, if it reports it.
pub(crate) async fn eviction(server: &Server) -> Result<Option<String>, Fault> {
    let answer = server.ask(cmd("INFO").arg("memory")).await?;
    let info = reply::text(answer).unwrap_or_default();
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    Ok(policy.map(|policy| policy.trim().to_owned()))
}

/// The number of keys that a server scans at a time.
const PAGE: usize = 1_000;
