//! The settings, each with an option and an environment variable.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use steadfast::store::RouteLabel;
use steadfast::{Affinity, AtCap, CookieProfile, Keyring, Lifetime, SealKeys};

/// The options, checked.
pub(crate) struct Options {
    pub(crate) listen: String,
    /// May hold a password.
    pub(crate) store: String,
    pub(crate) node: RouteLabel,
    pub(crate) profile: Profile,
    pub(crate) affinity: Affinity,
    pub(crate) lifetime: Lifetime,
    /// The idle life of visitors' sessions.
    pub(crate) visitor_idle: Option<Duration>,
    pub(crate) max_per_principal: NonZeroUsize,
    pub(crate) at_cap: AtCap,
    pub(crate) keys: Keys,
    /// The time that open responses may take after a signal.
    pub(crate) shutdown: Duration,
    pub(crate) control: Option<String>,
    /// How many session events the control port shows.
    pub(crate) report_events: usize,
}

impl Options {
    /// Reads the command line over the environment. `None` if it asks for help.
    pub(crate) fn parse(
        args: impl Iterator<Item = String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let mut given = Given::from_env(env);
        let mut args = args;
        let mut repeated = Vec::new();
        while let Some(arg) = args.next() {
            if arg == "--help" {
                return Ok(None);
            }
            if let Some(name) = repeatable(&arg).filter(|name| !repeated.contains(name)) {
                // The command line replaces what the environment says, and its keys add up.
                given.0.remove(name);
                repeated.push(name);
            }
            given.read(&arg, &mut args)?;
        }
        given.check().map(Some)
    }
}

/// The keys of the service.
pub(crate) struct Keys {
    /// The keys under which secrets are hashed.
    pub(crate) hash: Keyring,
    /// The keys under which values are sealed.
    pub(crate) seal: Option<SealKeys>,
}

/// The kind of session cookie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Host,
    Domain,
    Partitioned,
    Dev,
}

impl Profile {
    /// The name of a cookie, with the prefix of the profile.
    pub(crate) fn cookie_name(self, word: &str) -> String {
        match self {
            Self::Host | Self::Partitioned => format!("__Host-{word}"),
            Self::Domain => format!("__Secure-{word}"),
            Self::Dev => format!("{word}-dev"),
        }
    }

    pub(crate) fn cookie(self, word: &str) -> CookieProfile {
        let profile = match self {
            Self::Host => CookieProfile::host(),
            Self::Domain => CookieProfile::domain(DOMAIN),
            Self::Partitioned => CookieProfile::partitioned(),
            Self::Dev => CookieProfile::dev(),
        };
        profile.name(self.cookie_name(word))
    }
}

impl FromStr for Profile {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "host" => Ok(Self::Host),
            "domain" => Ok(Self::Domain),
            "partitioned" => Ok(Self::Partitioned),
            "dev" => Ok(Self::Dev),
            _ => Err(()),
        }
    }
}

/// The text that `--help` prints.
pub(crate) fn usage() -> String {
    let mut usage = "usage: reference [--OPTION VALUE]...\n\n".to_owned();
    for (name, value, default, meaning) in OPTIONS {
        let option = format!("--{name} {value}");
        let default = if default.is_empty() { "none" } else { default };
        usage += &format!("  {option:<24} {meaning} ({default})\n");
    }
    usage + "\nEach is also read from the environment, --idle from STEADFAST_IDLE."
}

/// The text of every option, by its name.
struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// The environment over the defaults. A variable that is empty counts as not set.
    fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str, default: &str| {
            let set = env(&variable(name)).filter(|value| !value.is_empty());
            set.unwrap_or_else(|| default.to_owned())
        };
        Self(OPTIONS.iter().map(|(name, _, default, _)| (*name, text(name, default))).collect())
    }

    /// Reads `--name value` or `--name=value`.
    fn read(&mut self, arg: &str, rest: &mut impl Iterator<Item = String>) -> anyhow::Result<()> {
        let (option, value) = match arg.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (arg, None),
        };
        // A text that does not look like an option may be a URL with a password.
        let name = option.strip_prefix("--").context("options begin with --: see --help")?;
        let known = OPTIONS.iter().find(|(known, ..)| *known == name);
        let (name, ..) = known.with_context(|| format!("unknown option {option:?}: see --help"))?;
        let value =
            value.or_else(|| rest.next()).with_context(|| format!("{option} needs a value"))?;
        match self.0.get_mut(name).filter(|_| REPEATABLE.contains(name)) {
            Some(keys) => *keys += &format!(",{value}"),
            None => drop(self.0.insert(name, value)),
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<Options> {
        let seconds = "a whole number of seconds";
        let [idle, absolute] = [self.parse("idle", seconds)?, self.parse("absolute", seconds)?];
        let lifetime = Lifetime::new(Duration::from_secs(idle), Duration::from_secs(absolute));
        let policy = self.text("on-outage");
        ensure!(policy == "503", "--on-outage {policy:?} is not there for this store: use 503");
        Ok(Options {
            listen: self.text("listen").to_owned(),
            store: self.text("store").to_owned(),
            node: self.parse("node", "1 to 32 of the characters A-Z a-z 0-9 _ -")?,
            profile: self.parse("profile", "host, domain, partitioned or dev")?,
            affinity: affinity(self.text("affinity"))?,
            visitor_idle: self.visitor_idle()?,
            lifetime: lifetime.context("--idle and --absolute cannot be")?,
            keys: Keys {
                hash: keyring(self.list("key")).context("invalid --key")?,
                seal: seal_keys(self.list("seal")).context("invalid --seal")?,
            },
            shutdown: Duration::from_secs(self.parse("shutdown", seconds)?),
            max_per_principal: self.parse("max-per-principal", "a whole number from 1")?,
            at_cap: at_cap(self.text("at-cap"))?,
            control: Some(self.text("control").to_owned()).filter(|address| !address.is_empty()),
            report_events: self.parse("report-events", "a whole number")?,
        })
    }

    fn parse<T: FromStr>(&self, name: &str, wants: &str) -> anyhow::Result<T> {
        let text = self.text(name);
        text.parse()
            .map_err(|_| anyhow!("--{name} ({}) wants {wants}, and not {text:?}", variable(name)))
    }

    /// The parts of an option that may be repeated.
    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text(name).split(',').filter(|part| !part.is_empty())
    }

    fn visitor_idle(&self) -> anyhow::Result<Option<Duration>> {
        match self.text("visitor-idle") {
            "" => Ok(None),
            _ => {
                let seconds = self.parse("visitor-idle", "a whole number of seconds")?;
                Ok(Some(Duration::from_secs(seconds)))
            }
        }
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// The ring of keys that are written as `NAME=HEX`: the first is current, the others are accepted.
/// `none` stands for hashes without a key.
pub(crate) fn keyring<'k>(keys: impl IntoIterator<Item = &'k str>) -> anyhow::Result<Keyring> {
    let mut keys = keys.into_iter();
    let mut ring = match keys.next() {
        None | Some("none") => Keyring::unkeyed(),
        Some(current) => {
            let (name, key) = named_key(current)?;
            Keyring::keyed(name, &key)?
        }
    };
    for other in keys {
        if other == "none" {
            ring = ring.accept_unkeyed();
            continue;
        }
        let (name, key) = named_key(other)?;
        ring = ring.accept(name, &key)?;
    }
    Ok(ring)
}

