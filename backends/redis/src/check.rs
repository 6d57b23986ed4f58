//! A check at startup that the servers can serve the store.

use std::sync::Arc;
use std::time::Duration;

use redis::{Arg, Cmd, cmd};
use steadfast_core::{
    Authentication, Deletion, KeyId, LoginPolicy, Lookup, Outcome, Patch, Principal, Proof, Realm,
    Record, RequestHint, Revocation, Rotation, SecretHash, SessionStore, StoreError,
};

use crate::connection::{Listener, Server};
use crate::error::{CheckError, Fault};
use crate::feed::Message;
use crate::keys::hex;
use crate::operate::eviction;
use crate::reply;
use crate::script::Call;
use crate::script_reply::unexpected;
use crate::store::RedisStore;

impl RedisStore {
    /// Checks that the servers can serve the store: it does once what requests do, on every server
    /// that has records, and removes its traces. This covers every call of the scripts, a session
    /// from its first request to its sign-out, and a subscription to the feed.
    ///
    /// It logs a warning if the server reports a `maxmemory-policy` other than `noeviction`, which
    /// may end sessions early.
    ///
    /// # Errors
    ///
    /// Returns what is missing and the remedy, or the reason why a server does not answer.
    pub async fn check(&self) -> Result<(), CheckError> {
        let servers = self.0.servers.primaries().await;
        for server in servers.map_err(|fault| self.unfit(fault, "CLUSTER SLOTS"))? {
            self.check_server(&server).await?;
        }
        let went = self.sign_in_and_out().await;
        went.map_err(|error| CheckError::of(error, &self.0.user, self.0.prefix.as_str()))
    }

    async fn check_server(&self, server: &Arc<Server>) -> Result<(), CheckError> {
        let key = self.key_on(server)?;
        self.make_calls(server, &key).await?;
        self.ask(server, cmd("HGETALL").arg(&key)).await?;
        self.ask(server, cmd("HMGET").arg(&key).arg(".")).await?;
        self.ask(server, cmd("ZREM").arg(&key).arg("m")).await?;
        if server.can_be_heard() {
            let listening = server.listen().await;
            let listening = listening.map_err(|fault| self.unfit(fault, "SUBSCRIBE"))?;
            let heard = Listener::subscribe(listening, &self.0.prefix.channel()).await;
            heard.map_err(|fault| self.unfit(fault, "SUBSCRIBE"))?;
        }
        self.look_for_earlier_nodes(server).await?;
        warn_of_eviction(server).await;
        Ok(())
    }

    /// Runs a script that makes every call of the scripts once.
    async fn make_calls(&self, server: &Arc<Server>, key: &str) -> Result<(), CheckError> {
        let mut args: Vec<Vec<u8>> = Vec::new();
        for call in CALLS {
            args.push(call.len().to_string().into());
            args.extend(call.iter().map(|word| match *word {
                "KEY" => key.into(),
                "CHANNEL" => self.0.prefix.channel().into(),
                // An echo with numbers that no listener waits for.
                "" => Message::echo(0, 0),
                word => word.into(),
            }));
        }
        let call = self.0.scripts.check.with(key, &args);
        let answer = server.call_again(&call.once()).await;
        let failures = reply::texts(answer.map_err(|fault| self.unfit(fault, "EVAL"))?);
        match failures.chunks_exact(2).next() {
            None => Ok(()),
            Some(failure) => Err(self.unfit(Fault::refused(&failure[1]), &failure[0])),
        }
    }

    async fn ask(&self, server: &Arc<Server>, command: &Cmd) -> Result<(), CheckError> {
        let name = command.args_iter().next().map(|name| match name {
            Arg::Simple(name) => String::from_utf8_lossy(name).into_owned(),
            _ => String::new(),
        });
        let asked = server.call_again(&Call::repeatable(command)).await;
        asked.map(drop).map_err(|fault| self.unfit(fault, &name.unwrap_or_default()))
    }

    /// Returns the name of a missing record that belongs on this server.
    fn key_on(&self, server: &Arc<Server>) -> Result<String, CheckError> {
        for _ in 0..KEYS_TRIED {
            let id = self.mint().map_err(CheckError::Unavailable)?;
            let key = self.0.prefix.record(id);
            if self.0.servers.may_have(key.as_bytes(), server) {
                return Ok(key);
            }
        }
        Err(CheckError::Unavailable(unexpected()))
    }

