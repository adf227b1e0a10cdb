#!/usr/bin/env python3
"""End-to-end tests in a real browser: Debian's chromium, pages of three origins, the gateway, an MCP server.

Usage: python3 tests/sdk/browser.py [--keep]
`STENOGRAPH_BIN` is the gateway's binary (default: target/debug/stenograph). tests/sdk/setup.sh must
have run, and chromium be there (tests/setup.sh). One line per check; the last line counts them.

A page of an origin that the gateway lets in speaks MCP with `fetch` and with the TypeScript SDK; pages
of other origins, and one whose name is made to mean the gateway's address (DNS rebinding), try to. What
they can read is what they tell; what reached gateway and server is seen in the bytes on both wires.
Checked against the mutants: Host is not looked at; any origin is let in; no field is exposed to pages.
"""

import argparse
import http.server
import json
import os
import random
import re
import shutil
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

import parts
from parts import HERE, LOCAL, NODE, PY2, ROOT, Checks, Process, Tee, shows

MODULES = LOCAL / "sdk/node_modules"
# Bare names in the TypeScript SDK's modules, as a page finds them; the conditions are a browser's.
IMPORTS = {
    "@modelcontextprotocol/client": "@modelcontextprotocol/client/dist/index.mjs",
    "@modelcontextprotocol/client/_shims": "@modelcontextprotocol/client/dist/shimsBrowser.mjs",
    "@modelcontextprotocol/core/internal": "@modelcontextprotocol/core/dist/internal.mjs",
    "eventsource": "eventsource/dist/index.js",
    "eventsource-parser": "eventsource-parser/dist/index.js",
    "eventsource-parser/stream": "eventsource-parser/dist/stream.js",
    "pkce-challenge": "pkce-challenge/dist/index.browser.js",
    "zod/v4": "zod/v4/index.js",
}
GRANTED = ["announce", "leak", "route", "slow"]
PAGE_S_MAX = 30
# Debian's chromium in a container, without the sandbox that root cannot have; it looks nothing up and
# asks nobody but us.
BROWSER = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP * ^NOTFOUND",
]
MIME = {".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript"}


class Pages(http.server.ThreadingHTTPServer):
    """Serves the pages, under whatever name they are asked for, and takes what they tell."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.port = self.server_address[1]
        self.told = {}
        self.news = threading.Condition()
        self.rebind = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait(self, role):
        with self.news:
            self.news.wait_for(lambda: role in self.told, PAGE_S_MAX)
            return self.told.get(role)


class Page(http.server.BaseHTTPRequestHandler):
    """One request for a page. HTTP/1.0: every connection ends with its answer."""

    def log_message(self, *words):
        pass

    def answer(self, status, content, body):
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if path == "/":
            imports = json.dumps({"imports": {name: f"/modules/{place}" for name, place in IMPORTS.items()}})
            text = f'<!doctype html><script type="importmap">{imports}</script><body><script type="module" src="/page.mjs"></script>'
            return self.answer(200, "text/html", text.encode())
        place = HERE / "page.mjs" if path == "/page.mjs" else (MODULES / path.removeprefix("/modules/")).resolve()
        if not place.is_file() or not (place.is_relative_to(MODULES.resolve()) or path == "/page.mjs"):
            return self.answer(404, "text/plain", b"")
        self.answer(200, MIME.get(place.suffix, "text/plain"), place.read_bytes())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/rebind":
            self.server.rebind()
        elif self.path.startswith("/told/"):
            with self.server.news:
                self.server.told[self.path.removeprefix("/told/")] = json.loads(body)
                self.server.news.notify_all()
        self.answer(200, "text/plain", b"")


class World:
    """Identity provider, server, gateway, pages, and the wires between them."""

    def __init__(self, directory, binary):
        self.directory = Path(directory)
        self.binary = binary
        self.running = []
        self.planted = {
            "github": "ghp_" + "".join(random.choices(string.ascii_letters, k=36)),
            "aws": "AKIA" + "".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16)),
        }

    def start(self, name, command, env=None):
        process = Process(name, command, self.directory, env)
        self.running.append(process)
        return process

    def run(self, *words):
        done = subprocess.run([self.binary, *map(str, words)], capture_output=True, cwd=self.directory, timeout=120)
        return done

    def set_up(self):
        port = parts.free_port()
        server = self.start("server-py", [PY2, "server_py2.py", port], {"PLANTED": json.dumps(self.planted)})
        server.wait_port(port)
        self.to_server = Tee(port)
        self.to_gateway = Tee()
        # The public name of the gateway, for pages as for tokens.
        self.url = f"http://gateway.example.test:{self.to_gateway.port}/py"
        plan = {"port": 0, "resources": [self.url],
                "clients": [{"id": "page", "secret": "page-pass", "groups": ["engineering"], "alg": "ES256"}]}
        self.issuer = self.start("idp", [NODE, "idp.mjs", json.dumps(plan)]).wait_for(r"ready (\S+)")[1]
        self.pages = Pages()
        # A name that leads to the pages first, and to the gateway once its page says so.
        self.rebound = Tee(self.pages.port)
        self.start_gateway()
        self.pages.rebind = lambda: setattr(self.rebound, "target_port", self.gateway_port)
        body = f"grant_type=client_credentials&resource={self.url}".encode()
        basic = parts.base64.b64encode(b"page:page-pass").decode()
        fields = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        self.token = json.loads(parts.request("POST", f"{self.issuer}/token", fields, body).body)["access_token"]

    def start_gateway(self):
        self.gateway_port = parts.free_port()
        (self.directory / "deny.toml").write_text("")
        (self.directory / "deny.toml").chmod(0o600)
        made = self.run("keygen", "log", "--out", self.directory / "log.key")
        self.verifier = made.stdout.decode().strip().splitlines()[-1]
        config = self.directory / "stenograph.toml"
        config.write_text(f"""
