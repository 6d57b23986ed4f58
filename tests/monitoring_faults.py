"""Breaks real servers until each alert fires in a real Prometheus, and then evaluates each query of the dashboard.

    cargo build -p reference && python3 tests/monitoring_faults.py [PHASE …]

Prometheus scrapes once a second, and the rules have their durations shortened, so that a run takes minutes. Needs
prometheus, redis-server, postgresql and python3-yaml, and root for the networks that are cut. The exit status is 1 if
an alert did not fire, or if a query of the dashboard never had data.
"""

import glob
import http.client
import json
import math
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import yaml

REFERENCE = os.environ.get("REFERENCE", "target/debug/reference")
RULES = "examples/reference/monitoring/alerts.yaml"
DASHBOARD = "examples/reference/monitoring/dashboard.json"
PATIENCE = 90

directory = tempfile.mkdtemp()
processes = []


def start(*command, **options):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)
    processes.append(process)
    return process


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(address, method, path, cookies=None, body="", timeout=10):
    """Sends a request. Returns the status and the body, and keeps the cookies that are set."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        for name, value in response.getheaders():
            if name == "set-cookie" and cookies is not None:
                name, value = value.split(";")[0].split("=", 1)
                cookies[name] = value
        return response.status, response.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


class Server:
    """The reference server, scraped as a job of its own or with others."""

    def __init__(self, job, store, *options, listen=None, entry=()):
        self.options = ("--listen", listen or f"127.0.0.1:{free_port()}", "--control", "127.0.0.1:0", "--store", store, *options)
        self.job, self.entry = job, entry
        self.start()

    def start(self):
        self.process = start(*self.entry, REFERENCE, *self.options)

    def wait(self):
        self.address = self.process.stdout.readline().strip().split("//")[1]
        self.control = self.process.stdout.readline().strip().split("//")[1]
        prometheus.scrape(self.job, self.address)
        return self

    def order(self, path):
        return call(self.control, "POST", path)

    def member(self, user):
        cookies = {}
        call(self.address, "POST", f"/login?u={user}", cookies)
        return cookies

    def kill(self, signal=signal.SIGKILL):
        self.process.send_signal(signal)
        if signal == signal.SIGKILL:
            self.process.wait()


class Redis:
    def __init__(self):
        self.port = free_port()
        self.start()

    def start(self):
        self.process = start("redis-server", "--port", str(self.port), "--save", "", "--dir", directory)
        time.sleep(0.5)

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def ask(self, *words):
        subprocess.run(["redis-cli", "-p", str(self.port), *words], stdout=subprocess.DEVNULL, check=True)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Postgres:
    """A server with one database, whose superuser needs no password."""

    def __init__(self):
        binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        data, self.port = os.path.join(directory, "postgres"), free_port()
        os.mkdir(data)
        as_user = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chmod(directory, 0o755)
            os.chown(data, user.pw_uid, user.pw_gid)
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": data}
        subprocess.run([f"{binaries}/initdb", "-D", data, "-U", "shop", "-A", "trust"], check=True, stdout=subprocess.DEVNULL, **as_user)
        start(f"{binaries}/postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", data, **as_user)
        until = time.time() + PATIENCE
        while subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode and time.time() < until:
            time.sleep(0.1)

    def url(self):
        return f"postgres://shop@127.0.0.1:{self.port}/postgres"

    def run(self, statements):
        command = ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(), "-c", statements]
        subprocess.run(command, check=True)


class Network:
    """A bridge, and a namespace for each node, between which routes are cut. Needs root, as `tests/drills` does."""

    laid = []

    def __init__(self, nodes):
        number = len(self.laid)
        self.prefix, self.subnet = f"mf{os.getpid()}{'abcdefgh'[number]}", f"10.214.{(os.getpid() + number) % 256}"
        self.nodes, self.bridge = nodes, f"{self.prefix}b"
        self.laid.append(self)
        self.ip(f"link add {self.bridge} type bridge")
        self.ip(f"addr add {self.subnet}.1/24 dev {self.bridge}")
        self.ip(f"link set {self.bridge} up")
        for node in range(nodes):
            space = self.space(node)
            self.ip(f"netns add {space}")
            self.ip(f"link add {space} type veth peer name eth0 netns {space}")
            self.ip(f"link set {space} master {self.bridge} up")
            self.ip(f"-n {space} addr add {self.address(node)}/24 dev eth0")
            self.ip(f"-n {space} link set eth0 up")
            self.ip(f"-n {space} link set lo up")

    def ip(self, words):
        subprocess.run(["ip", *words.split()], check=True)

    def space(self, node):
        return f"{self.prefix}{node}"

    def address(self, node):
        return f"{self.subnet}.{node + 2}"

    def entry(self, node):
        return ("ip", "netns", "exec", self.space(node))

    def cut(self, *pairs):
        """Lets nothing pass between two nodes any more, without a word to either of them."""
        for one, other in pairs:
            self.ip(f"-n {self.space(one)} route add blackhole {self.address(other)}/32")
            self.ip(f"-n {self.space(other)} route add blackhole {self.address(one)}/32")

    def mend(self, *pairs):
        for one, other in pairs:
            self.ip(f"-n {self.space(one)} route del blackhole {self.address(other)}/32")
            self.ip(f"-n {self.space(other)} route del blackhole {self.address(one)}/32")

    def throttle(self, node, rate):
        """Lets nothing get to a node faster than this."""
        subprocess.run(["tc", "qdisc", "add", "dev", self.space(node), "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"], check=True)

    def remove(self):
        for node in range(self.nodes):
            for words in (f"link del {self.space(node)}", f"netns del {self.space(node)}"):
                subprocess.run(["ip", *words.split()], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", self.bridge], stderr=subprocess.DEVNULL)


class Load:
    """Requests without a pause, from several clients, while a block runs."""

    def __init__(self, *requests):
        self.over = threading.Event()
        self.clients = [threading.Thread(target=self.repeat, args=(request,), daemon=True) for request in requests]

    def repeat(self, request):
        while not self.over.is_set():
            request()

    def __enter__(self):
        [client.start() for client in self.clients]

    def __exit__(self, *_):
        self.over.set()
        [client.join() for client in self.clients]


class Prometheus:
    """Prometheus with the rules. Their durations are shortened by the factor by which scrapes are faster."""

    def __init__(self):
        self.jobs, self.address, self.started = {}, f"127.0.0.1:{free_port()}", time.time()
        with open(RULES) as file:
            text = file.read()
        self.alerts = re.findall(r"alert: (\w+)", text)
        text = re.sub(r"for: \w+", "for: 1s", text)
        text = re.sub(r"\[\d+m\]", "[10s]", text).replace("offset 5m", "offset 10s")
        self.write("alerts.yaml", text)
        self.configure()
        config = os.path.join(directory, "prometheus.yaml")
        start("prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
              f"--web.listen-address={self.address}", "--web.enable-lifecycle")
        while call(self.address, "GET", "/-/ready")[0] != 200:
            time.sleep(0.1)

    def write(self, name, text):
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)

    def configure(self):
        scrapes = [{"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in self.jobs.items()]
        intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        self.write("prometheus.yaml", yaml.safe_dump({"global": intervals, "rule_files": ["alerts.yaml"], "scrape_configs": scrapes}))

    def scrape(self, job, address):
        if address not in self.jobs.setdefault(job, []):
            self.jobs[job].append(address)
            self.configure()
            call(self.address, "POST", "/-/reload")

    def firing(self, job):
        _, body = call(self.address, "GET", "/api/v1/alerts")
        alerts = json.loads(body)["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing" and alert["labels"]["job"] == job}


    def has_data(self, query):
        """Returns true if a query of the dashboard had a number for any job at any time of this run."""
        query = query.replace("$__rate_interval", "10s").replace("$job", ".+")
        parameters = {"query": query, "start": self.started, "end": time.time(), "step": "1"}
        status, body = call(self.address, "GET", f"/api/v1/query_range?{urllib.parse.urlencode(parameters)}")
        assert status == 200, f"{query}: {body}"
        series = json.loads(body)["data"]["result"]
        return any(math.isfinite(float(value)) for one in series for _, value in one["values"])


fired = set()


def expect(job, *alerts, during=lambda: None):
    """Repeats an action until the alerts fire for a job."""
    until = time.time() + PATIENCE
    missing = set(alerts)
    while missing and time.time() < until:
        during()
        found = prometheus.firing(job)
        fired.update(found & set(alerts))
        missing -= found
        time.sleep(0.2)
    for alert in alerts:
        print(f"{alert}: {'NOT fired' if alert in missing else 'fired'}", flush=True)


def memory():
    server = Server("memory", "memory:?anonymous-records=3").wait()
    made_up = {"__Host-id": "A" * 64}
    time.sleep(3)
    assert not prometheus.firing("memory"), "a server at rest raises alerts"
    expect("memory", "SessionsEndEarly", during=lambda: call(server.address, "POST", "/incr"))
    expect("memory", "UnknownTokens", during=lambda: [call(server.address, "GET", "/peek", dict(made_up)) for _ in range(20)])
    member = server.member("alice")
    load = lambda: [call(server.address, "GET", "/peek", dict(member)) for _ in range(3)]
    for mode, alert in (("slow&ms=700", "SessionStoreSlow"), ("corrupt", "SessionRecordsCorrupt"), ("down", "SessionStoreErrors")):
        server.order(f"/fault?op=load&mode={mode}")
        expect("memory", alert, during=load)
        server.order("/fault?op=all&mode=none")


def redis():
    server_of_redis = Redis()
    server = Server("redis", server_of_redis.url(), "--key", "k1=" + "11" * 32).wait()
    member = server.member("alice")
    time.sleep(2)
    other = Server("redis-key", server_of_redis.url(), "--key", "k2=" + "22" * 32).wait()
    time.sleep(12)
    expect("redis-key", "SessionStoreRefuses", during=lambda: call(other.address, "GET", "/peek", dict(member)))
    server_of_redis.ask("CONFIG", "SET", "maxmemory", "1")
    write = lambda: call(server.address, "POST", "/incr", dict(member))
    expect("redis", "SessionStoreFull", during=write)
    server_of_redis.ask("CONFIG", "SET", "maxmemory", "0")
    stream = threading.Thread(target=lambda: call(server.address, "GET", "/live", dict(member), timeout=PATIENCE), daemon=True)
    stream.start()
    time.sleep(1)
    server_of_redis.kill()
    expect("redis", "SessionStoreDown", "RedisDisconnected", "SessionFeedDown", during=write)


def sticky():
    alone = Server("sticky-alone", "sticky:?peers=n1,n2", "--node", "n1").wait()
    lost = {"__Host-id": "A" * 64, "__Host-id-route": "n2"}
    expect("sticky-alone", "BalancerIgnoresRoutes", "SessionsLost", during=lambda: call(alone.address, "GET", "/peek", dict(lost)))
    backup = Redis()
    server = Server("sticky", f"sticky:?backup={backup.url()}&write-behind-ms=60000&recheck-ms=60000&drain-ms=200", "--node", "n1").wait()
    member = server.member("alice")
    time.sleep(2)
    ahead = dict(member, **{"__Host-id-seen": str(2**64 - 1)})
    expect("sticky", "SessionsRolledBack", during=lambda: call(server.address, "GET", "/peek", dict(ahead)))
    members = [server.member(f"user{n}") for n in range(200)]
    # Loading a session leaves a copy on the node, so that it can write without the backup.
    [call(server.address, "GET", "/peek", member) for member in members]
    backup.kill()
    write = lambda: members and call(server.address, "POST", "/put", members.pop(), "1")
    expect("sticky", "StickyFeedDown", "StickyWritesQueue", during=write)
    threading.Thread(target=lambda: server.order("/drain"), daemon=True).start()
    expect("sticky", "StickyWritesLost")


def cluster(job, settings, size=3, network=None):
    with open(os.path.join(directory, "secret"), "w") as file:
        file.write("a secret of the nodes, and of no other process")
    hosts = [network.address(n) if network else "127.0.0.1" for n in range(size)]
    binds = [f"{host}:{free_port()}" for host in hosts]
    store = f"replicated:?bind=%s&seeds={','.join(binds)}&secret-file={directory}/secret&{settings}"
    nodes = [
        Server(job, store % bind, "--node", f"n{n + 1}", listen=f"{host}:{free_port()}", entry=network.entry(n) if network else ())
        for n, (host, bind) in enumerate(zip(hosts, binds))
    ]
    nodes = [node.wait() for node in nodes]
    time.sleep(5)
    return nodes


def replicated():
    first, second, third = cluster("replicated", "copies=2")
    [first.member(f"user{n}") for n in range(30)]
    third.kill()
    expect("replicated", "ReplicatedNodeMissing", "ReplicatedMemberAside", "ReplicatedCopiesMissing")
    second.kill()
    expect("replicated", "ReplicatedServiceDown", "ReplicatedNodeNotReady", "ReplicatedNodeUnreachable")


def slots():
    nodes = cluster("slots", "copies=1", size=5)
    [nodes[0].member(f"user{n}") for n in range(30)]
    for node in nodes[3:]:
        node.process.kill()
    # Slots whose owner and backup ended together wait 60 s for them.
    expect("slots", "ReplicatedSlotsWait")


def majority():
    first, second, third = cluster("majority", "copies=1")
    [first.member(f"user{n}") for n in range(30)]
    for node in (second, third):
        node.kill()
    expect("majority", "ReplicatedServiceDown")
    for node in (second, third):
        node.options = ("--listen", node.address, *node.options[2:])
        node.start()
    expect("majority", "ReplicatedSlotsLost")


def evicted():
    first, *_ = cluster("evicted", "copies=1&authenticated-records=20")
    count = iter(range(100_000))
    expect("evicted", "ReplicatedUsersEvicted", during=lambda: [first.member(f"user{next(count)}") for _ in range(5)])


def postgres():
    database = Postgres()
    server = Server("postgres", f"{database.url()}?connections=1").wait()
    members = [server.member(f"user{n}") for n in range(6)]
    # Each write takes a tenth of a second, as with a slow trigger or disk.
    database.run("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
        DO $$ DECLARE name regclass; BEGIN
            FOR name IN SELECT c.oid::regclass FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace NOT IN
                    ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            LOOP EXECUTE format('CREATE TRIGGER slow BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION slow()', name); END LOOP;
        END $$;
    """)
    with Load(*[lambda member=member: call(server.address, "POST", "/incr", dict(member)) for member in members]):
        expect("postgres", "PostgresPoolExhausted")


