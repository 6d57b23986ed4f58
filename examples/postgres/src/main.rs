//! The shop on several nodes: sessions live in PostgreSQL, and no node keeps any.
//!
//! `DATABASE=postgres://user:password@host/shop cargo run -p example-postgres [ADDRESS]`,
//! `127.0.0.1:3000` by default; Ctrl-C ends it. Several hosts with commas between them are one database
//! that fails over. Here the application makes its tables itself; in production their owner does.

use anyhow::Context;
use steadfast::{PostgresStore, SessionLayer};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let database = std::env::var("DATABASE").context("DATABASE is not set")?;
    let builder = PostgresStore::builder(&database);
    builder.migrate().await?;
    let sessions = SessionLayer::new(builder.build().await?);
    let app = example_app::router().layer(sessions.clone());

    let listener = TcpListener::bind(&address).await?;
    example_app::serve(listener, app, sessions, example_app::ctrl_c()).await?;
    Ok(())
}
