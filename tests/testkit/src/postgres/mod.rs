//! PostgreSQL servers of one's own: a primary, and standbys that follow it.

mod certificates;
mod pgbouncer;
mod proxy;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

pub use certificates::Certificates;
pub use pgbouncer::PgBouncer;
pub use proxy::{Proxy, Traffic};

/// A running server. It ends with this value, and with the process in any case.
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    keeper: Child,
    /// The keeper ends the server when this is closed.
    leash: Option<ChildStdin>,
}

impl Postgres {
    /// An empty server, and the superuser `postgres` on its socket.
    pub fn start(settings: &[&str]) -> Self {
        let dir = fresh_dir();
        let data = dir.join("data");
        run(as_owner(&binary("initdb")).arg("-D").arg(&data).args(INITDB));
        Self::serve(dir, settings.iter().map(|setting| (*setting).to_owned()).collect())
    }

    /// A standby that follows this server.
    pub fn standby(&self) -> Self {
        let dir = fresh_dir();
        let primary = format!("host={} port={} user=postgres", self.dir.display(), self.port);
        // `pg_basebackup` takes no copy of a server that is newer than itself.
        self.pause();
        let mut copy = as_owner(Path::new("sh"));
        run(copy.args(["-c", COPY, "copy"]).args([&self.dir, &dir]).arg(primary));
        self.resume();
        Self::serve(dir, self.settings.clone())
    }

    /// Its TCP address, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its socket, as the host and port of a URL.
    pub fn socket(&self) -> String {
        let dir = self.dir.to_str().unwrap().replace('/', "%2F");
        format!("{dir}:{}", self.port)
    }

    /// Runs SQL in a database as a role, and returns what it says, without decoration.
    pub fn sql(&self, role: &str, database: &str, sql: &str) -> String {
        self.try_sql(role, database, sql).unwrap_or_else(|said| panic!("{said}\n{sql}"))
    }

    /// The same, or what it says on standard error.
    pub fn try_sql(&self, role: &str, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.client("psql", role);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        let mut psql = psql.stdin(Stdio::piped()).spawn().unwrap();
        // Where there is no server, it does not read that far.
        let _ = psql.stdin.take().unwrap().write_all(sql.as_bytes());
        let output = psql.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Runs SQL in a transaction that stays open until what is returned is dropped.
    pub fn hold(&self, database: &str, sql: &str) -> Transaction {
        let mut psql = self.client("psql", "postgres");
        psql.args(["-XAtq", "-d", database]).stdin(Stdio::piped());
        let mut psql = psql.spawn().unwrap();
        let orders = format!("BEGIN;\n{sql};\n\\echo held\n");
        psql.stdin.as_mut().unwrap().write_all(orders.as_bytes()).unwrap();
        let mut said = BufReader::new(psql.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "held"));
        Transaction(psql)
    }

    /// Every row of every table in a database, as text.
    pub fn dump(&self, database: &str) -> String {
        self.sql("postgres", database, DUMP)
    }

    /// Ends all of its processes together, as a power cut does.
    pub fn kill(&self) {
        self.signal("STOP");
        let processes = self.signal("KILL");
        // A server does not start beside the remains of one.
        until(|| processes.iter().all(|process| is_in_state(process, &DEAD)));
    }

