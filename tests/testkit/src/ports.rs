//! Addresses and directories for servers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpListener;

/// Returns a free address.
pub async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Free addresses on a host of loopback that no other process listens on or connects from, so that a server
/// that ended finds its ports free when it returns.
pub fn own_addresses<const N: usize>() -> [String; N] {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // The first 64 of the 256 networks of loopback are left to others.
    let own = (std::process::id() << 8 | number & 0xff) & 0x3f_ffff;
    let host = format!("127.{}.{}.{}", 64 + (own >> 16), own >> 8 & 0xff, own & 0xff);
    let listeners = [(); N].map(|()| std::net::TcpListener::bind((host.as_str(), 0)).unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().to_string())
}

/// A directory of one's own.
pub fn fresh_directory(server: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("steadfast-{server}-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
