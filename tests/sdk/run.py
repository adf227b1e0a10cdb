#!/usr/bin/env python3
"""End-to-end tests: real MCP SDK clients, through the gateway, to real MCP servers.

Usage: python3 tests/sdk/run.py [--keep] [--only WORD]
`STENOGRAPH_BIN` is the gateway's binary (default: target/debug/stenograph). tests/sdk/setup.sh
must have run. One line per check; the last line counts them; exit 1 if any failed.

A recording tee stands between the clients and the gateway and between the gateway and each
server, so what really crossed the wire is what is judged: a secret that reaches a client in any
spelling, or a caller's token that reaches a server, is found in the bytes.
"""

import argparse
import concurrent.futures
import json
import os
import random
import re
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import hiding
import hostile
import parts
from parts import HERE, NODE, PY1, PY2, ROOT, Checks, OpenStream, Process, Tee, bearer, post, request, rpc, shows
from suites import EVERYTHING_BLOCKED, EVERYTHING_GRANT, PY_GRANT, TS_GRANT, everything_steps, judge, py_steps, ts_steps

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
CLIENTS = {
    "python 2": ([PY2, "client_py2.py"], ("legacy", "modern")),
    "python 1": ([PY1, "client_py1.py"], ("legacy",)),
    "typescript 2": ([NODE, "client_ts2.mjs"], ("legacy", "modern")),
    "typescript 1": ([NODE, "client_ts1.mjs"], ("legacy",)),
}
INSPECTOR_2 = ["node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli", "--protocol-era"]
INSPECTORS = {
    "inspector 1": (["node_modules/inspector-v1/cli/build/cli.js", "--cli"], ("py", "ts", "everything")),
    "inspector 2, legacy": ([*INSPECTOR_2, "legacy"], ("py", "ts", "everything")),
    "inspector 2, modern": ([*INSPECTOR_2, "modern"], ("py", "ts")),
}
TOOLS = {"py": ("add", "wipe"), "ts": ("add", "wipe"), "everything": ("get-sum", "gzip-file-as-resource")}
SERVERS = {
    "py": lambda world: py_steps(world.planted, world.sent),
    "ts": lambda world: [*ts_steps(world.planted, world.sent), *hiding.steps(world.hidden, world.upstream_credential, codings_alone=True)],
    "everything": lambda world: everything_steps(world.planted, world.sent),
    "hiding": lambda world: hiding.steps(world.hidden, world.upstream_credential),
}
# What the tools `shaped_enum` and `shaped_loose` answer with.
SHAPED_RULES = """
schema = 1
[pack]
id = "shaped"
version = "1"
[[rule]]
id = "shaped-code"
title = "Code"
category = "custom"
pattern = '\\bCODE-([0-9]{6})\\b'
scope = { json_keys = ["structuredContent"] }
[[rule]]
id = "shaped-loose"
title = "Loose"
category = "custom"
pattern = '\\bLOOSE-([a-z]{8})\\b'
structured = "mask"
"""
VISIT_S = 4
PERSON_S = 4
VERSIONS = {"legacy": "2025-11-25", "modern": "2026-07-28"}


def github_token():
    """A made-up token with the prefix and the checksum of a real one."""
    body = "".join(random.choices(BASE62, k=30))
    number = zlib.crc32(body.encode())
    check = ""
    while number:
        number, digit = divmod(number, 62)
        check = BASE62[digit] + check
    return f"ghp_{body}{check:0>6}"


def aws_key():
    return "AKIA" + "".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))


