//! A server as a process that ends with its owner.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::fresh_dir;

/// A server, and a shell that ends it when this process ends in any way, and removes its
/// files: the shell reads from a pipe that is closed then.
pub(super) struct Process {
    shell: Child,
    id: String,
    dir: PathBuf,
}

impl Process {
    /// Starts a server in a directory of its own.
    pub(super) fn spawn(config: &str, arguments: &[&str]) -> Self {
        Self::spawn_in(&fresh_dir(), config, arguments)
    }

    /// Starts a server where another one ended.
    pub(super) fn spawn_again(&self, config: &str) -> Self {
        Self::spawn_in(&self.dir, config, &[])
    }

    /// Leaves the files to the one that was started again.
    pub(super) fn forget(mut self) {
        self.dir.clear();
    }

    fn spawn_in(dir: &Path, config: &str, arguments: &[&str]) -> Self {
        let path = dir.join("redis.conf");
        let config = format!("{config}\ndir {}\nlogfile {}/log\n", dir.display(), dir.display());
        std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(dir)
            .arg(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in a terminal would end the shell before it has cleaned up.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut id = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut id).unwrap();
        Self { shell, id: id.trim().to_owned(), dir: dir.to_owned() }
    }

    /// Removes the directory that it works in.
    pub(super) fn remove_dir(&self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
    }

    /// Sends a signal, by its name without the `SIG`.
    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id]).status();
        assert!(sent.unwrap().success(), "the server runs");
    }

    /// Ends it, waits for its end, and leaves its files for another one.
    pub(super) fn kill(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            pipe.write_all(b"keep\n").unwrap();
        }
        self.shell.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const WATCH: &str = r#"
    dir=$1; shift
    redis-server "$@" >/dev/null 2>&1 &
    server=$!
    echo $server
    exec 1>&-
    read -r files
    kill -s KILL $server 2>/dev/null
    wait $server 2>/dev/null
    [ "$files" = keep ] || rm -rf "$dir"
"#;
