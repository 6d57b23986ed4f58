//! Any sequence of patches: each does to a record what a map of values and a few variables say, or
//! is refused for the reason that they say; limits hold, and raw JSON is JSON.
//!
//! An input is a program: a byte that names a step, then what the step takes.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use steadfast::store::{
    ApplyError, Authentication, Counters, Facts, LoginPolicy, Op, Patch, Patched, Principal, Proof,
    RawJson, Record, Rehash, Rotation, SecretHash, Timestamp, Token, Values,
};
use steadfast::{Keyring, Limits, Realm};

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut run = Run::new(&mut input);
    while !input.is_empty() {
        run.step(&mut input);
    }
});

/// A record, what is known of it, and the patch that is being written.
struct Run {
    record: Record,
    known: Known,
    limits: Limits,
    now: Timestamp,
    patch: Patch,
    plan: Plan,
    /// The last patch that was applied, and the values that it met.
    last: Option<(Patch, Values)>,
}

/// The model of a record.
#[derive(Clone)]
struct Known {
    values: BTreeMap<String, Vec<u8>>,
    secret: Hash,
    replaced: Option<(Hash, Timestamp)>,
    version: u64,
    fence: u64,
    idle: Timestamp,
    absolute: Timestamp,
    who: Option<u8>,
    sign_in: u64,
    facts: Vec<u8>,
}

/// The model of a patch.
#[derive(Clone, Default)]
struct Plan {
    writes: Vec<Write>,
    expected: BTreeMap<String, Option<Vec<u8>>>,
    proof: Option<Shown>,
    sign_in: Option<u64>,
    rotation: Option<(Hash, Option<Login>)>,
    rehash: Option<(Shown, Hash)>,
    fence: Option<u64>,
    idle: Option<Timestamp>,
    owns: bool,
}

/// A secret, and the key that it is hashed under.
type Hash = (u8, u8);

/// A secret, hashed under each key of a set.
#[derive(Clone, Copy)]
struct Shown {
    secret: u8,
    keys: u8,
}

/// The changes of an authentication.
#[derive(Clone)]
struct Login {
    absolute: Timestamp,
    who: Option<u8>,
    facts: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Write {
    Clear,
    Put(String, Vec<u8>),
    Remove(String),
    Add(String, i64),
}

/// A value on its way through a plan.
enum Slot {
    Text(Vec<u8>),
    Number(i128),
    /// An addition met a value that is not an integer.
    Spoilt,
}

impl Run {
    fn new(input: &mut Input<'_>) -> Self {
        let now = Timestamp::UNIX_EPOCH;
        let (idle, absolute) = (now + MINUTE, now + HOUR);
        let limits = match input.byte() {
            0 => Limits::default(),
            n => {
                let n = usize::from(n);
                Limits { keys: n % 5, value_bytes: 20 + n % 97, record_bytes: n, depth: n % 7 }
            }
        };
        Self {
            record: Record::new(hash((0, 0)), now, idle, absolute),
            known: Known {
                values: BTreeMap::new(),
                secret: (0, 0),
                replaced: None,
                version: 1,
                fence: 0,
                idle,
                absolute,
                who: None,
                sign_in: 0,
                facts: Vec::new(),
            },
            limits,
            now,
            patch: Patch::new(),
            plan: Plan::default(),
            last: None,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            b'p' => self.put(key(input), input),
            b'r' => self.remove(key(input)),
            b'a' => self.add(key(input), input.number() as i64),
            b'i' => self.add(key(input), i64::from(input.byte() as i8)),
            b'c' => {
                self.patch.clear();
                self.plan.writes.push(Write::Clear);
            }
            b'e' => self.expect(key(input), input),
            b's' => self.prove(Shown::read(input)),
            b'n' => {
                let seen = u64::from(input.byte() % 4);
                self.patch.within(seen);
                self.plan.sign_in = Some(seen);
            }
            b't' => self.rotate(input, false),
            b'l' => self.rotate(input, true),
            b'h' => self.rehash(Shown::read(input), read_hash(input)),
            b'f' => {
                let fence = u64::from(input.byte() % 4);
                self.patch.fence(fence);
                self.plan.fence = Some(fence);
            }
            b'o' => {
                self.patch.own("n1".parse().expect("a label"));
                self.plan.owns = true;
            }
            b'k' => {
                let until = self.now + Duration::from_secs(u64::from(input.small()));
                self.patch.keep_until(until);
                self.plan.idle = self.plan.idle.max(Some(until));
            }
            b'w' => self.now = self.now + Duration::from_secs(u64::from(input.byte())),
            b'\n' => self.apply(),
            _ => {}
        }
    }