class World:
    """Everything that runs: identity provider, servers, tees, gateway; and who may do what."""

    def __init__(self, directory, binary):
        self.directory = Path(directory)
        self.binary = binary
        self.running = []
        self.planted = {"github": github_token(), "aws": aws_key()}
        self.hidden = hiding.plan(github_token)
        self.hidden["plain"]["secret"] = self.planted["github"]
        self.hidden["plain"]["text"] = f"key {self.planted['github']} of x"
        self.sent = {"masked": aws_key(), "blocked": github_token()}
        self.upstream_credential = "Bearer upstream-credential-" + "".join(random.choices(string.ascii_lowercase, k=20))
        self.clients = [
            {"id": name, "secret": f"{name}-pass", "groups": groups, "alg": alg}
            for name, groups, alg in [
                ("engineer", ["engineering"], "RS256"), ("contractor", ["contractors"], "ES256"),
                ("nobody", [], "RS256"), ("visitor", ["engineering"], "ES256"),
            ]
        ]
        self.clients[-1]["ttl_s"] = VISIT_S

    def start(self, name, command, env=None):
        process = Process(name, command, self.directory, env)
        self.running.append(process)
        return process

    def start_servers(self):
        self.ports = {name: parts.free_port() for name in SERVERS}
        env = {"PLANTED": json.dumps(self.planted)}
        py = self.start("server-py", [PY2, "server_py2.py", self.ports["py"]], env)
        ts = self.start("server-ts", [NODE, "server_ts2.mjs", self.ports["ts"]], env | {"HIDDEN": json.dumps(self.hidden)})
        everything = self.start(
            "server-everything",
            [NODE, "node_modules/@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"],
            {"PORT": str(self.ports["everything"]), "STENOGRAPH_PLANTED": json.dumps(self.planted)},
        )
        hides = self.start("server-hiding", [PY2, "server_hiding.py", self.ports["hiding"]], {"HIDDEN": json.dumps(self.hidden)})
        for name, process in (("py", py), ("ts", ts), ("everything", everything), ("hiding", hides)):
            process.wait_port(self.ports[name])
        self.to_server = {name: Tee(port) for name, port in self.ports.items()}
        # The public address is the tee's: that is what clients are told and what tokens are for.
        self.to_gateway = Tee()
        self.url = {name: f"http://127.0.0.1:{self.to_gateway.port}/{name}" for name in self.ports}

    def start_idp(self):
        person = {"id": "person", "groups": ["engineering"], "alg": "ES256", "ttl_s": PERSON_S}
        plan = {"port": 0, "clients": self.clients, "resources": list(self.url.values()), "person": person}
        self.idp = idp = self.start("idp", [NODE, "idp.mjs", json.dumps(plan)])
        self.issuer = idp.wait_for(r"ready (\S+)")[1]

    def token(self, client, server):
        body = f"grant_type=client_credentials&resource={self.url[server]}".encode()
        basic = parts.base64.b64encode(f"{client}:{client}-pass".encode()).decode()
        answer = request(
            "POST", f"{self.issuer}/token",
            {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}, body,
        )
        return json.loads(answer.body)["access_token"]

    def command(self, *words, stdin=b"", timeout_s=60):
        return subprocess.run(
            [self.binary, *map(str, words)], input=stdin, capture_output=True, timeout=timeout_s, cwd=self.directory
        )

    def write_config(self, engineer_py=None):
        def values(grant):
            return "\n".join(f"{key} = {json.dumps(value)}" for key, value in grant.items())

        self.config.write_text(f"""
[workers]
cores = "auto"

[[listen]]
address = "127.0.0.1:{self.gateway_port}"

[[issuer]]
url = "{self.issuer}"
algorithms = ["RS256", "ES256"]

[[upstream]]
name = "py"
path = "/py"
url = "http://127.0.0.1:{self.to_server['py'].port}/mcp"
resource = "{self.url['py']}"
credential = {{ header = "authorization", file = "{self.directory}/credential" }}

[[upstream]]
name = "ts"
path = "/ts"
url = "http://127.0.0.1:{self.to_server['ts'].port}/mcp"
resource = "{self.url['ts']}"

[[upstream]]
name = "everything"
path = "/everything"
url = "http://127.0.0.1:{self.to_server['everything'].port}/mcp"
resource = "{self.url['everything']}"

[[upstream]]
name = "hiding"
path = "/hiding"
url = "http://127.0.0.1:{self.to_server['hiding'].port}/mcp"
resource = "{self.url['hiding']}"
credential = {{ header = "authorization", file = "{self.directory}/credential" }}

[[grant]]
upstream = "hiding"
groups = ["engineering"]
{values(hiding.GRANT)}

[[grant]]
upstream = "py"
groups = ["engineering"]
{values(engineer_py or PY_GRANT)}

[[grant]]
upstream = "ts"
groups = ["engineering"]
{values(TS_GRANT)}

[[grant]]
upstream = "everything"
groups = ["engineering"]
{values(EVERYTHING_BLOCKED)}

[[grant]]
upstream = "everything"
groups = ["engineering"]
{values(EVERYTHING_GRANT)}

[[grant]]
upstream = "py"
subjects = ["contractor"]
tools = ["echo", "slow"]

[deny]
file = "{self.directory}/deny.toml"

[guard]
rules = ["builtin", "{self.directory}/shaped.toml"]

[record]
directory = "{self.directory}/record"
release = "written"
signing_key = "{self.directory}/log.key"
fingerprint_key = "{self.directory}/fingerprint.key"

[limits]
token_leeway_ms_max = "0ms"

[admin]
address = "127.0.0.1:{self.admin_port}"
""")

    def start_gateway(self):
        self.config = self.directory / "stenograph.toml"
        self.gateway_port, self.admin_port = parts.free_port(), parts.free_port()
        for name, content in (("credential", self.upstream_credential), ("deny.toml", ""), ("shaped.toml", SHAPED_RULES)):
            (self.directory / name).write_text(content)
            (self.directory / name).chmod(0o600)
        made = self.command("keygen", "log", "--out", self.directory / "log.key")
        if made.returncode:
            raise RuntimeError(f"keygen: {made}")
        self.verifier = made.stdout.decode().strip().splitlines()[-1]
        self.write_config()
        judged = self.command("check", "--config", self.config)
        if judged.returncode:
            raise RuntimeError(f"check: {judged.stdout.decode()}{judged.stderr.decode()}")
        self.gateway = self.start("gateway", [self.binary, "serve", "--config", self.config])
        self.gateway.wait_for(r'"event":\s*"ready"')
        self.to_gateway.target_port = self.gateway_port

    def stop(self):
        for process in reversed(self.running):
            process.stop()


