#!/usr/bin/env python3
"""The official conformance suite, straight at MCP servers and through the gateway: the same results.

Usage: python3 tests/conformance/run.py [--keep] [--failing] [--only WORD] [--scenario NAME]
`STENOGRAPH_BIN` is the gateway's binary (default: target/debug/stenograph). tests/sdk/setup.sh must
have run. For every server, line of the suite and protocol version the suite runs twice, against two
fresh instances of the server: one directly, one behind the gateway, each through a relay that adds a
token. Every check of every scenario must come out alike; what differs is run a second time alone (the
suite has windows of a second) and is printed and counted when it differs again. The last line counts.
"""

import argparse
import collections
import concurrent.futures
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk"))
import parts  # noqa: E402
from parts import NODE, PY2, ROOT, Checks, Process  # noqa: E402
from tokenproxy import TokenProxy  # noqa: E402

HERE = Path(__file__).resolve().parent
MODULES = ROOT / ".local/sdk/node_modules"
# The two lines of the suite: what is released, and what comes next.
SUITES = {
    "stable": MODULES / "conformance-v0/dist/index.js",
    "newest": MODULES / "@modelcontextprotocol/conformance/dist/index.js",
}
HANDSHAKE = ["2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = ["2026-07-28"]
# What belongs to no version: the scenarios of extensions, each at the version that the suite chooses.
EXTENSIONS = "extensions"
SERVERS = {
    # name: (command, environment, what the suite is run for)
    "python": (lambda port: [PY2, HERE / "server_py.py", port], lambda port: {}, HANDSHAKE + MODERN + [EXTENSIONS]),
    "python-plain": (lambda port: [PY2, HERE / "server_py.py", port, "plain"], lambda port: {}, HANDSHAKE[2:] + MODERN),
    "typescript": (lambda port: [NODE, HERE / "server_ts.mjs", port], lambda port: {}, HANDSHAKE[1:] + MODERN),
    "everything": (
        lambda port: [NODE, "node_modules/@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"],
        lambda port: {"PORT": str(port)},
        # It serves the handshake only: what clients of the newer version then see must be the same too.
        HANDSHAKE + MODERN,
    ),
}
# What a real client is run against the suite for.
CLIENTS = [("stable", "2025-11-25"), ("newest", "2025-11-25"), ("newest", "2026-07-28")]
SUITE_S_MAX = 240


@functools.cache
def extensions(suite):
    """Names of the scenarios that the suite has for extensions."""
    listed = subprocess.run([NODE, SUITES[suite], "list", "--server"], capture_output=True, text=True, check=True)
    return re.findall(r"- (\S+) \[extension\]", listed.stdout)


class Leg:
    """One instance of a server, with the relay before it: directly, or with the gateway between."""

    def __init__(self, world, server, gateway):
        self.world = world
        command, env, _ = SERVERS[server]
        port = parts.free_port()
        name = f"{server}-{'gateway' if gateway else 'direct'}"
        self.process = Process(name, command(port), world.directory, env(port))
        self.process.wait_port(port)
        self.server_port = port
        self.proxy = TokenProxy()
        self.route = name if gateway else None
        self.url = f"http://127.0.0.1:{self.proxy.port}/{self.route or 'mcp'}"

    def run(self, suite, version, scenario=None):
        """{scenario: [(check, status, message)]} of one run of the suite."""
        out = tempfile.mkdtemp(dir=self.world.directory)
        words = [NODE, SUITES[suite], "server", "--url", self.url, "-o", out]
        if version == EXTENSIONS:
            wanted = [["--scenario", name] for name in ([scenario] if scenario else extensions(suite))]
        else:
            words += ["--spec-version", version]
            wanted = [["--scenario", scenario] if scenario else ["--suite", "all"]]
        with open(Path(out) / "log", "wb") as log:
            for which in wanted:
                command = [str(word) for word in words + which]
                subprocess.run(command, stdout=log, stderr=log, timeout=SUITE_S_MAX, cwd=out)
        found = {}
        for place in sorted(Path(out).glob("**/checks.json")):
            name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", place.parent.name)
            checks = json.loads(place.read_text())
            found[name] = [(one["id"], one["status"], one.get("errorMessage") or "") for one in checks]
        return found


class World:
    """Identity provider, servers, gateway."""

    def __init__(self, directory, binary):
        self.directory = Path(directory)
        self.binary = binary
        self.processes = []
        self.legs = {}

    def leg(self, server, gateway):
        return self.legs[server, gateway]

    def start(self, servers):
        for server in servers:
            for gateway in (False, True):
                leg = Leg(self, server, gateway)
                self.legs[server, gateway] = leg
                self.processes.append(leg.process)
        self.client_port = parts.free_port()
        self.client_url = f"http://127.0.0.1:{self.client_port}/suite"
        urls = [self.client_url, *(leg.url for leg in self.legs.values())]
        client = {"id": "suite", "secret": "suite-pass", "groups": ["everybody"], "alg": "ES256"}
        plan = {"port": 0, "clients": [client], "resources": urls}
        idp = Process("idp", [NODE, "idp.mjs", json.dumps(plan)], self.directory)
        self.processes.append(idp)
        self.issuer = idp.wait_for(r"ready (\S+)")[1]
        self.client_token = self.token(self.client_url)
        self.key = self.directory / "log.key"
        subprocess.run([self.binary, "keygen", "log", "--out", self.key], check=True, capture_output=True)
        if self.legs:
            self.start_gateway()
        for leg in self.legs.values():
            leg.proxy.token = self.token(leg.url)
            leg.proxy.target_port = self.gateway_port if leg.route else leg.server_port

    def token(self, url):
        body = f"grant_type=client_credentials&resource={url}".encode()
        basic = parts.base64.b64encode(b"suite:suite-pass").decode()
        fields = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        return json.loads(parts.request("POST", f"{self.issuer}/token", fields, body).body)["access_token"]

    def start_gateway(self):
        self.gateway_port = parts.free_port()
        (self.directory / "deny.toml").write_text("")
        (self.directory / "deny.toml").chmod(0o600)
        blocks = []
        for leg in self.legs.values():
            if not leg.route:
                continue
            blocks.append(f"""
[[upstream]]
name = "{leg.route}"
path = "/{leg.route}"
url = "http://127.0.0.1:{leg.server_port}/mcp"
resource = "{leg.url}"

[[grant]]
upstream = "{leg.route}"
groups = ["everybody"]
tools = ["**"]
prompts = ["**"]
resources = ["**"]
methods = ["**"]
""")
        config = self.directory / "stenograph.toml"
        config.write_text(f"""
[[listen]]
address = "127.0.0.1:{self.gateway_port}"

[[issuer]]
url = "{self.issuer}"
algorithms = ["ES256"]
{''.join(blocks)}
[deny]
file = "{self.directory}/deny.toml"

[record]
directory = "{self.directory}/record"
signing_key = "{self.key}"
fingerprint_key = "{self.directory}/fingerprint.key"

[admin]
address = "127.0.0.1:0"
""")
        gateway = Process("gateway", [self.binary, "serve", "--config", config], self.directory)
        self.processes.append(gateway)
        gateway.wait_for(r'"event":\s*"ready"')

    def stop(self):
        for process in reversed(self.processes):
            process.stop()


# Checks that the gateway passes where a server fails them: what MCP says must be refused is refused
# before it. Only so: never the other way round.
STRICTER = {
    "localhost-host-rebinding-rejected",
    "tasks-headers-reject-mismatched-method",
    "sep-2663-server-rejects-mismatched-mcp-name-on-tasks-get",
    "sep-2575-http-server-header-mismatch-400",
    "sep-2322-reject-tampered-state",
}


def statuses(checks):
    return collections.Counter((check, status) for check, status, _ in checks)


def differs(direct, through):
    """Whether two runs of a scenario come out differently."""
    lost, won = statuses(direct), statuses(through)
    lost, won = lost - won, won - lost
    for check in STRICTER:
        if lost[check, "FAILURE"] == won[check, "SUCCESS"]:
            del lost[check, "FAILURE"], won[check, "SUCCESS"]
    return bool(lost or won)


def told(direct, through):
    only = statuses(direct) - statuses(through), statuses(through) - statuses(direct)
    lines = []
    for side, which, found in (("direct", only[0], direct), ("gateway", only[1], through)):
        for check, status, message in found:
            if (check, status) in which:
                lines.append(f"{side}: {check} {status} {message[:300]}")
    return " | ".join(lines)


def compare(world, checks, server, suite, version, scenario=None):
    direct_leg, gateway_leg = world.leg(server, False), world.leg(server, True)
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = [pool.submit(leg.run, suite, version, scenario) for leg in (direct_leg, gateway_leg)]
        direct, through = (future.result() for future in both)
    label = f"{server}, {suite} suite, {version}"
    passed = sum(status == "SUCCESS" for found in direct.values() for _, status, _ in found)
    total = sum(len(found) for found in direct.values())
    ran = passed > 0 and direct.keys() == through.keys()
    checks.check(f"{label}: the suite ran", ran, f"{passed} passed; {sorted(direct)} {sorted(through)}")
    for name in sorted(direct.keys() & through.keys()):
        one, two = direct[name], through[name]
        # Why once more: checks with a window of a second come out by the load of the machine.
        for _ in range(2):
            if not differs(one, two):
                break
            print(f"#     {label}: {name} once more: {told(one, two)}", flush=True)
            one, two = (leg.run(suite, version, name).get(name, []) for leg in (direct_leg, gateway_leg))
        checks.check(f"{label}: {name}", not differs(one, two), told(one, two))
    if world.failing:
        for name, found in sorted(direct.items()):
            for check, status, message in found:
                if status not in ("SUCCESS", "INFO"):
                    print(f"#     direct: {name}: {check} {status} {message[:400]}")
    print(f"#     {label}: {passed} of {total} checks pass directly, {time.monotonic() - begun:.0f} s", flush=True)


def run_clients(world, suite, version, gateway):
    """{scenario: checks} of the suite's client mode: the suite is the server, one for each scenario."""
    out = tempfile.mkdtemp(dir=world.directory)
    plan = {"node": str(NODE), "client": str(HERE / "client_ts.mjs"), "directory": str(world.directory)}
    if gateway:
        plan |= {
            "port": world.client_port, "resource": world.client_url, "issuer": world.issuer,
            "binary": str(Path(world.binary).resolve()), "key": str(world.key),
        }
    env = {**os.environ, "CONFORMANCE_PLAN": json.dumps(plan), "CONFORMANCE_TOKEN": world.client_token}
    command = f"{sys.executable} {HERE / 'through.py'}"
    found = {}
    for name in client_scenarios(suite, version):
        words = [NODE, SUITES[suite], "client", "--command", command, "--scenario", name]
        words += ["--spec-version", version, "-o", f"{out}/{name}"]
        with open(Path(out) / f"{name}.log", "wb") as log:
            subprocess.run([str(word) for word in words], stdout=log, stderr=log, env=env, timeout=SUITE_S_MAX)
        for place in Path(out, name).glob("**/checks.json"):
            checks = json.loads(place.read_text())
            found[name] = [(one["id"], one["status"], one.get("errorMessage") or "") for one in checks]
    return found


@functools.cache
def client_scenarios(suite, version):
    """Scenarios of the client mode that are not about how a client gets a token: that way does not lead
    through the gateway."""
    words = [NODE, SUITES[suite], "list", "--client", "--spec-version", version]
    listed = subprocess.run(words, capture_output=True, text=True, check=True)
    return [name for name in re.findall(r"^  - (\S+)", listed.stdout, re.M) if not name.startswith("auth/")]


def compare_clients(world, checks, suite, version):
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run_clients, world, suite, version, gateway) for gateway in (False, True)]
        direct, through = (future.result() for future in both)
    label = f"clients, {suite} suite, {version}"
    ran = len(direct) > 0 and direct.keys() == through.keys()
    checks.check(f"{label}: the suite ran", ran, f"{sorted(direct)} {sorted(through)}")
    for name in sorted(direct.keys() & through.keys()):
        # Each message of a conversation is a check of its own here: how many there are is the client's
        # and the clock's, so what is compared is which kinds came out how.
        one, two = (set(statuses(checks)) for checks in (direct[name], through[name]))
        told = f"direct only {sorted(one - two)}, gateway only {sorted(two - one)}"
        checks.check(f"{label}: {name}", one == two, told)
    failing = sorted(name for name, found in direct.items() if any(status == "FAILURE" for _, status, _ in found))
    passed = len(direct) - len(failing)
    print(f"#     {label}: {passed} of {len(direct)} scenarios pass directly, not {failing}; {time.monotonic() - begun:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    parser.add_argument("--only", default="", help="runs whose label has this word")
    parser.add_argument("--failing", action="store_true", help="also print what fails at the server itself")
    parser.add_argument("--scenario", help="one scenario")
    options = parser.parse_args()
    binary = os.environ.get("STENOGRAPH_BIN", str(ROOT / "target/debug/stenograph"))
    directory = tempfile.mkdtemp(prefix="stenograph-conformance-")
    world, checks = World(directory, binary), Checks()
    world.failing = options.failing
    runs = [
        (server, suite, version)
        for server, (_, _, versions) in SERVERS.items()
        for suite in SUITES
        for version in versions
        # The released line knows none newer than 2025-11-25, and no scenario of it is older than 2025-06-18.
        if suite != "stable" or version in HANDSHAKE[1:]
        if options.only in f"{server}, {suite} suite, {version}"
    ]
    try:
        world.start(sorted({server for server, _, _ in runs}))
        for run in runs:
            compare(world, checks, *run, options.scenario)
        for suite, version in CLIENTS:
            if options.only in f"clients, {suite} suite, {version}" and not options.scenario:
                compare_clients(world, checks, suite, version)
    finally:
        world.stop()
        if options.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
