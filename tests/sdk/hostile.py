"""What a caller with a good token may send wrong, and framing that is odd but allowed: by hand, on
raw sockets, against the table of statuses that the contract fixes."""

import json
import socket
import time
import urllib.parse

from parts import MCP_HEADERS, bearer, open_session, post, rpc


class Wire:
    """One raw connection to the gateway."""

    def __init__(self, url):
        self.parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((self.parts.hostname, self.parts.port), 10)
        self.socket.settimeout(10)
        self.kept = b""
        self.closed = False

    def send(self, data, pause_s=0.0):
        try:
            if pause_s:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(data)):
                    self.socket.sendall(data[at : at + 1])
                    time.sleep(pause_s)
            else:
                self.socket.sendall(data)
        except OSError:
            self.closed = True

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        self.closed = self.closed or not data
        self.kept += data
        return bool(data)

    def answer(self):
        """Status, head (lower-case) and body of the next answer; status 0 when there is none."""
        while b"\r\n\r\n" not in self.kept:
            if not self._more():
                return 0, b"", self.kept
        head, _, self.kept = self.kept.partition(b"\r\n\r\n")
        status, low = int(head[9:12]), head.lower()
        if status == 100:
            return status, low, b""
        fields = dict(line.split(b":", 1) for line in low.split(b"\r\n")[1:])
        body = b""
        if b"content-length" in fields:
            length = int(fields[b"content-length"])
            while len(self.kept) < length and self._more():
                pass
            body, self.kept = self.kept[:length], self.kept[length:]
        elif b"chunked" in fields.get(b"transfer-encoding", b""):
            while True:
                while b"\r\n" not in self.kept and self._more():
                    pass
                line, _, rest = self.kept.partition(b"\r\n")
                size = int(line or b"0", 16)
                while len(rest) < size + 2 and self._more():
                    rest = self.kept.partition(b"\r\n")[2]
                body, self.kept = body + rest[:size], rest[size + 2 :]
                if not size:
                    break
        return status, low, body

    def is_closed(self):
        """Whether the other side ends the connection within a while."""
        self.socket.settimeout(4)
        while not self.closed and self._more():
            pass
        return self.closed

    def close(self):
        self.socket.close()


def head(method, path, fields):
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def echo(text, number=1):
    return json.dumps(rpc("tools/call", {"name": "echo", "arguments": {"text": text}}, number)).encode()


def said(body, text):
    """Whether the body, JSON or events, answers an echo of `text`."""
    return json.dumps(text).encode() in body and b'"result"' in body


def framing(world, checks):
    """Odd but right: the gateway must take it."""
    url, token = world.url["py"], world.token("engineer", "py")
    session = open_session(url, token)
    fields = {"Host": urllib.parse.urlsplit(url).netloc, **MCP_HEADERS, **bearer(token), **session}
    path = urllib.parse.urlsplit(url).path

    def whole(body, **more):
        return head("POST", path, {**fields, "Content-Length": len(body), **more}) + body

    wire = Wire(url)
    wire.send(whole(echo("first", 1)) + whole(echo("second", 2)) + whole(echo("third", 3)))
    answers = [wire.answer() for _ in range(3)]
    checks.check("framing: three pipelined calls are answered in order",
                 [a[0] for a in answers] == [200] * 3 and all(said(a[2], t) for a, t in zip(answers, ("first", "second", "third"))), answers)
    wire.send(whole(echo("after", 4)))
    checks.check("framing: and the connection goes on", said(wire.answer()[2], "after"))
    wire.close()

    wire = Wire(url)
    wire.send(whole(echo("dripping")), pause_s=0.001)
    status, _, body = wire.answer()
    checks.check("framing: a call byte by byte", status == 200 and said(body, "dripping"), (status, body))
    body = echo("in chunks")
    chunked = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in body) + b"0\r\n\r\n"
    wire.send(head("POST", path, {**fields, "Transfer-Encoding": "chunked"}) + chunked)
    status, _, body = wire.answer()
    checks.check("framing: a chunked call, one byte a chunk, on the same connection", status == 200 and said(body, "in chunks"), (status, body))
    wire.close()

    wire, body = Wire(url), echo("patient")
    wire.send(head("POST", path, {**fields, "Content-Length": len(body), "Expect": "100-continue"}))
    interim = wire.answer()
    if interim[0] == 100:
        wire.send(body)
        interim = wire.answer()
    checks.check("framing: Expect: 100-continue", interim[0] in (200, 417), interim)
    wire.close()

    wire = Wire(url)
    wire.send(whole(echo("bye"), Connection="close"))
    status, low, body = wire.answer()
    checks.check("framing: Connection: close is honoured", status == 200 and said(body, "bye") and wire.is_closed(), (status, low))
    wire.close()

    wire = Wire(url)
    wire.send(head("OPTIONS", path, {"Host": urllib.parse.urlsplit(url).netloc}))
    checks.check("framing: OPTIONS is answered without a token reaching anything", wire.answer()[0] in (200, 204, 401, 403, 405))
    wire.close()