def clock():
    first, *_ = cluster("clock", "copies=1")
    first.order("/clock/advance?s=3")
    expect("clock", "ReplicatedClockWrong")


def unconfirmed():
    first, second, third = cluster("unconfirmed", "copies=2&acks=all")
    members = [first.member(f"user{n}") for n in range(12)]

    def stall():
        # With both backups standing still, the owner has no majority to declare them down by.
        for node in (second, third):
            node.kill(signal.SIGSTOP)
        time.sleep(2)
        for node in (second, third):
            node.kill(signal.SIGCONT)
        time.sleep(2)

    with Load(*[lambda member=member: call(first.address, "POST", "/incr", dict(member)) for member in members]):
        expect("unconfirmed", "ReplicatedWritesUnconfirmed", during=stall)


def relay():
    network = Network(3)
    _, second, third = cluster("relay", "copies=1", network=network)
    members = [second.member(f"user{n}") for n in range(12)]
    network.cut((1, 2))
    write = lambda: [call(second.address, "POST", "/incr", dict(member)) for member in members]
    expect("relay", "ReplicatedNodesRelay", during=write)
    # Without a majority, the third one stays in its epoch.
    network.cut((0, 2))
    expect("relay", "ReplicatedNodesDisagree")


def split():
    network = Network(3)
    first, _, third = cluster("split", "copies=1&partition=degrade", network=network)
    members = [first.member(f"user{n}") for n in range(36)]
    network.cut((0, 2), (1, 2))
    expect("split", "ReplicatedMemberAside")
    # The sides of the split write to the same sessions.
    for member in members:
        for node in (first, third):
            call(node.address, "POST", "/incr", dict(member))
    network.mend((0, 2), (1, 2))
    expect("split", "ReplicatedCopiesDiverged")