def run_client(program, plan, timeout_s=60):
    """The lines a client printed."""
    child = subprocess.Popen(
        [*map(str, program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE
    )
    late = ""
    try:
        out, err = child.communicate(json.dumps(plan), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        late = f"still running after {timeout_s} s; "
    lines = [json.loads(line) for line in out.split("\n") if line.startswith("{")]
    if late or not lines:
        lines.append({"step": "connection", "error": late + err[-2000:]})
    return lines


def suites(world, checks, only, control):
    """Every client with every server that speaks its era. `control`: straight at the servers."""
    for client, (program, eras) in CLIENTS.items():
        for server, make in SERVERS.items():
            for era in eras:
                label = f"{'control: ' if control else ''}{client}, {server}, {era}"
                if only and only not in label:
                    continue
                # server-everything has the handshake era only: a client that asks for the newer
                # one must fall back through the gateway as it does without it.
                spoken = "legacy" if server == "everything" else era
                steps = [step for step in make(world) if spoken in step.eras]
                plan = {"era": era, "steps": [step.words for step in steps]}
                if control:
                    plan["url"] = f"http://127.0.0.1:{world.ports[server]}/mcp"
                    plan["token"] = world.upstream_credential.split()[1] if server == "hiding" else None
                else:
                    plan |= {"url": world.url[server], "issuer": world.issuer,
                             "client_id": "engineer", "client_secret": "engineer-pass"}
                mark = world.to_gateway.mark()
                lines = run_client(program, plan)
                by_name = {line["step"]: line for line in lines}
                version = by_name.get("connect", {}).get("result", {}).get("version")
                checks.check(f"{label}: speaks {VERSIONS[spoken]}", version == VERSIONS[spoken], lines[:1])
                judge(checks, label, steps, lines, control)
                down = None if control else world.to_gateway.since(mark, "down")
                if server == "hiding":
                    hiding.judge(checks, label, world.hidden, lines, down)
                if control:
                    continue
                up = world.to_gateway.since(mark, "up")
                for kind, secret in world.planted.items():
                    checks.check(f"{label}: planted {kind} secret is nowhere in the bytes", not shows(down, secret))
                if server == "ts" and spoken == "legacy":
                    asked = [s for s, a in zip(down, up) if b"GET /ts " in a]
                    # The Python clients do not even ask without a session.
                    checks.check(f"{label}: the server's 405 to GET comes through",
                                 all(b"HTTP/1.1 405" in s for s in asked) and (asked or "python" in client), asked)
                elif spoken == "legacy":
                    opened = [s for s, a in zip(down, up) if f"GET /{server} ".encode() in a]
                    checks.check(f"{label}: GET stream opens", any(b"\r\nHTTP/1.1 200" in b"\r\n" + s and b"text/event-stream" in s for s in opened), opened)
                    deleted = [s for s, a in zip(down, up) if b"DELETE /" in a]
                    checks.check(f"{label}: DELETE ends the session",
                                 deleted and all(b"HTTP/1.1 404" not in s and b"HTTP/1.1 5" not in s for s in deleted), deleted[:1])


def inspectors(world, checks, only):
    """The inspector's command line, of each generation and era."""
    for name, (command, servers) in INSPECTORS.items():
        for server in servers:
            label, (tool, hidden) = f"{name}, {server}", TOOLS[server]
            if only and only not in label:
                continue
            base = [NODE, *command, world.url[server], "--transport", "http",
                    "--header", f"Authorization: Bearer {world.token('engineer', server)}"]
            env = {**os.environ, "HOME": str(world.directory)}

            def inspect(*words):
                done = subprocess.run([*map(str, base), *words], capture_output=True, text=True, timeout=60, cwd=HERE, env=env)
                return done.returncode, done.stdout, done.stderr

            code, out, err = inspect("--method", "tools/list")
            checks.check(f"{label}: tools/list", code == 0 and f'"{tool}"' in out and f'"{hidden}"' not in out, out[:200] + err[-300:])
            code, out, err = inspect("--method", "tools/call", "--tool-name", tool, "--tool-arg", "a=2", "b=3")
            checks.check(f"{label}: tools/call", code == 0 and "5" in out, out[:200] + err[-300:])
            code, out, err = inspect("--method", "tools/call", "--tool-name", hidden)
            # The older one asks the gateway; the newer one looks into the list first.
            checks.check(f"{label}: tool not granted", code != 0 and ("31001" in err or "tool_not_found" in err), out[:200] + err[-300:])


def persons(world, checks):
    """Each SDK goes the whole way by itself: from the 401 to the metadata, to the identity provider, which
    registers it and asks its person, by code and PKCE to a token, and by refresh to the next one."""
    url = world.url["py"]
    steps = [
        {"name": "tools", "do": "tools"},
        {"name": "before", "do": "call", "tool": "echo", "arguments": {"text": "early"}},
        {"name": "sleep", "do": "sleep", "ms": (PERSON_S + 1) * 1000},
        {"name": "after", "do": "call", "tool": "echo", "arguments": {"text": "late"}},
        {"name": "denied", "do": "call", "tool": "wipe", "arguments": {}},
    ]
    runs = {f"person, {client}, {era}": (program, era) for client, (program, eras) in CLIENTS.items() for era in eras}
    mark = world.to_gateway.mark()

    def run(label):
        program, era = runs[label]
        return run_client(program, {"url": url, "era": era, "person": label, "steps": steps})

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        told = dict(zip(runs, pool.map(run, runs)))
    events = [(word, json.loads(rest)) for word, rest in re.findall(r"(?m)^(registered|authorized|granted) (.*)$", world.idp.text())]
    for label, (_, era) in runs.items():
        by_name = {line["step"]: line for line in told[label]}

        def said(step):
            return json.dumps(by_name.get(step, {}).get("result", {}).get("content"))

        version = by_name.get("connect", {}).get("result", {}).get("version")
        checks.check(f"{label}: speaks {VERSIONS[era]}", version == VERSIONS[era], told[label][:2])
        checks.check(f"{label}: is answered", "early" in said("before"), by_name.get("before"))
        checks.check(f"{label}: and after the token's end, with a fresh one", "late" in said("after"), by_name.get("after"))
        denied = by_name.get("denied", {}).get("error", {})
        checks.check(f"{label}: what the person may not is refused", denied.get("code") == -31001, by_name.get("denied"))
        clients = {event["client"] for word, event in events if word == "registered" and event["name"] == label}
        own = [(word, event) for word, event in events if event["client"] in clients and word != "registered"]
        checks.check(f"{label}: registered once", len(clients) == 1, clients)
        checks.check(f"{label}: asked for a code for this resource, with PKCE",
                     [event["challenge"] for word, event in own if word == "authorized"] == ["S256"]
                     and all(event["resource"] == url for word, event in own), own)
        grants = [event["grant"] for word, event in own if word == "granted"]
        checks.check(f"{label}: got tokens for the code and for the refresh",
                     grants[:1] == ["authorization_code"] and set(grants[1:]) == {"refresh_token"}
                     and own and any(event.get("verified") for _, event in own), own)
    asked = b"".join(world.to_gateway.since(mark, "up"))
    found = asked.count(b"GET /.well-known/oauth-protected-resource/py HTTP/1.1")
    checks.check("persons: each found the way by the gateway's metadata", found >= len(runs), found)
    listed = world.command("sessions", "--record", world.directory / "record", "--json")
    subjects = [json.loads(line)["subject"] for line in listed.stdout.splitlines()]
    checks.check("persons: the record names the person", "person" in subjects, subjects)


def who_calls(world, checks):
    """Tokens: the challenge, wrong audience, forged, nobody's grants; each by hand."""
    url = world.url["py"]
    bare = post(url, None, parts.INITIALIZE)
    challenge = bare.header("www-authenticate") or ""
    checks.check("no token: 401", bare.status == 401, bare)
    found = re.search(r'resource_metadata="([^"]+)"', challenge)
    checks.check("no token: challenge names the metadata", challenge.startswith("Bearer ") and found, challenge)
    if found:
        metadata = request("GET", found[1])
        document = json.loads(metadata.body) if metadata.status == 200 else {}
        checks.check("metadata: for this resource", document.get("resource") == url, metadata)
        checks.check("metadata: names the issuer", document.get("authorization_servers") == [world.issuer], metadata)
        server = request("GET", f"{document['authorization_servers'][0]}/.well-known/openid-configuration")
        checks.check("metadata: leads to a token endpoint", "token_endpoint" in json.loads(server.body), server)
    good = world.token("engineer", "py")
    opened = post(url, good, parts.INITIALIZE)
    checks.check("good token: 200", opened.status == 200, opened)
    checks.check("every answer has an exchange id", all(a.header("stenograph-exchange") for a in (bare, opened)), opened)
    checks.check("good token for another upstream: 401", post(url, world.token("engineer", "everything"), parts.INITIALIZE).status == 401)
    head, claims, signature = good.split(".")
    flipped = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    checks.check("forged signature: 401", post(url, f"{head}.{claims}.{flipped}", parts.INITIALIZE).status == 401)
    none = parts.base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').decode().rstrip("=")
    checks.check("unsigned token: 401", post(url, f"{none}.{claims}.", parts.INITIALIZE).status == 401)
    checks.check("token in the query: 401", post(f"{url}?access_token={good}", None, parts.INITIALIZE).status in (400, 401))
    checks.check("foreign origin: 403", post(url, good, parts.INITIALIZE, {"Origin": "http://evil.example"}).status == 403)
    checks.check("unknown path: 404", post(url.replace("/py", "/nothing"), good, parts.INITIALIZE).status == 404)
    refused = post(url, good, b"[" + json.dumps(rpc("ping")).encode() + b"]")
    checks.check("batch: 400", refused.status == 400, refused)
    refused = post(url, good, b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}')
    checks.check("duplicate key: 400", refused.status == 400, refused)
    nobody = world.token("nobody", "py")
    refused = post(url, nobody, parts.INITIALIZE)
    checks.check("no grant at all: a JSON-RPC error", refused.status == 200 and refused.message()["error"]["code"] == -31001, refused)

    session = parts.open_session(url, good)
    stranger = post(url, world.token("contractor", "py"), rpc("tools/list"), session)
    checks.check("another caller's session: 404", stranger.status == 404, stranger)
    own = post(url, good, rpc("tools/list"), session)
    checks.check("the owner's session: 200", own.status == 200, own)
    refused = post(url, good, rpc("tools/call", {"name": "wipe"}), session | {"Accept": "text/event-stream"})
    checks.check("refusal as an event where only that is accepted",
                 refused.status in (200, 406) and (refused.status == 406 or refused.message()["error"]["code"] == -31001), refused)
    refused = post(url, good, {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}, session)
    checks.check("notification: 202 or 403 without body", refused.status == 202 or (refused.status == 403 and not refused.body), refused)
    ended = request("DELETE", url, {**session, **bearer(good)})
    checks.check("DELETE: 2xx", ended.status in (200, 202, 204), ended)
    after = post(url, good, rpc("tools/list"), session)
    checks.check("after DELETE: 404", after.status == 404, after)


def out_means_out(world, checks):
    """`revoke` cuts the contractor's streams and refuses his calls within a second; the engineer goes on."""
    url = world.url["py"]
    tokens = {who: world.token(who, "py") for who in ("engineer", "contractor")}
    sessions = {who: parts.open_session(url, token) for who, token in tokens.items()}
    streams, calls = {}, {}
    for who, token in tokens.items():
        headers = {**sessions[who], **bearer(token)}
        streams[who] = OpenStream("GET", url, {**headers, "Accept": "text/event-stream"})
        slow = rpc("tools/call", {"name": "slow", "arguments": {"steps": 80, "step_ms": 100}, "_meta": {"progressToken": 7}}, 5)
        calls[who] = OpenStream("POST", url, {**headers, **parts.MCP_HEADERS}, json.dumps(slow).encode())
    for who in tokens:
        checks.check(f"before: {who}'s GET stream is open", streams[who].wait(b"HTTP/1.1 200"), bytes(streams[who].data))
        checks.check(f"before: {who}'s call is streaming", calls[who].wait(b"notifications/progress"), bytes(calls[who].data[:600]))
        answer = post(url, tokens[who], rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 6), sessions[who])
        checks.check(f"before: {who} may call", answer.status == 200 and "result" in answer.message(), answer)
    begun = time.monotonic()
    revoked = world.command("revoke", "--config", world.config, "--issuer", world.issuer, "--subject", "contractor")
    done = time.monotonic()
    checks.check("revoke: exit 0", revoked.returncode == 0, revoked)
    refused_after = None
    while time.monotonic() - done < 3 and refused_after is None:
        answer = post(url, tokens["contractor"], rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 8), sessions["contractor"])
        if answer.status == 401:
            refused_after = time.monotonic() - done
        time.sleep(0.02)
    checks.check("revoked: new calls get 401 within 1 s", refused_after is not None and refused_after <= 1, refused_after)
    for name, stream in (("GET stream", streams["contractor"]), ("streaming call", calls["contractor"])):
        closed = stream.wait_closed(3)
        checks.check(f"revoked: his {name} is cut within 1 s", closed and closed - done <= 1, closed and closed - done)
    checks.check("revoked: his token has not expired", True)
    answer = post(url, tokens["engineer"], rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, 9), sessions["engineer"])
    checks.check("revoked: the engineer goes on", answer.status == 200 and "result" in answer.message(), answer)
    seen = len(calls["engineer"].data)
    time.sleep(0.5)
    checks.check("revoked: the engineer's streams go on",
                 not streams["engineer"].ended() and (len(calls["engineer"].data) > seen or b"done after" in calls["engineer"].data))
    print(f"      revoke took {done - begun:.2f} s, the refusal {refused_after} s more")
    for stream in (*streams.values(), *calls.values()):
        stream.close()
    again = post(url, tokens["contractor"], parts.INITIALIZE)
    checks.check("revoked: 401 with a challenge", again.status == 401 and again.header("www-authenticate"), again)


