//! Runs one step of the port: `cargo run -p example-migration [before | bridged | after]`.

use example_migration::{after, before, bridged};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = match std::env::args().nth(1).as_deref() {
        Some("before") => before::router(),
        Some("bridged") => bridged::router(),
        _ => after::router(),
    };
    axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app).await
}