def queue():
    network = Network(3)
    first, *_ = cluster("queue", "copies=2&acks=one", network=network)
    members = [first.member(f"user{n}") for n in range(60)]
    put = lambda member: call(first.address, "POST", "/put", dict(member), "1" * 15_000)
    assert put(members[0])[0] == 200
    # One backup answers at once, and the other one lags behind, until it is declared down.
    network.throttle(2, "1mbit")
    with Load(*[lambda n=n: [put(member) for member in members[n::4]] for n in range(4)]):
        expect("queue", "ReplicatedQueueGrows")


PHASES = (memory, redis, postgres, sticky, replicated, slots, majority, evicted, clock, unconfirmed, relay, split, queue)


def dashboard():
    """Prints the queries of the dashboard that had no data in any phase, and returns how many there are."""
    with open(DASHBOARD) as file:
        panels = json.load(file)["panels"]
    queries = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]
    empty = [(title, query) for title, query in queries if not prometheus.has_data(query)]
    for title, query in empty:
        print(f"no data: {title}: {query}")
    print(f"{len(queries) - len(empty)} of {len(queries)} queries of the dashboard had data")
    return len(empty)


prometheus = Prometheus()
try:
    chosen = [phase for phase in PHASES if phase.__name__ in (sys.argv[1:] or [phase.__name__])]
    for phase in chosen:
        phase()
    missing = set(prometheus.alerts) - fired
    empty = dashboard()
    print(f"{len(fired)} of {len(prometheus.alerts)} alerts fired; not fired: {sorted(missing)}")
    sys.exit(bool(missing or empty) and not sys.argv[1:])
finally:
    for process in processes:
        process.kill()
        process.wait()
    for network in Network.laid:
        network.remove()
    shutil.rmtree(directory, ignore_errors=True)
