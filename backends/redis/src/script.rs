//! The scripts, and what they are given and answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Arg, Cmd, Value};
use steadfast_core::{Record, RecordId, StoreError};

use crate::codec::{Packed, Unpacked};
use crate::connection::Call;
use crate::error::Fault;
use crate::made::Unexpected;
use crate::request::MARGIN_MILLIS;

/// Every script of a store.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) create: Script,
    pub(crate) update: Script,
    pub(crate) delete: Script,
    pub(crate) collect: Script,
    pub(crate) look: Script,
    pub(crate) revoke: Script,
    pub(crate) entries: Script,
    pub(crate) enlist: Script,
    pub(crate) finish: Script,
    pub(crate) convert: Script,
    pub(crate) check: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        let is_plain = Arc::default();
        let script = |flags, code| Script::new(flags, code, &is_plain);
        Self {
            create: script(WHILE_THERE_IS_ROOM, include_str!("scripts/create.lua")),
            update: script(WHILE_THERE_IS_ROOM, include_str!("scripts/update.lua")),
            enlist: script(WHILE_THERE_IS_ROOM, include_str!("scripts/enlist.lua")),
            delete: script(ALWAYS, include_str!("scripts/delete.lua")),
            collect: script(ALWAYS, include_str!("scripts/collect.lua")),
            look: script(ALWAYS, include_str!("scripts/look.lua")),
            revoke: script(ALWAYS, include_str!("scripts/revoke.lua")),
            entries: script(ALWAYS, include_str!("scripts/entries.lua")),
            finish: script(ALWAYS, include_str!("scripts/finish.lua")),
            convert: script(ALWAYS, include_str!("scripts/convert.lua")),
            check: Script::bare(WHILE_THERE_IS_ROOM, include_str!("scripts/check.lua"), &is_plain),
        }
    }
}

/// A script, with what all of them share before it.
#[derive(Debug)]
pub(crate) struct Script {
    /// With a first line that says when the server may run it, and without: not all know such a line.
    forms: [Form; 2],
    is_plain: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Form {
    code: String,
    hash: String,
}

impl Form {
    fn of(code: String) -> Self {
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }
}

impl Script {
    fn new(flags: &str, code: &str, is_plain: &Arc<AtomicBool>) -> Self {
        let shared = [include_str!("scripts/record.lua"), include_str!("scripts/index.lua")];
        let constants = format!(
            "local KNOWN, MARGIN, REPLACED_KEPT, NONE = {}, {MARGIN_MILLIS}, {}, -2^63\n",
            Record::FORMAT,
            Record::REPLACED_KEPT.as_millis(),
        );
        let form = |flags: &str| Form::of([flags, &constants, shared[0], shared[1], code].concat());
        Self { forms: [form(flags), form("")], is_plain: Arc::clone(is_plain) }
    }

    /// The script that publishes for the feed.
    pub(crate) fn publish() -> Self {
        Self::bare(ALWAYS, include_str!("scripts/publish.lua"), &Arc::default())
    }

    /// A script by itself.
    fn bare(flags: &str, code: &str, is_plain: &Arc<AtomicBool>) -> Self {
        let form = |flags: &str| Form::of([flags, code].concat());
        Self { forms: [form(flags), form("")], is_plain: Arc::clone(is_plain) }
    }

    /// A call of a script with one key and these arguments.
    pub(crate) fn with(&self, key: &str, args: &[Vec<u8>]) -> Invocation<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.form().hash).arg(1).arg(key).arg(args);
        Invocation { script: self, command }
    }

    /// A call of that script. The key says nothing; a proxy may want one.
    pub(crate) fn publishing(&self, channel: &str, message: &[u8]) -> Invocation<'_> {
        self.with(channel, &[channel.into(), message.to_vec()])
    }

    /// A call of the script, by its hash.
    pub(crate) fn on(&self, keys: &[impl AsRef<str>], args: &Packed) -> Invocation<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.form().hash).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        command.arg(&args.0);
        Invocation { script: self, command }
    }

    /// The same call with the whole script, for a server that does not know it.
    pub(crate) fn in_full(&self, by_hash: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.form().code);
        for arg in by_hash.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }

    /// Whether the server may know the script without its first line, which is left out of all from
    /// then on.
    pub(crate) fn can_be_plainer(&self, fault: &Fault, by_hash: &Cmd) -> bool {
        let hash = self.forms[0].hash.as_bytes();
        let had_it = by_hash.args_iter().nth(1) == Some(Arg::Simple(hash));
        let is_so = had_it && fault.is_about_compiling();
        if is_so {
            self.is_plain.store(true, Ordering::Release);
        }
        is_so
    }

    fn form(&self) -> &Form {
        &self.forms[usize::from(self.is_plain.load(Ordering::Acquire))]
    }
}

/// A call of a script.
pub(crate) struct Invocation<'s> {
    script: &'s Script,
    command: Cmd,
}

impl Invocation<'_> {
    /// To be sent again when it is not known what became of it.
    pub(crate) fn repeatable(&self) -> Call<'_> {
        Call { is_repeatable: true, ..self.once() }
    }

    /// To be sent once only.
    pub(crate) fn once(&self) -> Call<'_> {
        let script = Some(self.script);
        Call { command: &self.command, script, is_repeatable: false, copies: None }
    }
}

/// The first line of a script that takes memory: without room for it, it is not run at all. One that
/// ran out of memory halfway would leave half of a patch.
const WHILE_THERE_IS_ROOM: &str = "#!lua\n";

/// The first line of a script that ends sessions or reads: a full memory is no reason not to.
const ALWAYS: &str = "#!lua flags=allow-oom\n";

/// What a script answered: one letter, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) word: u8,
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    pub(crate) fn of(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::BulkString(bytes) if !bytes.is_empty() => {
                Ok(Self { word: bytes[0], bytes, at: 1 })
            }
            _ => Err(StoreError::refused(Unexpected)),
        }
    }

    /// Takes a part.
    pub(crate) fn take<'a, T>(
        &'a mut self,
        part: impl Fn(&mut Unpacked<'a>) -> Option<T>,
    ) -> Option<T> {
        let mut rest = Unpacked(&self.bytes[self.at..]);
        let before = rest.0.len();
        let taken = part(&mut rest)?;
        self.at += before - rest.0.len();
        Some(taken)
    }

    /// Whether anything was published.
    pub(crate) fn was_told(&mut self) -> Option<bool> {
        self.take(Unpacked::u8).map(|told| told == b'1')
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        self.take(Unpacked::text).map(str::to_owned)
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.take(Unpacked::u32)?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(crate) fn ids(&mut self) -> Option<Vec<RecordId>> {
        self.texts()?.iter().map(|id| id.parse().ok()).collect()
    }

    /// Whether there is more.
    pub(crate) fn has_more(&self) -> bool {
        self.at < self.bytes.len()
    }
}
