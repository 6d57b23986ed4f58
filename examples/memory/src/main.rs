//! The shop on one node: sessions live in this process, within their budgets, and end with it.
//!
//! `cargo run -p example-memory [ADDRESS]`, `127.0.0.1:3000` by default; Ctrl-C ends it.

use steadfast::{MemoryStore, SessionLayer};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let sessions = SessionLayer::new(MemoryStore::new());
    let app = example_app::router().layer(sessions.clone());

    let listener = TcpListener::bind(&address).await?;
    example_app::serve(listener, app, sessions, example_app::ctrl_c()).await
}