def expiry(world, checks):
    """A token that expires ends its calls and its open stream by itself."""
    url = world.url["py"]
    # The token is signed in the second before this moment: it ends between VISIT_S - 1 and VISIT_S s from now.
    token, begun = world.token("visitor", "py"), time.monotonic()
    session = parts.open_session(url, token)
    stream = OpenStream("GET", url, {**session, **bearer(token), "Accept": "text/event-stream"})
    checks.check("expiry: the stream opens", stream.wait(b"HTTP/1.1 200"), bytes(stream.data))
    closed = stream.wait_closed(VISIT_S + 4)
    lived = closed and closed - begun
    checks.check("expiry: the stream is cut within 1 s of it", lived and VISIT_S - 1.2 <= lived <= VISIT_S + 1.2, lived)
    answer = post(url, token, rpc("tools/list"), session)
    checks.check("expiry: 401 after it", answer.status == 401, answer)
    stream.close()


def reload(world, checks):
    """SIGHUP brings new grants to a running gateway."""
    url, token = world.url["py"], world.token("engineer", "py")
    session = parts.open_session(url, token)
    before = post(url, token, rpc("tools/call", {"name": "wipe", "arguments": {}}, 3), session).message()
    world.write_config({**PY_GRANT, "tools": [*PY_GRANT["tools"], "wipe"]})
    world.gateway.child.send_signal(signal.SIGHUP)
    after, end = {}, time.monotonic() + 3
    while time.monotonic() < end and "result" not in after:
        after = post(url, token, rpc("tools/call", {"name": "wipe", "arguments": {}}, 3), session).message()
        time.sleep(0.05)
    checks.check("SIGHUP: refused before, allowed after", "error" in before and "result" in after, (before, after))