    /// Stops every process of it where it is.
    pub fn pause(&self) {
        let processes = self.signal("STOP");
        until(|| processes.iter().all(|process| is_in_state(process, &STOPPED)));
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Starts it again after it was killed, on its old port.
    pub fn restart(&mut self) {
        self.leash.take().unwrap().write_all(b"keep\n").unwrap();
        self.keeper.wait().unwrap();
        (self.keeper, self.leash) = keep(&self.dir, self.port, &self.settings);
        self.wait_until_ready();
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.sql("postgres", "postgres", "SELECT pg_promote()");
    }

    /// Waits until a standby has everything that this server has.
    pub fn wait_until_followed(&self) {
        let behind = "SELECT count(*) FROM pg_stat_replication
            WHERE state = 'streaming' AND replay_lsn >= pg_current_wal_lsn()";
        until(|| self.sql("postgres", "postgres", behind) != "0");
    }

    fn serve(dir: PathBuf, settings: Vec<String>) -> Self {
        let port = free_port();
        let (keeper, leash) = keep(&dir, port, &settings);
        let server = Self { dir, port, settings, keeper, leash };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        until(|| self.try_sql("postgres", "postgres", "SELECT 1").is_ok());
    }

    fn client(&self, program: &str, role: &str) -> Command {
        let mut client = Command::new(binary(program));
        client.env_clear().arg("-h").arg(&self.dir).args(["-p", &self.port.to_string()]);
        client.args(["-U", role]).stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    }

    /// Sends a signal to the server's processes. To stop them, to the first one first, so that it starts no
    /// other.
    fn signal(&self, name: &str) -> Vec<String> {
        let lines = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let mut processes = vec![lines.lines().next().unwrap().to_owned()];
        if name == "STOP" {
            send(name, &processes);
        }
        let path = format!("/proc/{0}/task/{0}/children", processes[0]);
        let children = fs::read_to_string(path).unwrap();
        processes.extend(children.split_whitespace().map(str::to_owned));
        send(name, &processes);
        processes
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.keeper.wait();
    }
}

/// A transaction that is open.
pub struct Transaction(Child);

impl Transaction {
    pub fn commit(mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"COMMIT;\n").unwrap();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Sends a signal to processes, some of which may have ended by themselves.
fn send(signal: &str, processes: &[String]) {
    let _ =
        Command::new("kill").args(["-s", signal]).args(processes).stderr(Stdio::null()).status();
}

/// Returns true if a process is gone, or in one of these states.
fn is_in_state(process: &str, states: &[char]) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(states))
}

/// Starts a server under a shell that ends it, files and all, when its standard input is closed.
fn keep(dir: &Path, port: u16, settings: &[String]) -> (Child, Option<ChildStdin>) {
    let mut server = as_owner(Path::new("sh"));
    server.args(["-c", KEEPER, "keeper"]).arg(dir).arg(binary("postgres"));
    server.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string()]);
    server.arg("-k").arg(dir);
    for setting in SETTINGS.iter().copied().chain(settings.iter().map(String::as_str)) {
        server.args(["-c", setting]);
    }
    // Ctrl-C in a terminal would end the shell before it has cleaned up.
    let mut keeper = server.stdin(Stdio::piped()).process_group(0).spawn().unwrap();
    let leash = keeper.stdin.take();
    (keeper, leash)
}

/// A program, as a user whom the server lets run it: not root.
fn as_owner(program: &Path) -> Command {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

fn fresh_dir() -> PathBuf {
    let template = std::env::temp_dir().join("steadfast-postgres-XXXXXX");
    let output = as_owner(Path::new("mktemp")).arg("-d").arg(template).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// Returns the path in the directory that `POSTGRES_BIN` names, if it has the program: some packages have
/// a server and no clients. Debian keeps the server's programs out of the way.
fn binary(name: &str) -> PathBuf {
    let chosen = std::env::var_os("POSTGRES_BIN").map(|dir| Path::new(&dir).join(name));
    if let Some(path) = chosen.filter(|path| path.exists()) {
        return path;
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn run(command: &mut Command) {
    let output = command.output().expect("PostgreSQL is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "it takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The state of a process whose parent has not yet collected it.
const DEAD: [char; 2] = ['Z', 'X'];

const STOPPED: [char; 3] = ['T', 'Z', 'X'];

const INITDB: [&str; 6] = [
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--no-instructions",
    "-Upostgres",
];

/// Sparing, and without waiting for a disk: what these servers survive is the death of a process.
const SETTINGS: [&str; 10] = [
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=32MB",
    "max_connections=400",
    "max_wal_senders=4",
    "wal_level=replica",
    "hot_standby=on",
    "logging_collector=off",
];

/// Copies the data of a server that stands still, and has the copy follow it.
const COPY: &str = r#"
set -e
cp -a "$1/data" "$2/data"
rm -f "$2/data/postmaster.pid"
touch "$2/data/standby.signal"
echo "primary_conninfo = '$3'" >>"$2/data/postgresql.auto.conf"
"#;

const DUMP: &str = r"
SELECT format('COPY %I.%I TO STDOUT', schemaname, tablename) FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema') \gexec
";

/// SIGQUIT ends a server immediately, and SIGCONT lets a stopped one receive it.
const KEEPER: &str = r#"
dir=$1
shift
"$@" </dev/null >>"$dir/log" 2>&1 &
server=$!
read -r order
kill -QUIT $server 2>/dev/null
kill -CONT $server 2>/dev/null
wait $server
[ "$order" = keep ] || rm -rf "$dir"
"#;
