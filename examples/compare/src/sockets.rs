//! Bytes that a service sends to keep sessions: between its nodes, and between nodes and server.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};

/// Returns the total bytes received by the sockets at one of these addresses.
///
/// Both ends of a connection are on this machine, so this counts both directions, including TLS and
/// without TCP headers. A closed connection is no longer counted.
///
/// # Errors
///
/// If `ss`, of the Debian package iproute2, is missing.
pub fn received(addresses: &BTreeSet<String>) -> anyhow::Result<u64> {
    let shown = Command::new("ss").args(["-tinHO"]).output();
    let shown = shown.context("cannot start ss: is the Debian package iproute2 installed?")?;
    ensure!(shown.status.success(), "ss failed: {}", String::from_utf8_lossy(&shown.stderr));
    let lines = String::from_utf8_lossy(&shown.stdout).into_owned();
    Ok(lines.lines().filter_map(|line| of_line(line, addresses)).sum())
}

/// The count of a line of `ss`, if one of its ends is among the addresses.
fn of_line(line: &str, addresses: &BTreeSet<String>) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let is_ours = |field: &str| addresses.contains(&field.replace("[::ffff:", "").replace(']', ""));
    // State, both queues, both ends.
    let mut ends = fields.by_ref().skip(3).take(2);
    if !ends.any(is_ours) {
        return None;
    }
    fields.find_map(|field| field.strip_prefix("bytes_received:")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_line_counts_at_either_end() {
        let line =
            "ESTAB 0 0 127.0.0.1:40 [::ffff:127.0.0.1]:50 cubic bytes_sent:9 bytes_received:7";
        let count = |address: &str| of_line(line, &BTreeSet::from([address.to_owned()]));
        assert_eq!((count("127.0.0.1:40"), count("127.0.0.1:50")), (Some(7), Some(7)));
        assert_eq!(count("127.0.0.1:4"), None);
    }

    #[test]
    fn both_directions_of_a_connection_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let mut server = listener.accept().unwrap().0;
        client.write_all(&[0; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        server.write_all(&[0; 10]).unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        assert_eq!(received(&BTreeSet::from([address.to_string()])).unwrap(), 110);
    }
}
