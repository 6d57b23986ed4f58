//! Any sequence of patches: each does to a record what a map of values and a few variables say, or
//! is refused for the reason that they say; limits hold, and raw JSON is JSON.
//!
//! An input is a program: a byte that names a step, then what the step takes.

#![no_main]

use std::collections::BTreeMap;

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use steadfast::core::{
    Admission, Authentication, Counters, Op, Patch, Patched, Proof, RawJson, Record, Refusal,
    Rotation, SecretHash, Token, Values,
};
use steadfast::{Keyring, Limits, Realm};
use time::{Duration, UtcDateTime};

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
    now: UtcDateTime,
    patch: Patch,
    plan: Plan,
    /// The last patch that was applied, and the values that it met.
    last: Option<(Patch, Values)>,
}

/// The model of a record.
#[derive(Clone)]
struct Known {
    values: BTreeMap<String, Vec<u8>>,
    secret: u8,
    replaced: Option<(u8, UtcDateTime)>,
    version: u64,
    fence: u64,
    idle: UtcDateTime,
    absolute: UtcDateTime,
}

/// The model of a patch.
#[derive(Clone, Default)]
struct Plan {
    writes: Vec<Write>,
    expected: BTreeMap<String, Option<Vec<u8>>>,
    proof: Option<u8>,
    rotation: Option<(u8, Option<UtcDateTime>)>,
    fence: Option<u64>,
    idle: Option<UtcDateTime>,
    owns: bool,
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
    /// Something was added to what is no integer.
    Spoilt,
}

impl Run {
    fn new(input: &mut Input<'_>) -> Self {
        let now = UtcDateTime::UNIX_EPOCH;
        let (idle, absolute) = (now + Duration::MINUTE, now + Duration::HOUR);
        let limits = match input.byte() {
            0 => Limits::default(),
            n => {
                let n = usize::from(n);
                Limits { keys: n % 5, value_bytes: 20 + n % 97, record_bytes: n, depth: n % 7 }
            }
        };
        Self {
            record: Record::new(hash(0), now, idle, absolute),
            known: Known {
                values: BTreeMap::new(),
                secret: 0,
                replaced: None,
                version: 1,
                fence: 0,
                idle,
                absolute,
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
            b's' => self.prove(input.byte() % SECRETS),
            b't' => self.rotate(input),
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
                let until = self.now + Duration::seconds(i64::from(input.small()));
                self.patch.keep_until(until);
                self.plan.idle = self.plan.idle.max(Some(until));
            }
            b'w' => self.now += Duration::seconds(i64::from(input.byte())),
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

    fn prove(&mut self, secret: u8) {
        self.patch.prove(Proof::from(hash(secret)));
        self.plan.proof = Some(secret);
    }

    fn rotate(&mut self, input: &mut Input<'_>) {
        let (from, to, hours) = (input.byte() % SECRETS, input.byte() % SECRETS, input.byte());
        let absolute = (hours > 0).then(|| self.now + Duration::hours(i64::from(hours)));
        let authentication = absolute.map(|absolute_deadline| Authentication {
            at: self.now,
            absolute_deadline,
            principal: None,
            admission: Admission::default(),
        });
        self.patch.rotate(Proof::from(hash(from)), Rotation { hash: hash(to), authentication });
        (self.plan.proof, self.plan.rotation) = (Some(from), Some((to, absolute)));
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
        if let Some((mut both, before)) = self.last.take().filter(|_| !is_alone) {
            both.then(patch.clone(), &counters);
            let (values, _) = both.merge(&before).expect("what was applied can be applied");
            assert_eq!(values, record.values, "two patches in one are the two");
        }
        self.last = (!is_alone).then(|| (patch, self.record.values.clone()));
        (self.record, self.known) = (record, known);
    }
}

impl Known {
    fn after(&self, plan: &Plan, now: UtcDateTime, limits: &Limits) -> Result<Self, &'static str> {
        if now >= self.idle.min(self.absolute) {
            return Err("gone");
        }
        if plan.rotation.is_some_and(|(to, _)| to == self.secret) {
            return Ok(self.clone());
        }
        let is_replaced = |secret| self.replaced.is_some_and(|(s, end)| s == secret && now < end);
        match plan.proof {
            Some(secret) if secret == self.secret => {}
            Some(secret) if is_replaced(secret) => return Err("superseded"),
            Some(_) => return Err("gone"),
            None => {}
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

    /// What a plan changes beside the values.
    fn with(mut self, plan: &Plan, now: UtcDateTime) -> Self {
        let is_touch = plan.writes.is_empty() && plan.rotation.is_none() && !plan.owns;
        self.version += u64::from(!is_touch);
        self.fence += u64::from(plan.owns);
        self.replaced = self.replaced.filter(|(_, end)| now < *end);
        if let Some((to, absolute)) = plan.rotation {
            self.replaced = Some((self.secret, now + Duration::MINUTE));
            self.secret = to;
            self.absolute = absolute.unwrap_or(self.absolute);
        }
        if let Some(idle) = plan.idle {
            self.idle = self.idle.max(idle).min(self.absolute);
        }
        self
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
    }
}

impl Plan {
    /// The values after the writes, one by one; `None` if a sum cannot be.
    fn values(&self, before: &BTreeMap<String, Vec<u8>>) -> Option<BTreeMap<String, Vec<u8>>> {
        let text = |(key, text): (&String, &Vec<u8>)| (key.clone(), Slot::Text(text.clone()));
        let mut slots: BTreeMap<_, _> = before.iter().map(text).collect();
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

fn said(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Gone => "gone",
        Refusal::Superseded => "superseded",
        Refusal::Conflict => "conflict",
        Refusal::Rejected(_) => "rejected",
    }
}

fn hash(secret: u8) -> SecretHash {
    let token = Token::decode(&[b'A' + secret; Token::LEN]).expect("a token");
    Keyring::unkeyed().hash(&Realm::default(), token.secret())
}

const SECRETS: u8 = 3;
