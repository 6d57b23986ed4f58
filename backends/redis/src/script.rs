//! The scripts, and what they are given and answer.

use redis::{Arg, Cmd, Value};
use steadfast_core::RecordId;

use crate::connection::Call;
use crate::reply;

/// Every script of a store.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) create: Script,
    pub(crate) update: Script,
    pub(crate) delete: Script,
    pub(crate) collect: Script,
    pub(crate) list: Script,
    pub(crate) revoke: Script,
    pub(crate) enlist: Script,
    pub(crate) entries: Script,
    pub(crate) finish: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            create: Script::new(WHILE_THERE_IS_ROOM, include_str!("scripts/create.lua")),
            update: Script::new(WHILE_THERE_IS_ROOM, include_str!("scripts/update.lua")),
            enlist: Script::new(WHILE_THERE_IS_ROOM, include_str!("scripts/enlist.lua")),
            delete: Script::new(ALWAYS, include_str!("scripts/delete.lua")),
            collect: Script::new(ALWAYS, include_str!("scripts/collect.lua")),
            list: Script::new(ALWAYS, include_str!("scripts/list.lua")),
            revoke: Script::new(ALWAYS, include_str!("scripts/revoke.lua")),
            entries: Script::new(ALWAYS, include_str!("scripts/entries.lua")),
            finish: Script::new(ALWAYS, include_str!("scripts/finish.lua")),
        }
    }
}

/// A script, with what all of them share before it.
#[derive(Debug)]
pub(crate) struct Script {
    code: String,
    hash: String,
}

impl Script {
    fn new(runs: &str, code: &str) -> Self {
        let shared = [include_str!("scripts/record.lua"), include_str!("scripts/index.lua")];
        let code = [runs, shared[0], shared[1], code].concat();
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    /// A call of the script, by its hash.
    pub(crate) fn on(&self, keys: &[impl AsRef<str>]) -> Invocation<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        Invocation { script: self, command }
    }
}

/// A call of a script, with its arguments so far.
pub(crate) struct Invocation<'s> {
    script: &'s Script,
    command: Cmd,
}

impl Invocation<'_> {
    pub(crate) fn arg(&mut self, arg: impl AsRef<[u8]>) -> &mut Self {
        self.command.arg(arg.as_ref());
        self
    }

    pub(crate) fn flag(&mut self, is_so: bool) -> &mut Self {
        self.arg(if is_so { "1" } else { "0" })
    }

    pub(crate) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.arg(number.into().to_string())
    }

    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.arg(count.to_string())
    }

    /// A number, or nothing.
    pub(crate) fn optional(&mut self, number: Option<u64>) -> &mut Self {
        self.arg(number.map(|number| number.to_string()).unwrap_or_default())
    }

    /// Arguments behind their number.
    pub(crate) fn all(&mut self, args: impl IntoIterator<Item = impl AsRef<[u8]>>) -> &mut Self {
        let args: Vec<_> = args.into_iter().collect();
        self.count(args.len());
        for arg in args {
            self.arg(arg);
        }
        self
    }

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

impl Script {
    /// The same call with the whole script, for a server that does not know it.
    pub(crate) fn in_full(&self, by_hash: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.code);
        for arg in by_hash.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }
}

/// The first line of a script that takes memory: without room for it, it is not run at all. One that
/// ran out of memory halfway would leave half of a patch.
const WHILE_THERE_IS_ROOM: &str = "#!lua\n";

/// The first line of a script that ends sessions or reads: a full memory is no reason not to.
const ALWAYS: &str = "#!lua flags=allow-oom\n";

/// What a script answered: one word, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) word: String,
    rest: std::vec::IntoIter<Value>,
}

impl Answer {
    pub(crate) fn of(value: Value) -> Option<Self> {
        let mut rest = reply::items(value).into_iter();
        Some(Self { word: reply::text(rest.next()?)?, rest })
    }

    pub(crate) fn value(&mut self) -> Option<Value> {
        self.rest.next()
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        reply::text(self.rest.next()?)
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> Option<T> {
        reply::integer(&self.rest.next()?)?.try_into().ok()
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        Some(reply::texts(self.rest.next()?))
    }

    pub(crate) fn ids(&mut self) -> Option<Vec<RecordId>> {
        self.texts()?.iter().map(|id| id.parse().ok()).collect()
    }
}
