//! A chat: what a user has open ends with their session, whichever node they sign out on.
//!
//! `cargo run -p example-chat [ADDRESS [URL]]`, `127.0.0.1:3000` and `memory:` by default; Ctrl-C ends it.
//! With the URL of a Redis, run it twice, on two ports, and sign out on one of them.

mod routes;
mod member;
mod room;

use steadfast::SessionLayer;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let url = arguments.next().unwrap_or_else(|| "memory:".to_owned());
    let sessions = SessionLayer::new(steadfast::connect(&url).await?);
    let app = routes::router().layer(sessions.clone());

    let listener = TcpListener::bind(&address).await?;
    example_app::serve(listener, app, sessions, example_app::ctrl_c()).await?;
    Ok(())
}
