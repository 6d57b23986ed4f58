//! tower-sessions with its stores over fred and sqlx, in the version that these stores support.

use sqlx::PgPool;
use tower_sessions_of_stores::{Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Client, ClientLike, Config};
use tower_sessions_sqlx_store::PostgresStore;

use super::Opening;
use crate::cases::routes;

pub(super) fn with_redis(url: String) -> Opening {
    Box::pin(async move {
        let client = Client::new(Config::from_url(&url)?, None, None, None);
        client.init().await?;
        Ok(routes::<Session>().layer(SessionManagerLayer::new(RedisStore::new(client))))
    })
}

pub(super) fn with_postgres(url: String) -> Opening {
    Box::pin(async move {
        let store = PostgresStore::new(PgPool::connect(&url).await?);
        store.migrate().await?;
        Ok(routes::<Session>().layer(SessionManagerLayer::new(store)))
    })
}
