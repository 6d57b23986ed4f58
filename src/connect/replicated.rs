//! `replicated:`: the store in the memory of the application's own nodes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use steadfast_core::{Env, RouteLabel};
use steadfast_replicated::{
    Acknowledgements, DrainMode, OpenError, PartitionPolicy, ReplicatedStore,
    ReplicatedStoreBuilder, Replication,
};

use super::error::ConnectError;
use super::url::Url;

pub(super) async fn open(
    mut url: Url,
    env: Env,
    node: Option<RouteLabel>,
) -> Result<ReplicatedStore, ConnectError> {
    url.has_no_address()?;
    let mut builder = placed(ReplicatedStore::builder().env(env), &mut url)?;
    builder = agreed(builder, &mut url)?;
    let [anonymous, authenticated] = url.take_budgets()?;
    builder = builder.anonymous(anonymous).authenticated(authenticated);
    for name in ["secret-file", "old-secret-file"] {
        if let Some(path) = url.take::<PathBuf>(name, "the path of a file")? {
            builder = builder.secret(secret(path)?);
        }
    }
    url.has_no_other_setting()?;
    if let Some(node) = node {
        builder = builder.name(node);
    }
    builder.open().await.map_err(setup)
}

fn placed(
    mut builder: ReplicatedStoreBuilder,
    url: &mut Url,
) -> Result<ReplicatedStoreBuilder, ConnectError> {
    if let Some(address) = url.take::<SocketAddr>("bind", "an address and a port")? {
        builder = builder.bind(address);
    }
    if let Some(address) = url.take::<String>("advertise", "a host and a port")? {
        builder = builder.advertise(address);
    }
    if let Some(Seeds(seeds)) = url.take("seeds", "hosts and ports with commas between them")? {
        builder = builder.seeds(seeds);
    }
    if let Some(zone) = url.take::<String>("zone", "a name")? {
        builder = builder.zone(zone);
    }
    if let Some(cluster) = url.take::<String>("cluster", "a name")? {
        builder = builder.cluster(cluster);
    }
    Ok(builder)
}

fn agreed(
    mut builder: ReplicatedStoreBuilder,
    url: &mut Url,
) -> Result<ReplicatedStoreBuilder, ConnectError> {
    let copies =
        url.take::<Word<Replication>>("copies", "all, or how many backups, from 1 to 255")?;
    if let Some(Word(replication)) = copies {
        builder = builder.replication(replication);
    }
    if let Some(Word(acks)) = url.take::<Word<Acknowledgements>>("acks", "one or all")? {
        builder = builder.acknowledgements(acks);
    }
    let partition = url.take::<Word<PartitionPolicy>>("partition", "fail or degrade")?;
    if let Some(Word(policy)) = partition {
        builder = builder.partition(policy);
    }
    if let Some(Word(drain)) = url.take::<Word<DrainMode>>("drain", "restart or leave")? {
        builder = builder.drain(drain);
    }
    Ok(builder)
}

/// Reads the secret in a file. A text loses the line end that editors append.
fn secret(path: PathBuf) -> Result<Vec<u8>, ConnectError> {
    let mut secret =
        std::fs::read(&path).map_err(|source| ConnectError::SecretFile { path, source })?;
    while secret.is_ascii() && matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

struct Seeds(Vec<String>);

impl FromStr for Seeds {
    type Err = ();

    fn from_str(seeds: &str) -> Result<Self, ()> {
        let seeds: Vec<_> = seeds.split(',').map(str::to_owned).collect();
        let has_port = |seed: &String| {
            seed.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        };
        seeds.iter().all(has_port).then_some(Self(seeds)).ok_or(())
    }
}

/// A choice, by its word.
struct Word<T>(T);

impl FromStr for Word<Replication> {
    type Err = ();

    fn from_str(copies: &str) -> Result<Self, ()> {
        match copies {
            "all" => Ok(Self(Replication::Full)),
            number => match number.parse() {
                Ok(backups @ 1..=255) => Ok(Self(Replication::Backups(backups))),
                _ => Err(()),
            },
        }
    }
}

impl FromStr for Word<Acknowledgements> {
    type Err = ();

    fn from_str(acks: &str) -> Result<Self, ()> {
        match acks {
            "one" => Ok(Self(Acknowledgements::One)),
            "all" => Ok(Self(Acknowledgements::All)),
            _ => Err(()),
        }
    }
}

impl FromStr for Word<PartitionPolicy> {
    type Err = ();

    fn from_str(partition: &str) -> Result<Self, ()> {
        match partition {
            "fail" => Ok(Self(PartitionPolicy::Fail)),
            "degrade" => Ok(Self(PartitionPolicy::Degrade)),
            _ => Err(()),
        }
    }
}

impl FromStr for Word<DrainMode> {
    type Err = ();

    fn from_str(drain: &str) -> Result<Self, ()> {
        match drain {
            "restart" => Ok(Self(DrainMode::Restart)),
            "leave" => Ok(Self(DrainMode::Leave)),
            _ => Err(()),
        }
    }
}

fn setup(error: OpenError) -> ConnectError {
    ConnectError::Setup(error.into())
}

#[cfg(test)]
mod tests {
    use super::super::connect;

    #[tokio::test]
    async fn an_invalid_setting_is_named_with_its_form() {
        for (setting, says) in [
            ("copies=0", "\"copies\": expected all, or how many backups"),
            ("copies=some", "\"copies\": expected"),
            ("acks=none", "\"acks\": expected one or all"),
            ("partition=heal", "\"partition\": expected fail or degrade"),
            ("drain=heal", "\"drain\": expected restart or leave"),
            ("anonymous-records=0", "\"anonymous-records\": expected a whole number from 1"),
            ("authenticated-bytes=1GB", "\"authenticated-bytes\": expected a whole number"),
            ("bind=localhost", "\"bind\": expected an address and a port"),
            ("seeds=h", "\"seeds\": expected hosts and ports"),
            ("secret-file=/nowhere", "/nowhere"),
            ("secret=hunter2", "has no setting \"secret\""),
        ] {
            let error = connect(&format!("replicated:?{setting}")).await.unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn a_binary_secret_keeps_its_last_byte() {
        let path = std::env::temp_dir().join(format!("steadfast-secret-{}", std::process::id()));
        for secret in [[0xff; 32], [b'a'; 32]] {
            let secret = [&secret[..31], b"\n"].concat();
            std::fs::write(&path, &secret).unwrap();
            let opened = connect(&format!("replicated:?secret-file={}", path.display())).await;
            assert_eq!(opened.is_ok(), !secret.is_ascii(), "{opened:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn without_a_secret_it_does_not_start() {
        let error = connect("replicated:?bind=127.0.0.1:0").await.unwrap_err();
        let cause = std::error::Error::source(&error).expect("the store says why").to_string();
        assert_eq!(cause, "the cluster port needs a secret");
    }
}
