//! The application and its identity provider, in one process, with sessions in memory.
//!
//! `cargo run -p example-administration [ADDRESS]`, `127.0.0.1:3000` by default; Ctrl-C ends it.

use example_administration::audit::{self, Audit};
use example_administration::issuer::Issuer;
use example_administration::{Provider, Realms, router};
use ring::rand::{SystemRandom, generate};
use steadfast::MemoryStore;
use tokio::io::{stderr, stdout};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let provider = provide(&format!("http://{}", listener.local_addr()?)).await?;
    let (audit, queue) = Audit::new();
    let writer = tokio::spawn(audit::write(queue, stdout(), stderr()));
    let realms = Realms::over(MemoryStore::new(), &audit)?;

    let password = password()?;
    println!("/admin has the password {password}");
    let app = router(&realms, provider, &password);
    let users = realms.users.clone();
    example_app::serve(listener, app, users, example_app::ctrl_c()).await?;
    realms.join().await;
    // The last ways into the log: its writer ends when it has written what is left.
    drop((realms, audit));
    Ok(writer.await??)
}

/// Starts the provider of the users of an application.
async fn provide(application: &str) -> anyhow::Result<Provider> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let issuer = Issuer::new(&url)?;
    let served = axum::serve(listener, issuer.router(application));
    tokio::spawn(async move { served.await });
    Ok(Provider::new(&url, format!("{url}/keys").parse()?, Issuer::CLIENT))
}

/// A fresh password for every start; a real application knows its administrators.
fn password() -> anyhow::Result<String> {
    let random = generate::<[u8; 12]>(&SystemRandom::new());
    let random = random.map_err(|_| anyhow::anyhow!("no randomness"))?.expose();
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
