"""Breaks real servers until each alert fires in a real Prometheus.

    cargo build -p reference && python3 tests/monitoring_faults.py

Prometheus scrapes once a second, and the rules have their durations shortened, so that a run takes minutes. Needs
prometheus, redis-server and python3-yaml. No fault here raises the alerts of NOT_RUN.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import yaml

REFERENCE = os.environ.get("REFERENCE", "target/debug/reference")
RULES = "examples/reference/monitoring/alerts.yaml"
PATIENCE = 90
NOT_RUN = {
    "PostgresPoolExhausted",
    "ReplicatedClockWrong",
    "ReplicatedCopiesDiverged",
    "ReplicatedNodesDisagree",
    "ReplicatedNodesRelay",
    "ReplicatedQueueGrows",
    "ReplicatedWritesUnconfirmed",
}

directory = tempfile.mkdtemp()
processes = []


def start(*command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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

    def __init__(self, job, store, *options, listen=None):
        self.options = ("--listen", listen or f"127.0.0.1:{free_port()}", "--control", "127.0.0.1:0", "--store", store, *options)
        self.job = job
        self.start()

    def start(self):
        self.process = start(REFERENCE, *self.options)

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


class Prometheus:
    """Prometheus with the rules, their durations divided by the factor by which the scrapes are faster."""

    def __init__(self):
        self.jobs, self.address = {}, f"127.0.0.1:{free_port()}"
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
    # A load leaves a copy on the node, so that it can write without the backup.
    [call(server.address, "GET", "/peek", member) for member in members]
    backup.kill()
    write = lambda: members and call(server.address, "POST", "/put", members.pop(), "1")
    expect("sticky", "StickyFeedDown", "StickyWritesQueue", during=write)
    threading.Thread(target=lambda: server.order("/drain"), daemon=True).start()
    expect("sticky", "StickyWritesLost")


def cluster(job, settings, size=3):
    with open(os.path.join(directory, "secret"), "w") as file:
        file.write("a secret of the nodes, and of no other process")
    ports = [free_port() for _ in range(size)]
    seeds = ",".join(f"127.0.0.1:{port}" for port in ports)
    store = f"replicated:?bind=127.0.0.1:%d&seeds={seeds}&secret-file={directory}/secret&{settings}"
    nodes = [Server(job, store % port, "--node", f"n{n + 1}") for n, port in enumerate(ports)]
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
    # Slots whose owner and backup ended together wait for them for 60 s.
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


prometheus = Prometheus()
try:
    chosen = sys.argv[1:] or ["memory", "redis", "sticky", "replicated", "slots", "majority", "evicted"]
    for name in chosen:
        globals()[name]()
    missing = set(prometheus.alerts) - fired - NOT_RUN
    print(f"{len(fired)} alerts fired; not fired: {sorted(missing)}; not run: {sorted(NOT_RUN)}")
    sys.exit(bool(missing) and not sys.argv[1:])
finally:
    for process in processes:
        process.kill()
