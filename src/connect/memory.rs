//! `memory:`: the store in the process.

use std::num::NonZeroU64;

use steadfast_core::Env;
use steadfast_memory::{Budget, MemoryStore};

use super::error::ConnectError;
use super::url::Url;

pub(super) fn open(mut url: Url, env: Env) -> Result<MemoryStore, ConnectError> {
    url.has_no_address()?;
    let mut number = |name| url.take::<NonZeroU64>(name, "a whole number from 1");
    let mut budget = |default: Budget, records, bytes| {
        Ok::<_, ConnectError>(Budget {
            records: number(records)?.map_or(default.records, NonZeroU64::get),
            bytes: number(bytes)?.map_or(default.bytes, NonZeroU64::get),
        })
    };
    let anonymous = budget(Budget::ANONYMOUS, "anonymous-records", "anonymous-bytes")?;
    let authenticated =
        budget(Budget::AUTHENTICATED, "authenticated-records", "authenticated-bytes")?;
    url.has_no_other_setting()?;
    Ok(MemoryStore::builder().env(env).anonymous(anonymous).authenticated(authenticated).build())
}