[[listen]]
address = "127.0.0.1:{self.gateway_port}"
origins = ["http://ide.example.test:{self.pages.port}"]

[[issuer]]
url = "{self.issuer}"
algorithms = ["ES256"]

[[upstream]]
name = "py"
path = "/py"
url = "http://127.0.0.1:{self.to_server.port}/mcp"
resource = "{self.url}"

[[grant]]
upstream = "py"
groups = ["engineering"]
tools = {json.dumps(GRANTED)}

[deny]
file = "{self.directory}/deny.toml"

[guard]
rules = ["builtin"]

[record]
directory = "{self.directory}/record"
release = "written"
signing_key = "{self.directory}/log.key"
fingerprint_key = "{self.directory}/fingerprint.key"
""")
        self.gateway = self.start("gateway", [self.binary, "serve", "--config", config])
        self.gateway.wait_for(r'"event":\s*"ready"')
        self.to_gateway.target_port = self.gateway_port

    def visit(self, role, host, port):
        """A browser of its own opens the page; what the page told."""
        tell = f"http://{host}:{self.pages.port}/told/{role}"
        asked = urllib.parse.urlencode({"role": role, "url": self.url, "token": self.token, "tell": tell})
        home = self.directory / f"home-{role}"
        words = [*BROWSER, f"--user-data-dir={home}", f"http://{host}:{port}/?{asked}"]
        browser = self.start(f"chromium-{role}", [chromium(), *words], {"HOME": str(self.directory)})
        told = self.pages.wait(role)
        browser.stop()
        if told is None:
            raise RuntimeError(f"{role}: the page told nothing within {PAGE_S_MAX} s: {browser.text()[-2000:]}")
        return told

    def stop(self):
        for process in reversed(self.running):
            process.stop()


def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        sys.exit("chromium is not there: tests/setup.sh installs it (setup_tests)")
    return found


def message(answer):
    """The JSON-RPC message that the page read."""
    data = [line[5:].strip() for line in answer["body"].splitlines() if line.startswith("data:")]
    return json.loads([line for line in data if line][-1] if data else answer["body"])


def listed(world, checks):
    """A page that may."""
    origin = f"http://ide.example.test:{world.pages.port}"
    told = world.visit("listed", "ide.example.test", world.pages.port)
    first = told["initialize"]
    checks.check("listed: initialize is answered", first.get("status") == 200 and message(first)["result"]["serverInfo"], first)
    fields = first.get("fields", {})
    checks.check("listed: the page reads the session's handle", re.fullmatch(r"[!-~]{16,}", fields.get("mcp-session-id", "")), fields)
    checks.check("listed: the page reads the id of the exchange", fields.get("stenograph-exchange"), fields)
    checks.check("listed: notifications/initialized is taken", told["initialized"].get("status") == 202, told["initialized"])
    names = [tool["name"] for tool in message(told["list"])["result"]["tools"]] if "body" in told["list"] else []
    checks.check("listed: tools/list shows what is granted", sorted(names) == GRANTED, told["list"])
    checks.check("listed: an answer comes masked", told["leak"].get("status") == 200 and not any(
        shows([json.dumps(told["leak"]).encode()], secret) for secret in world.planted.values()), told["leak"])
    stream = told["stream"]
    checks.check("listed: the event stream opens and flows",
                 stream.get("status") == 200 and stream["type"] == "text/event-stream" and "tools/list_changed" in stream["text"], stream)
    bare = told["no token"]
    checks.check("listed: without a token 401, and the page reads the challenge",
                 bare.get("status") == 401 and "resource_metadata=" in bare["fields"].get("www-authenticate", ""), bare)
    checks.check("listed: DELETE ends the session", told["delete"].get("status") in (200, 202, 204), told["delete"])
    for era, version in (("legacy", "2025-11-25"), ("modern", "2026-07-28")):
        sdk = told[f"sdk {era}"]
        checks.check(f"listed: the SDK in the page, {era}",
                     sdk.get("version") == version and sorted(sdk["tools"]) == GRANTED
                     and sdk["progress"] == ["é 1", "é 2"] and sdk["said"] == "done after 2", sdk)
    checks.check("listed: a call with the field of a parameter",
                 told["parameter"].get("status") == 200 and message(told["parameter"])["result"]["content"][0]["text"] == "north: hi", told["parameter"])
    wire = b"".join(world.to_gateway.all("up"))
    heads = re.findall(rb"OPTIONS /py HTTP/1.1\r\n(.*?)\r\n\r\n", wire, re.S)
    named = b",".join(re.findall(rb"(?i)access-control-request-headers: ([^\r]*)", b"\n".join(heads))).lower()
    # MCP's fields come with the first permission, which the browser keeps; the names of parameters it asks for.
    wanted = [b"authorization", b"content-type", b"mcp-param-region"]
    checks.check("listed: the browser asked first", heads and all(name in named for name in wanted), named)
    sent = wire.lower()
    fields = [b"mcp-session-id: ", b"mcp-protocol-version: ", b"mcp-method: ", b"mcp-name: ", b"mcp-param-region: "]
    checks.check("listed: and sent MCP's fields", all(b"\r\n" + name in sent for name in fields))
    answers = b"".join(world.to_gateway.all("down"))
    allowed = set(re.findall(rb"(?i)access-control-allow-origin: ([^\r]*)", answers))
    checks.check("listed: its origin alone is let in", allowed == {origin.encode()}, allowed)
    checks.check("listed: no preflight reaches the server", b"OPTIONS" not in b"".join(world.to_server.all("up")))


def foreign(world, checks):
    """A page that may not, with the same token."""
    up, down = world.to_server.mark(), world.to_gateway.mark()
    told = world.visit("foreign", "evil.example.test", world.pages.port)
    for name in ("with token", "readable GET", "stream", "EventSource", "no origin"):
        checks.check(f"foreign: {name}: the page sees an error and no answer", list(told[name]) == ["error"], told[name])
    opaque = told["opaque POST"]
    checks.check("foreign: opaque POST: nothing is to be read", opaque.get("type") == "opaque" and not opaque["body"], opaque)
    checks.check("foreign: nothing reaches the server", not any(world.to_server.since(up, "up")), world.to_server.since(up, "up"))
    answers = b"".join(world.to_gateway.since(down, "down"))
    statuses = set(re.findall(rb"HTTP/1.1 (\d+) ", answers))
    checks.check("foreign: the gateway answered 403 to all of it", statuses == {b"403"}, statuses)
    checks.check("foreign: and let no origin in", b"access-control-" not in answers.lower(), answers[:400])


def rebound(world, checks):
    """A page whose own name has become an address of the gateway."""
    up = world.to_server.mark()
    told = world.visit("rebound", "rebound.example.test", world.rebound.port)
    checks.check("rebound: the name leads elsewhere now", told["before"].get("status") == 200, told["before"])
    for name in ("initialize", "stream", "metadata"):
        answer = told[name]
        checks.check(f"rebound: {name}: 421 and no answer",
                     answer.get("status") == 421 and '"result"' not in answer["body"] and "authorization_servers" not in answer["body"], answer)
    asked = b"".join(world.rebound.all("up"))
    name = f"Host: rebound.example.test:{world.rebound.port}\r\n".encode()
    checks.check("rebound: the browser took it for the page's own origin",
                 b"POST /py HTTP/1.1\r\n" + name in asked and b"OPTIONS" not in asked, asked[:600])
    checks.check("rebound: nothing reaches the server", not any(world.to_server.since(up, "up")), world.to_server.since(up, "up"))


def recorded(world, checks):
    """Who was refused stands in the record."""
    checks.check("the gateway stops on SIGTERM", world.gateway.stop() == 0, world.gateway.text()[-500:])
    record = world.directory / "record"
    intact = world.run("verify", "--record", record, "--key", world.verifier, "--json")
    checks.check("the record is intact", intact.returncode == 0, intact)
    found = world.run("search", "--record", record, "--json", "--verdict", "denied")
    reasons = {json.loads(line)["reason"] for line in found.stdout.splitlines()}
    checks.check("the record says who was refused, and why", {"origin", "host"} <= reasons, found)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--keep", action="store_true", help="keep the directory with logs and record")
    asked = words.parse_args()
    binary = Path(os.environ.get("STENOGRAPH_BIN", ROOT / "target/debug/stenograph")).resolve()
    if not binary.exists():
        sys.exit(f"{binary} is not there: build it, or set STENOGRAPH_BIN")
    chromium()
    directory = tempfile.mkdtemp(prefix="stenograph-browser-")
    checks, world = Checks(), World(directory, binary)
    begun = time.monotonic()
    try:
        world.set_up()
        listed(world, checks)
        foreign(world, checks)
        rebound(world, checks)
        recorded(world, checks)
    except Exception as error:
        checks.check("the run itself", False, repr(error))
    finally:
        world.stop()
        if asked.keep or checks.failed:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"took {time.monotonic() - begun:.0f} s")
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
