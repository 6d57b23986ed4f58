//! A server as a process that outlives nobody.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::fresh_dir;

/// A server, and a shell that ends it when this process does, in whatever way: the shell reads from a
/// pipe that is closed then.
pub(super) struct Process {
    shell: Child,
    id: String,
}

impl Process {
    /// Starts a server in a directory of its own.
    pub(super) fn spawn(config: &str, arguments: &[&str]) -> Self {
        let dir = fresh_dir();
        let path = dir.join("redis.conf");
        let config = format!("{config}\ndir {}\nlogfile {}/log\n", dir.display(), dir.display());
        std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(&dir)
            .arg(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut id = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut id).unwrap();
        Self { shell, id: id.trim().to_owned() }
    }

    /// Sends a signal, by its name without the `SIG`.
    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id]).status();
        assert!(sent.unwrap().success(), "the server runs");
    }

    /// Ends it, and waits for its end.
    pub(super) fn kill(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

const WATCH: &str = r#"
    dir=$1; shift
    redis-server "$@" >/dev/null 2>&1 &
    server=$!
    echo $server
    exec 1>&-
    read -r _
    kill -s KILL $server 2>/dev/null
    wait $server 2>/dev/null
    rm -rf "$dir"
"#;
