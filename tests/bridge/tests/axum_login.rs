//! The tests of axum-login 0.18 that open a store, over a bridge.

#![allow(missing_docs, unreachable_pub, clippy::all)]
#![allow(clippy::unwrap_used, reason = "they are tests of others")]

extern crate tower_sessions_0_14 as tower_sessions;

macro_rules! middleware_over {
    ($($store:ident),+) => {
        $(mod $store {
            async fn session_store() -> steadfast::Bridge {
                Box::leak(Box::new(bridge::Service::$store().await)).bridge()
            }

            mod tests {
                include!(concat!(env!("OUT_DIR"), "/axum_login.rs"));
            }
        })+
    };
}

middleware_over!(memory, sticky, redis, postgres, replicated);