    fn put(&mut self, key: String, input: &mut Input<'_>) {
        let Some(value) = json(input) else { return };
        let put = self.patch.put(&key, value.clone());
        assert_eq!(put.is_ok(), Limits::check_key(&key).is_ok());
        if put.is_ok() {
            assert_eq!(self.patch.op(&key), Some(&Op::Put(value.clone())));
            self.plan.writes.push(Write::Put(key, value.as_bytes().to_vec()));
        }
    }

    fn remove(&mut self, key: String) {
        if self.patch.remove(&key).is_ok() {
            self.plan.writes.push(Write::Remove(key));
        }
    }

    fn add(&mut self, key: String, by: i64) {
        let before = self.patch.op(&key).cloned();
        match self.patch.add(&key, by) {
            Ok(()) => self.plan.writes.push(Write::Add(key, by)),
            Err(_) => assert_eq!(self.patch.op(&key), before.as_ref(), "a refusal changes nothing"),
        }
    }

    fn expect(&mut self, key: String, input: &mut Input<'_>) {
        let value = match input.byte() % 3 {
            0 => None,
            1 => self.record.values.get(&key).map(RawJson::copied),
            _ => json(input),
        };
        if self.patch.expect(&key, value.clone()).is_ok() {
            self.plan.expected.insert(key, value.map(|value| value.as_bytes().to_vec()));
        }
    }

    fn prove(&mut self, shown: Shown) {
        self.patch.prove(shown.proof());
        self.plan.proof = Some(shown);
    }

    fn rehash(&mut self, from: Shown, to: Hash) {
        let from_hashes = from.hashes().map(hash).collect();
        self.patch.rehash(Rehash { from: from_hashes, to: hash(to) });
        self.plan.rehash = Some((from, to));
    }

    fn rotate(&mut self, input: &mut Input<'_>, is_full: bool) {
        let (from, to, hours) = (Shown::read(input), read_hash(input), input.byte());
        let login = (hours > 0).then(|| {
            let (who, facts) = if is_full { who_and_facts(input) } else { (None, None) };
            Login { absolute: self.now + HOUR * u32::from(hours), who, facts }
        });
        let authentication = login.clone().map(|login| Authentication {
            at: self.now,
            absolute_deadline: login.absolute,
            principal: login.who.map(principal),
            facts: login.facts.map(|facts| Facts::new(facts).expect("a few bytes")),
            policy: LoginPolicy::default(),
        });
        self.patch.rotate(from.proof(), Rotation { hash: hash(to), authentication });
        (self.plan.proof, self.plan.rotation) = (Some(from), Some((to, login)));
    }

    fn apply(&mut self) {
        let patch = std::mem::take(&mut self.patch);
        let plan = std::mem::take(&mut self.plan);
        let result = self.record.apply(&patch, self.now, &self.limits);
        let known = self.known.after(&plan, self.now, &self.limits);
        match (result, known) {
            (Ok(patched), Ok(known)) => self.keep(patched, known, patch),
            (Err(refusal), Err(expected)) => assert_eq!(said(&refusal), expected),
            (result, expected) => panic!("{result:?}, not {:?}", expected.map(drop)),
        }
    }

    fn keep(&mut self, Patched { record, counters }: Patched, known: Known, patch: Patch) {
        known.check(&record, &counters);
        assert_eq!(self.limits.check_values(&record.values), Ok(()));
        let is_alone = patch.rotation().is_some();
        if let Some((first, before)) = self.last.take().filter(|_| !is_alone) {
            let mut both = first.into_writes();
            both.then(patch.clone().into_writes(), &counters);
            let merged = Patch::from(both).merge(&before);
            let (values, _) = merged.expect("what was applied can be applied");
            assert_eq!(values, record.values, "two patches in one are the two");
        }
        self.last = (!is_alone).then(|| (patch, self.record.values.clone()));
        (self.record, self.known) = (record, known);
    }
}

impl Known {
    fn after(&self, plan: &Plan, now: Timestamp, limits: &Limits) -> Result<Self, &'static str> {
        if now >= self.idle.min(self.absolute) {
            return Err("gone");
        }
        if plan.rotation.as_ref().is_some_and(|(to, _)| *to == self.secret) {
            return Ok(self.clone());
        }
        self.verify(plan.proof, now)?;
        if plan.sign_in.is_some_and(|seen| seen != self.sign_in) {
            return Err("superseded");
        }
        let is_expected =
            plan.expected.iter().all(|(key, value)| self.values.get(key) == value.as_ref());
        if !is_expected || plan.fence.is_some_and(|fence| fence != self.fence) {
            return Err("conflict");
        }
        let values = plan.values(&self.values).ok_or("rejected")?;
        if !fit(&values, limits) {
            return Err("rejected");
        }
        Ok(Self { values, ..self.clone() }.with(plan, now))
    }