def wires(world, checks):
    """What crossed between the gateway and the servers."""
    tokens = {m for stream in world.to_gateway.all("up") for m in re.findall(rb"[Bb]earer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{80,})", stream)}
    checks.check("callers did send tokens", len(tokens) >= 4, len(tokens))
    for name, tee in world.to_server.items():
        up = tee.all("up")
        # Every token has a signature of 64 bytes and more: not even that may be seen.
        leaked = [t for t in tokens if any(t.split(b".")[-1] in stream for stream in up)]
        checks.check(f"{name}: no caller's token reached the server", up and not leaked, leaked[:1])
        heads = re.findall(rb"(?:POST|GET|DELETE) /mcp[^\r]*\r\n(.*?)\r\n\r\n", b"\n".join(up), re.S)
        carries = [head for head in heads if world.upstream_credential.encode() in head]
        if name in ("py", "hiding"):
            checks.check(f"{name}: every request carries the gateway's credential", heads and len(carries) == len(heads), (len(carries), len(heads)))
        else:
            checks.check(f"{name}: no request carries a credential",
                         heads and not any(b"authorization" in head.lower() for head in heads), (len(carries), len(heads)))
        for fate, secret in world.sent.items():
            checks.check(f"{name}: the secret that was {fate} did not reach the server", not shows(up, secret))
        checks.check(f"{name}: the leak did cross this wire", any(shows(tee.all("down"), s) for s in world.planted.values()))
    checks.check("the credential did not reach a client", not shows(world.to_gateway.all("down"), world.upstream_credential.split()[1]))


