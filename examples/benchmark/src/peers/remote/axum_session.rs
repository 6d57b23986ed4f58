//! axum_session with its stores over redis_pool and sqlx. It also caches sessions in the process,
//! for an hour.

use std::fmt::Debug;

use ::axum_session::{DatabasePool, Session, SessionConfig, SessionLayer, SessionStore};
use axum::Router;
use axum_session_redispool::SessionRedisPool;
use axum_session_sqlx::SessionPgPool;
use redis_pool::SingleRedisPool;
use sqlx_of_axum_session::PgPool;

use super::Opening;
use crate::cases::routes;

pub(super) fn with_redis(url: String) -> Opening {
    Box::pin(async move {
        let pool = SingleRedisPool::from(redis::Client::open(url)?);
        over(SessionRedisPool::from(pool)).await
    })
}

pub(super) fn with_postgres(url: String) -> Opening {
    Box::pin(async move { over(SessionPgPool::from(PgPool::connect(&url).await?)).await })
}

async fn over<P>(pool: P) -> anyhow::Result<Router>
where
    P: DatabasePool + Clone + Debug + Send + Sync + 'static,
{
    let store = SessionStore::new(Some(pool), SessionConfig::default()).await?;
    Ok(routes::<Session<P>>().layer(SessionLayer::new(store)))
}
