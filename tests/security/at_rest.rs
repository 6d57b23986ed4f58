//! Sessions at rest: a reader of the store cannot sign in as a user.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use testkit::Server;

use crate::common::{token, user_of};
use crate::identifier::hex;

/// Shows AR-01.
#[tokio::test]
async fn the_store_holds_no_secret_in_any_encoding() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut issued = Vec::new();
    for path in ["/incr", "/login?u=alice", "/cycle", "/elevate", "/reauth", "/logout-others"] {
        client.post(path).await.ok();
        issued.push(token(&client));
        let dump = server.control("GET", "/dump").await.ok().body.to_lowercase();
        for token in &issued {
            let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
            let secret = &bytes[16..];
            for shown in [
                token.clone(),
                token[22..].to_owned(),
                hex(secret),
                STANDARD_NO_PAD.encode(secret),
                STANDARD.encode(&bytes),
                URL_SAFE_NO_PAD.encode(secret),
            ] {
                assert!(!dump.contains(&shown.to_lowercase()), "{path}");
            }
        }
    }
}

/// Shows AR-02.
#[tokio::test]
async fn a_stolen_record_opens_nothing() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    client.post("/cycle").await.ok();
    let dump = server.told("/dump").await;
    let record = &dump["records"][0];
    let id = bytes(&record["id"].as_str().unwrap().replace('-', ""));
    let hashes = ["hash", "replaced_hash"].map(|name| bytes(record[name].as_str().unwrap()));
    for hash in hashes {
        let made = [id.clone(), hash.clone()].concat();
        for shown in [
            URL_SAFE_NO_PAD.encode(&made),
            STANDARD.encode(&made),
            hex(&made),
            hex(&hash),
            URL_SAFE_NO_PAD.encode(&hash),
            hex(&hash)[..64].to_owned(),
            record["id"].as_str().unwrap().to_owned(),
        ] {
            assert_eq!(user_of(&server, &shown).await, None, "{shown}");
        }
    }
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