def refusals(world, checks):
    """Wrong: the status is the contract's, nothing reaches the server, and the gateway goes on."""
    url, token = world.url["py"], world.token("engineer", "py")
    session = open_session(url, token)
    path = urllib.parse.urlsplit(url).path
    fields = {"Host": urllib.parse.urlsplit(url).netloc, **MCP_HEADERS, **bearer(token), **session}
    body = echo("must not arrive: hostile")
    sized = {**fields, "Content-Length": len(body)}

    def with_line(line):
        return head("POST", path, sized)[:-2] + line + b"\r\n\r\n" + body

    deep = json.dumps(rpc("tools/call", {"name": "echo", "arguments": {"text": "must not arrive: hostile", "x": 0}}))
    deep = deep.replace('"x": 0', '"x": ' + "[" * 1000 + "]" * 1000).encode()

    def of(message):
        return head("POST", path, {**fields, "Content-Length": len(message)}) + message

    # name, bytes, statuses allowed, whether the connection must be closed
    table = [
        ("both lengths", with_line(b"Transfer-Encoding: chunked"), (400,), True),
        ("two Content-Length", with_line(b"Content-Length: 5"), (400,), True),
        ("signed Content-Length", head("POST", path, {**fields, "Content-Length": f"+{len(body)}"}) + body, (400,), True),
        ("folded field", with_line(b"X-A: b\r\n c"), (400,), True),
        ("space before the colon", with_line(b"X-A : b"), (400,), True),
        ("NUL in a field", with_line(b"X-A: b\0c"), (400,), True),
        ("two Host", with_line(b"Host: other.test"), (400,), True),
        ("two Authorization", with_line(b"Authorization: Bearer x"), (400, 401), True),
        ("no Host", head("POST", path, {k: v for k, v in sized.items() if k != "Host"}) + body, (400,), True),
        ("unknown transfer coding", head("POST", path, {**fields, "Transfer-Encoding": "gzip, chunked"}) + body, (400, 501), True),
        ("no length", head("POST", path, fields), (411,), True),
        ("content coding", head("POST", path, {**sized, "Content-Encoding": "gzip"}) + body, (415,), False),
        ("content type", head("POST", path, {**sized, "Content-Type": "text/plain"}) + body, (415,), False),
        ("foreign method", head("PUT", path, sized) + body, (405, 501), False),
        ("unknown method", head("BREW", path, sized) + body, (405, 501), False),
        ("body too large", head("POST", path, {**fields, "Content-Length": 5 << 20}), (413,), True),
        ("target too long", head("POST", path + "?" + "a" * 9000, sized), (414, 431), True),
        ("head too large", head("POST", path, {**sized, "X-A": "a" * 40_000}), (431,), True),
        ("too many fields", head("POST", path, {**sized, **{f"X-{n}": "a" for n in range(200)}}), (431,), True),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 405, 501, 505), True),
        ("dot segments", head("POST", "/everything/..%2fpy", sized) + body, (400, 404), False),
        ("not JSON", of(b"{hostile"), (400,), False),
        ("not UTF-8", of(body.replace(b"hostile", b"hostile\xff")), (400,), False),
        ("byte order mark", of(b"\xef\xbb\xbf" + body), (400,), False),
        ("duplicate key", of(body.replace(b'"jsonrpc"', b'"method": "ping", "jsonrpc"', 1)), (400,), False),
        ("escaped duplicate key", of(body.replace(b'"jsonrpc"', b'"m\\u0065thod": "ping", "jsonrpc"', 1)), (400,), False),
        ("too deep", of(deep), (400,), False),
        ("batch", of(b"[" + body + b"]"), (400,), False),
        ("id null", of(body.replace(b'"id": 1', b'"id": null')), (400,), False),
        ("id 1.0", of(body.replace(b'"id": 1', b'"id": 1.0')), (400,), False),
        ("id 2^53", of(body.replace(b'"id": 1', b'"id": 9007199254740993')), (400,), False),
        ("method and result", of(body.replace(b'"jsonrpc"', b'"result": {}, "jsonrpc"', 1)), (400,), False),
        ("lone surrogate", of(body.replace(b"hostile", b"hostile\\ud800")), (400,), False),
        ("NaN", of(body.replace(b'"text"', b'"n": NaN, "text"')), (400,), False),
    ]
    mark = world.to_server["py"].mark()
    for name, data, statuses, closes in table:
        wire = Wire(url)
        wire.send(data)
        status, low, answer = wire.answer()
        right = status in statuses and (not closes or wire.is_closed())
        checks.check(f"refused: {name}", right, (status, low, answer[:200], wire.closed))
        if status in statuses:
            checks.check(f"refused: {name}: has an exchange id", b"stenograph-exchange:" in low, low)
        wire.close()
    reached = [stream for stream in world.to_server["py"].since(mark, "up") if b"hostile" in stream]
    checks.check("refused: nothing of it reached the server", not reached, reached[:1])
    answer = post(url, token, json.loads(echo("still here")), session)
    checks.check("refused: the gateway goes on", answer.status == 200 and said(answer.body, "still here"), answer)

    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"}}
    params = {"name": "echo", "arguments": {"text": "modern"}, "_meta": meta}
    answer = post(url, token, rpc("tools/call", params), modern)
    checks.check("modern: agreeing header fields", answer.status == 200 and said(answer.body, "modern"), answer)
    for name, fields in (
        ("method", {**modern, "Mcp-Method": "tools/list"}), ("name", {**modern, "Mcp-Name": "add"}),
        ("version", {**modern, "MCP-Protocol-Version": "2025-11-25"}),
    ):
        answer = post(url, token, rpc("tools/call", params), fields)
        checks.check(f"modern: {name} of header and body disagree: 400 and -32020",
                     answer.status == 400 and answer.message().get("error", {}).get("code") == -32020, answer)
