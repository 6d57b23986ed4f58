//! The scripts, and calls of scripts and plain commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Arg, Cmd};
use steadfast_core::Record;

use crate::codec::Packed;
use crate::error::Fault;
use crate::request::{KEPT_MILLIS, MARGIN_MILLIS};

/// The scripts of a store.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) create: Script,
    pub(crate) update: Script,
    pub(crate) delete: Script,
    pub(crate) collect: Script,
    pub(crate) look: Script,
    pub(crate) revoke: Script,
    pub(crate) entries: Script,
    pub(crate) reserve: Script,
    pub(crate) resolve: Script,
    pub(crate) convert: Script,
    pub(crate) check: Script,
}

impl Scripts {
    pub(crate) fn new(keeping: Keeping) -> Self {
        let is_plain = Arc::default();
        let script = |flags, code| Script::new(flags, code, &is_plain, keeping, "nil");
        let writing = |code| {
            let queue = if keeping == Keeping::Here { "table.remove(KEYS)" } else { "nil" };
            Script::new(WHILE_THERE_IS_ROOM, code, &is_plain, keeping, queue)
        };
        Self {
            create: writing(include_str!("scripts/create.lua")),
            update: writing(include_str!("scripts/update.lua")),
            reserve: script(WHILE_THERE_IS_ROOM, include_str!("scripts/reserve.lua")),
            delete: script(ALWAYS, include_str!("scripts/delete.lua")),
            collect: script(ALWAYS, include_str!("scripts/collect.lua")),
            look: script(ALWAYS, include_str!("scripts/look.lua")),
            revoke: script(ALWAYS, include_str!("scripts/revoke.lua")),
            entries: script(ALWAYS, include_str!("scripts/entries.lua")),
            resolve: script(ALWAYS, include_str!("scripts/resolve.lua")),
            convert: script(ALWAYS, include_str!("scripts/convert.lua")),
            check: Script::bare(WHILE_THERE_IS_ROOM, include_str!("scripts/check.lua"), &is_plain),
        }
    }
}

/// The way in which scripts treat sessions that end without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// They remove them.
    Nothing,
    /// They leave what a report needs. The queue of endings is on the server of the records, and is
    /// the last key of a script that writes a record.
    Here,
    /// The same, but the queue may be on another server.
    Elsewhere,
}

/// The scripts of the queue of endings. Each has one key, the queue.
#[derive(Debug)]
pub(crate) struct QueueScripts {
    pub(crate) enqueue: Script,
    pub(crate) claim: Script,
    pub(crate) settle: Script,
}

impl QueueScripts {
    pub(crate) fn new() -> Self {
        let is_plain = Arc::default();
        let script = |flags, code| Script::new(flags, code, &is_plain, Keeping::Elsewhere, "nil");
        Self {
            enqueue: script(WHILE_THERE_IS_ROOM, include_str!("scripts/enqueue.lua")),
            claim: script(ALWAYS, include_str!("scripts/claim.lua")),
            settle: script(ALWAYS, include_str!("scripts/settle.lua")),
        }
    }
}

/// A script, including the part that all scripts share.
#[derive(Debug)]
pub(crate) struct Script {
    /// The script with and without a first line of flags. Not all servers know such a line.
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
    fn new(
        flags: &str,
        code: &str,
        is_plain: &Arc<AtomicBool>,
        keeping: Keeping,
        queue: &str,
    ) -> Self {
        let (keeps, margin, endings) = match keeping {
            Keeping::Nothing => (false, MARGIN_MILLIS, ""),
            Keeping::Here | Keeping::Elsewhere => {
                (true, KEPT_MILLIS, include_str!("scripts/endings.lua"))
            }
        };
        let constants = format!(
            "local KNOWN, MARGIN, REPLACED_KEPT, NONE = {}, {margin}, {}, -2^63\n\
             local KEEPS, QUEUE, SPARED, LOOKED_AT = {keeps}, {queue}, {}, {}\n",
            Record::FORMAT,
            Record::REPLACED_KEPT.as_millis(),
            SPARED.as_millis(),
            LOOKED_AT.as_millis(),
        );
        let (record, index) =
            (include_str!("scripts/record.lua"), include_str!("scripts/index.lua"));
        let form =
            |flags: &str| Form::of([flags, &constants, record, endings, index, code].concat());
        Self { forms: [form(flags), form("")], is_plain: Arc::clone(is_plain) }
    }