def read_back(world, checks, when):
    """The record, by the reading commands."""
    record = ("--record", world.directory / "record")
    # Masked values are found by their fingerprints, whose key the configuration names.
    config = ("--config", world.config)
    intact = world.command("verify", *record, "--key", world.verifier, "--json", timeout_s=300)
    verdict = json.loads(intact.stdout.splitlines()[-1]) if intact.stdout else {}
    checks.check(f"{when}: verify --key is intact", intact.returncode == 0 and verdict.get("intact") is True, intact)
    own = world.command("verify", *record, timeout_s=300)
    checks.check(f"{when}: verify without a key is not proof", own.returncode == 1, own)
    for kind, secret in world.planted.items():
        found = world.command("echoed", *config, "--json", stdin=secret.encode(), timeout_s=300)
        lines = [json.loads(line) for line in found.stdout.splitlines()]
        hits = [line for line in lines if "exchange" in line]
        checks.check(f"{when}: echoed finds the planted {kind} secret", found.returncode == 0 and hits, found)
        checks.check(f"{when}: echoed says it was masked, in answers",
                     hits and all(hit["masked"] and hit["direction"] == "response" for hit in hits), hits[:2])
        checks.check(f"{when}: echoed states its coverage", lines and "coverage" in lines[-1], lines[-1:])
    for fate, secret in world.sent.items():
        sent = world.command("echoed", *config, "--json", stdin=secret.encode(), timeout_s=300)
        hits = [json.loads(line) for line in sent.stdout.splitlines() if b'"exchange"' in line]
        checks.check(f"{when}: echoed finds what a client sent and was {fate}",
                     sent.returncode == 0 and any(h["direction"] == "request" for h in hits), sent)
    never = world.command("echoed", *config, "--json", stdin=github_token().encode(), timeout_s=300)
    checks.check(f"{when}: echoed knows what was never seen", never.returncode == 1, never)
    keyless = world.command("echoed", *record, "--json", stdin=github_token().encode(), timeout_s=300)
    checks.check(f"{when}: echoed without the fingerprint key does not claim so", keyless.returncode == 4, keyless)
    listed = world.command("sessions", *record, "--json")
    subjects = {json.loads(line)["subject"] for line in listed.stdout.splitlines()}
    checks.check(f"{when}: sessions", listed.returncode == 0 and {"engineer", "contractor"} <= subjects, (listed.stderr, subjects))
    found = world.command("search", *record, "--json", "--tool", "wipe")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    checks.check(f"{when}: search finds the refused calls", found.returncode == 0 and lines and all(l["target"] == "wipe" for l in lines), (found.stderr, lines[:2]))
    if lines:
        shown = world.command("show", lines[0]["exchange"], *record)
        checks.check(f"{when}: show", shown.returncode == 0 and b"wipe" in shown.stdout, shown)
    for secret in (*world.planted.values(), *world.sent.values()):
        stored = [path for path in (world.directory / "record").rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        checks.check(f"{when}: no secret in the record's files", not stored, stored)


def table(checks):
    """What the scanner's own tests have masked (each rule, hiding place and style), read by each SDK."""
    masked = ROOT / "target/tmp/masked.jsonl"
    if not masked.exists():
        subprocess.run(["cargo", "test", "--quiet", "--test", "guard_mask", "every_secret"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    messages = masked.read_bytes()
    count = messages.count(b"\n")
    for name, program in (("python 2", [PY2, "parse_py.py"]), ("python 1", [PY1, "parse_py.py"]), ("typescript 1 and 2", [NODE, "parse_ts.mjs"])):
        done = subprocess.run([*map(str, program)], input=messages, capture_output=True, cwd=HERE)
        told = done.stdout.decode().splitlines() or [done.stderr.decode()]
        checks.check(f"table of masked answers: {name} reads all", count > 10_000 and told == [f"{count} read"], (count, told[:3]))


def echoes(world, checks):
    """Where each hidden secret was, says the record."""

    def ask(secret):
        found = world.command("echoed", "--config", world.config, "--json", stdin=secret.encode(), timeout_s=300)
        return [json.loads(line) for line in found.stdout.splitlines()]

    again = world.command("rescan", "--config", world.config, "--json", timeout_s=300)
    coverage = json.loads(again.stdout.splitlines()[-1])["coverage"] if again.stdout else {}
    checks.check("rescan: the rules of then find nothing new", again.returncode == 1 and coverage.get("new") == 0, again)
    rule = world.directory / "today.toml"
    rule.write_text('schema = 1\n[[rule]]\nid = "today"\ntitle = "t"\ncategory = "custom"\npattern = "hidden elsewhere"\naction = "alert"\n')
    again = world.command("rescan", "--config", world.config, "--json", "--rules", rule, timeout_s=300)
    hits = [line for line in map(json.loads, again.stdout.splitlines()) if "rule" in line]
    checks.check("rescan: a rule of today names the places of then",
                 again.returncode == 0 and hits and all(h["rule"] == "today" and h["path"] == "/result/content/0/text" for h in hits), again)
    hiding.told(checks, {name: one for name, one in world.hidden.items() if name != "plain"}, sum(len(eras) for _, eras in CLIENTS.values()), ask)


def flips(world, checks, count=24):
    """One bit flipped anywhere in a copy of the record is found."""
    source = world.directory / "record"
    # The format's table of files says that nothing is read from `reserve` and `log.pub`.
    unread = {"reserve", "log.pub"}
    files = sorted(
        path for path in source.rglob("*")
        if path.is_file() and path.stat().st_size and path.name not in unread
    )
    dice = random.Random(7)
    segments = [path for path in files if path.stat().st_size > 4096] or files
    checks.check("flip: the record has files", bool(segments), files)
    missed = []
    for turn in range(count):
        victim = dice.choice(segments if turn % 2 else files).relative_to(source)
        if "lock" in victim.name:
            continue
        copy = world.directory / "flipped"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        data = bytearray((copy / victim).read_bytes())
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
        (copy / victim).write_bytes(data)
        told = world.command("verify", "--record", copy, "--key", world.verifier, "--json", timeout_s=300)
        verdict = json.loads(told.stdout.splitlines()[-1]) if told.stdout else {}
        if told.returncode != 1 or not verdict.get("damage"):
            missed.append((str(victim), at, told.returncode, told.stdout[-200:], told.stderr[-200:]))
    checks.check(f"flip: every one of {count} flipped bits is found and named", not missed, missed)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--keep", action="store_true", help="keep the directory with logs and record")
    words.add_argument("--only", help="only the client suites whose label contains this")
    words.add_argument("--control", action="store_true", help="only the control run, straight at the servers, without a gateway")
    asked = words.parse_args()
    binary = Path(os.environ.get("STENOGRAPH_BIN", ROOT / "target/debug/stenograph")).resolve()
    if not asked.control and not binary.exists():
        sys.exit(f"{binary} is not there: build it, or set STENOGRAPH_BIN")
    directory = tempfile.mkdtemp(prefix="stenograph-sdk-")
    checks, world = Checks(), World(directory, binary)
    begun = time.monotonic()
    try:
        world.start_servers()
        world.start_idp()
        suites(world, checks, asked.only, control=True)
        if not asked.control:
            world.start_gateway()
            suites(world, checks, asked.only, control=False)
            inspectors(world, checks, asked.only)
            if asked.only == "hiding":
                # All that they ask for is there by now.
                echoes(world, checks)
            if not asked.only:
                table(checks)
                persons(world, checks)
                who_calls(world, checks)
                hostile.framing(world, checks)
                hostile.refusals(world, checks)
                out_means_out(world, checks)
                expiry(world, checks)
                reload(world, checks)
                wires(world, checks)
                read_back(world, checks, "running")
                checks.check("the gateway stops on SIGTERM", world.gateway.stop() == 0, world.gateway.text()[-500:])
                read_back(world, checks, "stopped")
                echoes(world, checks)
                flips(world, checks)
    except Exception as error:
        checks.check("the run itself", False, repr(error))
    finally:
        world.stop()
        failed = bool(checks.failed)
        if asked.keep or failed:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"took {time.monotonic() - begun:.0f} s")
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