    fn verify(&self, proof: Option<Shown>, now: Timestamp) -> Result<(), &'static str> {
        let Some(shown) = proof else { return Ok(()) };
        if !shown.can_judge(self.secret) {
            return Err("unknown key");
        }
        if shown.secret == self.secret.0 {
            return Ok(());
        }
        match self.replaced.filter(|(_, end)| now < *end) {
            Some((replaced, _)) if !shown.can_judge(replaced) => Err("unknown key"),
            Some((replaced, _)) if replaced.0 == shown.secret => Err("superseded"),
            _ => Err("gone"),
        }
    }

    /// The changes of a plan beside the values.
    fn with(mut self, plan: &Plan, now: Timestamp) -> Self {
        let is_touch = plan.writes.is_empty() && plan.rotation.is_none() && !plan.owns;
        let moves = |(from, _): &(Shown, Hash)| from.hashes().any(|hash| hash == self.secret);
        let rehash = plan.rehash.filter(moves);
        self.version += u64::from(!is_touch || rehash.is_some());
        self.fence += u64::from(plan.owns);
        self.secret = rehash.map_or(self.secret, |(_, to)| to);
        self.replaced = self.replaced.filter(|(_, end)| now < *end);
        if let Some((to, login)) = &plan.rotation {
            self.replaced = Some((self.secret, now + MINUTE));
            self.secret = *to;
            self = login.clone().map_or(self.clone(), |login| self.signed_in(login));
        }
        if let Some(idle) = plan.idle {
            self.idle = self.idle.max(idle).min(self.absolute);
        }
        self
    }

    fn signed_in(self, login: Login) -> Self {
        let is_another = login.who.is_some() && login.who != self.who;
        Self {
            absolute: login.absolute,
            who: login.who.or(self.who),
            sign_in: self.sign_in + u64::from(is_another),
            facts: login.facts.unwrap_or(self.facts),
            ..self
        }
    }

    fn check(&self, record: &Record, counters: &Counters) {
        let values = record.values.iter().map(|(key, value)| (key.to_owned(), value.to_vec()));
        assert!(values.eq(self.values.clone()), "{:?}", record.values);
        for (key, value) in &self.values {
            assert_eq!(record.values.get(key), Some(value.as_slice()));
        }
        assert!(counters.is_sorted_by(|one, other| one.0 < other.0));
        for (key, value) in counters {
            assert_eq!(self.values.get(&**key), Some(&value.to_string().into_bytes()));
        }
        assert_eq!(record.secret, hash(self.secret));
        let replaced = record.replaced.as_ref().map(|replaced| (replaced.hash, replaced.until));
        assert_eq!(replaced, self.replaced.map(|(secret, until)| (hash(secret), until)));
        assert_eq!((record.version.0, record.fence()), (self.version, self.fence));
        let deadlines = (record.idle_deadline, record.absolute_deadline);
        assert_eq!(deadlines, (self.idle, self.absolute));
        assert_eq!((&record.principal, record.sign_in), (&self.who.map(principal), self.sign_in));
        assert_eq!(record.facts.as_bytes(), self.facts);
    }
}

impl Plan {
    /// The values after the writes, one by one; `None` if a sum cannot be.
    fn values(&self, before: &BTreeMap<String, Vec<u8>>) -> Option<BTreeMap<String, Vec<u8>>> {
        let text = |(key, text): (&String, &Vec<u8>)| (key.clone(), Slot::Text(text.clone()));
        let mut slots: BTreeMap<_, _> = before.iter().map(text).collect();
        if self.signs_in() {
            slots.retain(|key, _| !key.starts_with('~'));
        }
        for write in &self.writes {
            match write {
                Write::Clear => slots.clear(),
                Write::Put(key, value) => {
                    slots.insert(key.clone(), Slot::Text(value.clone()));
                }
                Write::Remove(key) => {
                    slots.remove(key);
                }
                Write::Add(key, by) => {
                    let sum = sum(slots.remove(key), i128::from(*by));
                    slots.insert(key.clone(), sum);
                }
            }
        }
        slots.into_iter().map(|(key, slot)| Some((key, slot.text()?))).collect()
    }

    fn signs_in(&self) -> bool {
        let login = self.rotation.as_ref().and_then(|(_, login)| login.as_ref());
        login.is_some_and(|login| login.who.is_some())
    }
}

impl Shown {
    fn read(input: &mut Input<'_>) -> Self {
        let byte = input.byte();
        Self { secret: byte % SECRETS, keys: 1 + byte / SECRETS % 7 }
    }

    fn can_judge(self, hash: Hash) -> bool {
        self.keys & 1 << hash.1 != 0
    }

    fn hashes(self) -> impl Iterator<Item = Hash> {
        (0..KEYS).map(move |key| (self.secret, key)).filter(move |hash| self.can_judge(*hash))
    }

