//! `memory:`: the store in the process.

use steadfast_core::Env;
use steadfast_memory::MemoryStore;

use super::error::ConnectError;
use super::url::Url;

pub(super) fn open(mut url: Url, env: Env) -> Result<MemoryStore, ConnectError> {
    url.has_no_address()?;
    let [anonymous, authenticated] = url.take_budgets()?;
    url.has_no_other_setting()?;
    Ok(MemoryStore::builder().env(env).anonymous(anonymous).authenticated(authenticated).build())
}
