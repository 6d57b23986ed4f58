//! Processes that never outlive this program.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A process, and a shell that kills it when the pipe from this program closes. The system closes the
/// pipe however this program ends, so no handler has to run for that.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
    pipe: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    id: u32,
    log: PathBuf,
}

impl Leash {
    /// Starts a program in an empty environment. Its standard error goes to a file.
    ///
    /// # Errors
    ///
    /// If the system cannot start it.
    pub async fn start(program: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Self> {
        let said = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "keeper"]).arg(program).args(arguments);
        shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
        // Ctrl-C in a terminal reaches this program alone, and the pipe ends the others.
        shell.process_group(0);
        let mut shell = shell.spawn().context("cannot start sh")?;
        let lines = shell.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        let (pipe, lines) = (shell.stdin.take(), lines.context("sh has an output")?);
        let mut leash = Self { shell, pipe, lines, id: 0, log: log.to_owned() };
        leash.id = leash.line().await?.parse().context("sh names a process")?;
        Ok(leash)
    }

    /// The next line that the program prints.
    ///
    /// # Errors
    ///
    /// If it ends, or prints nothing for 30 s. The error has what it wrote to standard error.
    pub async fn line(&mut self) -> anyhow::Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        if let Ok(Ok(Some(line))) = line {
            return Ok(line);
        }
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        bail!("a process did not start: {}", said.trim())
    }

    /// Sends a signal, by its name without the `SIG`.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.id.to_string()]).status().await?;
        if !sent.success() {
            bail!("process {} has ended by itself", self.id);
        }
        Ok(())
    }

    /// Kills the process and waits for its end.
    pub async fn end(mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait().await;
    }
}

/// A directory that is removed when this program ends, however it does.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
    _janitor: Child,
}

impl Workplace {
    /// Creates a directory for temporary files.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("steadfast-compare-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let mut janitor = Command::new("sh");
        janitor.args(["-c", r#"read -r order; rm -rf "$1""#, "janitor"]).arg(&path);
        janitor.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let janitor = janitor.spawn().context("cannot start sh")?;
        Ok(Self { path, _janitor: janitor })
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The process prints its id before it becomes the program, so that no line of the program comes first.
const KEEPER: &str = r#"
sh -c 'echo $$; exec "$@"' starter "$@" </dev/null &
process=$!
exec 1>&-
read -r order
kill -s KILL $process 2>/dev/null
wait $process 2>/dev/null
"#;

const PATIENCE: Duration = Duration::from_secs(30);