    fn proof(self) -> Proof {
        let mut hashes = self.hashes().map(hash);
        let current = hashes.next().expect("a set of keys has one");
        hashes.fold(current.into(), Proof::with_other)
    }
}

impl Slot {
    fn text(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(sum) => i64::try_from(sum).ok().map(|sum| sum.to_string().into_bytes()),
            Self::Spoilt => None,
        }
    }
}

fn sum(slot: Option<Slot>, by: i128) -> Slot {
    match slot {
        None => Slot::Number(by),
        Some(Slot::Number(number)) => Slot::Number(number + by),
        Some(Slot::Text(text)) => integer(&text).map_or(Slot::Spoilt, |n| Slot::Number(n + by)),
        Some(Slot::Spoilt) => Slot::Spoilt,
    }
}

/// An integer as JSON writes it (RFC 8259, 6); a negative zero is none.
fn integer(json: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(json).ok()?.trim_matches([' ', '\t', '\n', '\r']);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    let number = text.parse::<i64>().ok().filter(|_| is_plain || text == "0");
    number.map(i128::from)
}

fn fit(values: &BTreeMap<String, Vec<u8>>, limits: &Limits) -> bool {
    let size: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    let is_small =
        |value: &Vec<u8>| value.len() <= limits.value_bytes && depth(value) <= limits.depth;
    values.len() <= limits.keys && size <= limits.record_bytes && values.values().all(is_small)
}

fn depth(json: &[u8]) -> usize {
    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }
    levels(&serde_json::from_slice(json).expect("only JSON is put"))
}

fn key(input: &mut Input<'_>) -> String {
    match input.byte() {
        n @ b'a'..=b'h' => char::from(n).to_string(),
        b'~' => format!("~{}", char::from(b'a' + input.byte() % 4)),
        n @ 200.. => "k".repeat(usize::from(n) - 100),
        _ => String::from_utf8_lossy(input.slice()).into_owned(),
    }
}

fn json(input: &mut Input<'_>) -> Option<RawJson> {
    match input.byte() {
        b'[' => {
            let levels = usize::from(input.byte());
            let parsed = RawJson::parse("[".repeat(levels) + "0" + &"]".repeat(levels));
            assert!(parsed.is_ok());
            parsed.ok().filter(|_| levels <= 127)
        }
        b'"' => {
            Some(RawJson::encode(&"x".repeat(input.small() as usize % 20_000)).expect("a string"))
        }
        b'0' => Some(RawJson::from(input.number() as i64)),
        _ => parsed(input.slice()),
    }
}

/// Numbers beyond `f64`, lone surrogates and deeper levels are JSON, but no `Value` holds them: they are
/// left out.
fn parsed(text: &[u8]) -> Option<RawJson> {
    let (raw, value) = (RawJson::parse(text), serde_json::from_slice::<Value>(text));
    assert!(raw.is_ok() || value.is_err(), "what is JSON is taken");
    assert!(raw.is_err() || std::str::from_utf8(text).is_ok(), "JSON is UTF-8");
    let raw = raw.ok().filter(|_| value.is_ok())?;
    assert_eq!((raw.as_bytes(), raw.as_integer().map(i128::from)), (text, integer(text)));
    Some(raw)
}

fn who_and_facts(input: &mut Input<'_>) -> (Option<u8>, Option<Vec<u8>>) {
    let (who, facts) = (input.byte() % 3, input.slice());
    ((who > 0).then_some(who), (!facts.is_empty()).then(|| facts.to_vec()))
}

fn read_hash(input: &mut Input<'_>) -> Hash {
    let byte = input.byte();
    (byte % SECRETS, byte / SECRETS % KEYS)
}

fn said(refusal: &ApplyError) -> &'static str {
    match refusal {
        ApplyError::Gone => "gone",
        ApplyError::Superseded => "superseded",
        ApplyError::UnknownKey(_) => "unknown key",
        ApplyError::Conflict => "conflict",
        ApplyError::Rejected(_) => "rejected",
    }
}

fn hash((secret, key): Hash) -> SecretHash {
    let token = Token::decode(&[b'A' + secret; Token::LEN]).expect("a token");
    RINGS[usize::from(key)].hash(&Realm::default(), token.secret())
}

fn principal(who: u8) -> Principal {
    Principal::new(Realm::default(), &format!("user {who}")).expect("a plain name")
}

/// A ring of no key, and rings of one.
static RINGS: LazyLock<[Keyring; KEYS as usize]> = LazyLock::new(|| {
    let keyed = |name, key| Keyring::keyed(name, &[key; 32]).expect("a key of 32 bytes");
    [Keyring::unkeyed(), keyed("k1", 1), keyed("k2", 2)]
});

const SECRETS: u8 = 3;
const KEYS: u8 = 3;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