/// The keys that values are sealed under, written in the same way. `none` stands for values that are not
/// sealed: as the first one nothing is sealed yet, as another one they are accepted.
pub(crate) fn seal_keys<'k>(
    keys: impl IntoIterator<Item = &'k str>,
) -> anyhow::Result<Option<SealKeys>> {
    let (plain, named): (Vec<_>, Vec<_>) =
        keys.into_iter().enumerate().partition(|(_, key)| *key == "none");
    let mut ring: Option<SealKeys> = None;
    for (_, key) in named {
        let (name, key) = named_key(key)?;
        ring = Some(match ring {
            None => SealKeys::new(name, &key)?,
            Some(ring) => ring.accept(name, &key)?,
        });
    }
    Ok(ring.map(|ring| match plain.first() {
        None => ring,
        Some((0, _)) => ring.write_plain(),
        Some(_) => ring.accept_plain(),
    }))
}

/// The name and the bytes of a key. No error shows the bytes.
fn named_key(text: &str) -> anyhow::Result<(&str, Vec<u8>)> {
    let (name, hex) = text.split_once('=').context("a key has the form NAME=HEX")?;
    let byte = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    Ok((name, bytes.with_context(|| format!("the key {name:?} is not in hexadecimal digits"))?))
}

/// The option that an argument gives, if it may be repeated.
fn repeatable(arg: &str) -> Option<&'static str> {
    let option = arg.split('=').next()?.strip_prefix("--")?;
    REPEATABLE.into_iter().find(|name| *name == option)
}

fn affinity(name: &str) -> anyhow::Result<Affinity> {
    match name {
        "cookie" => Ok(Affinity::Cookie),
        "suffix" => Ok(Affinity::Suffix),
        "none" => Ok(Affinity::None),
        _ => Err(anyhow!("--affinity wants cookie, suffix or none, and not {name:?}")),
    }
}

fn at_cap(name: &str) -> anyhow::Result<AtCap> {
    match name {
        "end-oldest" => Ok(AtCap::EndOldest),
        "refuse" => Ok(AtCap::Refuse),
        _ => Err(anyhow!("--at-cap wants end-oldest or refuse, and not {name:?}")),
    }
}

fn variable(name: &str) -> String {
    format!("STEADFAST_{}", name.to_uppercase().replace('-', "_"))
}

/// Each option: its name, what its value is called, its default, what it means.
const OPTIONS: [(&str, &str, &str, &str); 16] = [
    ("listen", "ADDR", "127.0.0.1:8080", "where to serve"),
    ("store", "URL", "memory:", "where sessions live, or @FILE with the URL in it"),
    ("node", "LABEL", "n1", "the route label of this node"),
    ("profile", "NAME", "host", "the cookie: host, domain (of example.org), partitioned or dev"),
    (
        "affinity",
        "NAME",
        "cookie",
        "where the route travels: cookie, suffix (of the token) or none",
    ),
    ("idle", "S", "1800", "how long a session lives unused"),
    ("absolute", "S", "28800", "how long a session lives"),
    ("visitor-idle", "S", "", "the same of visitors; as --idle unless set"),
    ("max-per-principal", "N", "1000", "sessions a user may have"),
    ("at-cap", "NAME", "end-oldest", "what a sign-in beyond them does: end-oldest or refuse"),
    (
        "key",
        "NAME=HEX",
        "",
        "a key to hash secrets under, at least 32 bytes; repeat it to accept others, newer names later",
    ),
    (
        "seal",
        "NAME=HEX",
        "",
        "a key to seal values under, 32 bytes; repeat it to accept others, none for what is not sealed",
    ),
    ("shutdown", "S", "10", "how long open responses may take after SIGTERM"),
    ("on-outage", "503", "503", "what a request gets while the store is away"),
    ("control", "ADDR", "", "a control port for tests, on loopback only"),
    ("report-events", "N", "0", "how many of the latest session events the control port shows"),
];

/// The options that may be given several times.
const REPEATABLE: [&str; 2] = ["key", "seal"];

/// The domain of the `domain` profile.
const DOMAIN: &str = "example.org";
