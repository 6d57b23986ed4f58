//! The shop on any number of nodes: sessions live in Redis, and survive every one of them.
//!
//! `cargo run -p example-redis [ADDRESS [URL]]`, `127.0.0.1:3000` and `redis://127.0.0.1:6379` by
//! default; Ctrl-C ends it. Run it twice, on two ports, and see one cart.

use steadfast::SessionLayer;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let sessions = SessionLayer::new(steadfast::connect(&url).await?);
    let app = example_app::router().layer(sessions.clone());

    let listener = TcpListener::bind(&address).await?;
    example_app::serve(listener, app, sessions, example_app::ctrl_c()).await?;
    Ok(())
}