    /// Creates the script that publishes for the feed.
    pub(crate) fn publish() -> Self {
        Self::bare(ALWAYS, include_str!("scripts/publish.lua"), &Arc::default())
    }

    /// Creates a script without the shared part.
    fn bare(flags: &str, code: &str, is_plain: &Arc<AtomicBool>) -> Self {
        let form = |flags: &str| Form::of([flags, code].concat());
        Self { forms: [form(flags), form("")], is_plain: Arc::clone(is_plain) }
    }

    /// Returns a call of a script with one key and these arguments.
    pub(crate) fn with(&self, key: &str, args: &[Vec<u8>]) -> Invocation<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.form().hash).arg(1).arg(key).arg(args);
        Invocation { script: self, command }
    }

    /// Returns a call of the publishing script. It uses no key, but a proxy may require one.
    pub(crate) fn publishing(&self, channel: &str, message: &[u8]) -> Invocation<'_> {
        self.with(channel, &[channel.into(), message.to_vec()])
    }

    /// Returns a call of the script by its hash.
    pub(crate) fn on(&self, keys: &[impl AsRef<str>], args: &Packed) -> Invocation<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.form().hash).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        command.arg(&args.0);
        Invocation { script: self, command }
    }

    /// Returns the same call with the full script, for a server that does not know it.
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

    /// Returns true if the server might accept the script without its first line. The line is then
    /// omitted from all scripts.
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

/// A command, and the conditions for sending it.
pub(crate) struct Call<'c> {
    pub(crate) command: &'c Cmd,
    /// The script that the command names. It is sent in full to a server that does not know it.
    pub(crate) script: Option<&'c Script>,
    /// True if the command may be sent again while its outcome is unknown.
    pub(crate) is_repeatable: bool,
    /// The replicas that must confirm the command.
    pub(crate) copies: Option<Copies>,
}

impl<'c> Call<'c> {
    /// Creates a call of a plain command that is safe to repeat.
    pub(crate) fn repeatable(command: &'c Cmd) -> Self {
        Self { command, script: None, is_repeatable: true, copies: None }
    }

    /// Requires confirmation by replicas.
    pub(crate) fn on(self, copies: Option<Copies>) -> Self {
        Self { copies, ..self }
    }
}

/// The number of replicas that must confirm a write, and the time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) replicas: usize,
    pub(crate) within: Duration,
}

/// A call of a script.
pub(crate) struct Invocation<'s> {
    script: &'s Script,
    command: Cmd,
}

impl Invocation<'_> {
    /// Marks the call as safe to repeat while its outcome is unknown.
    pub(crate) fn repeatable(&self) -> Call<'_> {
        Call { is_repeatable: true, ..self.once() }
    }

    /// Marks the call as not safe to repeat.
    pub(crate) fn once(&self) -> Call<'_> {
        let script = Some(self.script);
        Call { command: &self.command, script, is_repeatable: false, copies: None }
    }
}

/// The first line of a script that takes memory. The server does not start it when memory is full.
/// Otherwise it could run out halfway and leave half of a patch applied.
const WHILE_THERE_IS_ROOM: &str = "#!lua\n";

/// The first line of a script that ends sessions or reads, which must work while memory is full.
const ALWAYS: &str = "#!lua flags=allow-oom\n";

/// The time after its deadline at which a session is reported. A node with a slow clock may use it
/// until then.
pub(crate) const SPARED: Duration = Duration::from_secs(5 * 60);

/// The interval at which a claim looks at a session that is live for longer. It is shorter than the
/// time that an expired record is kept.
const LOOKED_AT: Duration = Duration::from_secs(12 * 60 * 60);