    /// Nodes of release 0.1 do not know sign-ins, and publish on another channel.
    async fn look_for_earlier_nodes(&self, server: &Arc<Server>) -> Result<(), CheckError> {
        let channel = format!("{}:c", self.0.prefix);
        let question = cmd("PUBSUB").arg("NUMSUB").arg(channel).to_owned();
        // A server that denies the question has no answer to use.
        let answer = server.ask(&question).await.map(reply::items).unwrap_or_default();
        match answer.get(1).and_then(reply::integer) {
            Some(1..) => Err(CheckError::Unfit {
                missing: format!("nodes of release 0.1 use the prefix {}", self.0.prefix),
                remedy: "stop all of them before one of this release starts".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Runs a session from its first request to its sign-out.
    async fn sign_in_and_out(&self) -> Result<(), StoreError> {
        let (id, now) = (self.mint()?, self.env().now());
        let [first, second] = [self.secret()?, self.secret()?];
        let proof = [first, second].map(Proof::from);
        let end = now + Duration::from_secs(60);
        let hint = RequestHint::default();
        let created = self.create(id, Record::new(first, now, end, end), LoginPolicy::default());
        expect(matches!(created.await?, Outcome::Applied(_)))?;
        expect(matches!(self.load(id, Some(&proof[0]), &hint).await?, Lookup::Found(_)))?;
        let mut patch = Patch::touch(end);
        let written = patch.put("check", 1.into()).is_ok() && patch.add("count", 1).is_ok();
        expect(written && matches!(self.update(id, &patch, &hint).await?, Outcome::Applied(_)))?;

        let alice = self.stranger()?;
        let authentication = Authentication {
            at: now,
            absolute_deadline: end,
            principal: Some(alice.clone()),
            facts: None,
            policy: LoginPolicy::default(),
        };
        let mut login = Patch::new();
        let [proof, new_proof] = proof;
        login.rotate(proof, Rotation { hash: second, authentication: Some(authentication) });
        expect(matches!(self.update(id, &login, &hint).await?, Outcome::Applied(_)))?;
        expect(self.list(&alice).await?.len() == 1)?;
        let others = Revocation { except: Some(id), ..Revocation::LOGOUT };
        expect(self.delete_all(&alice, others).await? == 0)?;
        let logout = Deletion { proof: Some(&new_proof), ..Deletion::LOGOUT };
        expect(self.delete(id, &logout).await?.is_ended())
    }

    fn secret(&self) -> Result<SecretHash, StoreError> {
        let mut digest = [0; 32];
        self.env().fill(&mut digest)?;
        Ok(SecretHash::from_parts(KeyId::NONE, digest))
    }

    /// Returns a principal that no user has.
    fn stranger(&self) -> Result<Principal, StoreError> {
        let realm = Realm::new("steadfast-check").expect("the name of the realm fits");
        let name = hex(self.mint()?);
        Ok(Principal::new(realm, &name).expect("hexadecimal digits are a principal's id"))
    }

    fn unfit(&self, fault: Fault, command: &str) -> CheckError {
        CheckError::of_fault(fault, command, &self.0.user, self.0.prefix.as_str())
    }
}

fn expect(is_so: bool) -> Result<(), StoreError> {
    is_so.then_some(()).ok_or_else(unexpected)
}

/// Warns about an eviction policy under which Redis may end sessions when its memory is full.
async fn warn_of_eviction(server: &Server) {
    match eviction(server).await {
        Ok(Some(policy)) if policy != "noeviction" => tracing::warn!(
            target: "steadfast",
            policy,
            "Redis may end sessions early: set maxmemory-policy to noeviction"
        ),
        Ok(_) => {}
        Err(fault) => {
            tracing::debug!(target: "steadfast", ?fault, "failed to read INFO from the server");
        }
    }
}

/// All calls that scripts make, in an order in which each succeeds. A test compares them with the
/// scripts.
const CALLS: [&[&str]; 18] = [
    &["HSET", "KEY", ".", "x"],
    &["HMGET", "KEY", "."],
    &["HGET", "KEY", "."],
    &["HGETALL", "KEY"],
    &["HKEYS", "KEY"],
    &["HSTRLEN", "KEY", "."],
    &["PTTL", "KEY"],
    &["PEXPIRE", "KEY", "60000"],
    &["TYPE", "KEY"],
    &["HDEL", "KEY", "."],
    &["ZADD", "KEY", "1", "m"],
    &["ZCOUNT", "KEY", "-inf", "+inf"],
    &["ZSCORE", "KEY", "m"],
    &["ZRANGEBYSCORE", "KEY", "-inf", "+inf"],
    &["ZREM", "KEY", "m"],
    &["HSET", "KEY", ".", "x"],
    &["DEL", "KEY"],
    &["PUBLISH", "CHANNEL", ""],
];

/// The number of names to try until one belongs on a given server. Clusters have far fewer servers.
const KEYS_TRIED: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_that_a_script_makes_is_checked() {
        let called = [
            include_str!("scripts/record.lua"),
            include_str!("scripts/endings.lua"),
            include_str!("scripts/index.lua"),
            include_str!("scripts/create.lua"),
            include_str!("scripts/update.lua"),
            include_str!("scripts/delete.lua"),
            include_str!("scripts/collect.lua"),
            include_str!("scripts/look.lua"),
            include_str!("scripts/revoke.lua"),
            include_str!("scripts/entries.lua"),
            include_str!("scripts/reserve.lua"),
            include_str!("scripts/resolve.lua"),
            include_str!("scripts/convert.lua"),
            include_str!("scripts/enqueue.lua"),
            include_str!("scripts/claim.lua"),
            include_str!("scripts/settle.lua"),
            include_str!("scripts/publish.lua"),
        ];
        let after = |text: &'static str, from: &'static str| {
            text.split(from).skip(1).filter_map(|rest| rest.split('\'').next())
        };
        let names: BTreeSet<_> = called
            .into_iter()
            .flat_map(|script| {
                ["call('", "pcall('", "call_with('"]
                    .into_iter()
                    .flat_map(move |from| after(script, from))
            })
            .collect();
        let checked: BTreeSet<_> = CALLS.iter().map(|call| call[0]).collect();
        assert_eq!(names, checked);
    }
}
