#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets.

  fuzz/seeds.py --out DIR                from tests/vectors; tests/vectors/mcp/samples is traffic of the
                                         MCP SDKs as it stood on the wire
  fuzz/seeds.py --out DIR --record DIR   from a record, by `stenograph sessions` and `show`: what a gateway
                                         saw of real clients and servers; --bin names the binary

One folder for each target. fuzz/run.sh puts the first into fuzz/corpus by itself; the second may be added
there, from a record that may be read. fuzz/seeds holds what the fuzzers have found.
"""

import argparse
import base64
import gzip
import hashlib
import json
import pathlib
import re
import subprocess
import tomllib
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
VECTORS = ROOT / "tests/vectors"
# Longer ones slow the fuzzer down and teach it nothing that shorter ones do not.
SEED_BYTES_MAX = 3000
PICTURES = {"␍": b"\r", "␊": b"\n", "␉": b"\t", "␀": b"\0", "«": b""}
LENGTH = re.compile(rb"(?i)content-length: *\d+")


class Seeds:
    def __init__(self, folder):
        self.folder = folder
        self.seen = set()

    def add(self, target, data, cuts=b""):
        """Keeps one input. What holds an 0xff of its own gets another at its end: that one ends it."""
        if target != "coding" and (cuts or b"\xff" in data):
            data += b"\xff" + cuts
        if not data or len(data) > SEED_BYTES_MAX or (target, data) in self.seen:
            return
        self.seen.add((target, data))
        path = self.folder / target
        path.mkdir(parents=True, exist_ok=True)
        (path / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def picture(line):
    """A line of a vector file as bytes; tests/wire/vectors.rs says how they are written."""
    out, at = b"", 0
    while at < len(line):
        symbol = line[at]
        at += 1
        if symbol == "‹":
            inner, at = line[at : line.index("›", at)], line.index("›", at) + 1
            for part in inner.split(" "):
                byte, _, count = part.partition("*")
                out += bytes([int(byte, 16)]) * int(count or 1)
        else:
            out += PICTURES.get(symbol, symbol.encode())
    return out


def cases(name):
    found = []
    for line in (VECTORS / name).read_text().split("\n"):
        if line.startswith("=="):
            found.append(b"")
        elif line.startswith("> "):
            found[-1] += picture(line[2:])
    return found


def message(seeds, body):
    seeds.add("json", body)
    seeds.add("mcp", body)


def unchunked(body):
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            break
        out, body = out + rest[:count], rest[count + 2 :]
    return out


def filled(head, body, tool=False):
    """A message of a sample as the connection target takes it."""
    if tool:
        body = re.sub(rb'("method":"tools/call","params":\{"name":")[^"]*', rb"\1echo", body)
    return LENGTH.sub(b"Content-Length: $L", head) + b"\r\n\r\n" + body


def samples(seeds):
    for request in sorted((VECTORS / "mcp/samples").glob("*.req")):
        answer = request.with_suffix(".res")
        texts = [file.read_bytes() for file in (request, answer) if file.exists()]
        script = [b""]
        for index, text in enumerate(texts):
            head, _, body = text.partition(b"\r\n\r\n")
            seeds.add("head", head + b"\r\n\r\n")
            if b"chunked" in head.lower():
                seeds.add("body", b"\2" + body, b"\0\3\20")
                payload = unchunked(body)
            else:
                seeds.add("body", b"\1" + body, b"\5")
                payload = body
            if b"text/event-stream" in head.lower() and index == 1:
                seeds.add("sse", payload, b"\1\2\x30")
            elif payload:
                message(seeds, payload)
            if index == 0:
                lines = [line for line in head.split(b"\r\n") if not re.match(rb"(?i)host|auth", line)]
                line = re.sub(rb" \S+ ", b" /codegen ", lines[0], count=1)
                own = [line, b"Host: g", b"Authorization: Bearer $T", *lines[1:]]
                script.append(filled(b"\r\n".join(own), body, tool=True))
            else:
                script.append(b"<" + filled(head, body))
        # A handle of another gateway is 404: without it the call goes on.
        script = [re.sub(rb"(?i)mcp-session-id: [^\r]*\r\n", b"", part) for part in script]
        seeds.add("connection", b"\xfe".join(script), b"\x10\x20\0\1\x90")


HEAD = (
    b"POST /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer $T\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\nContent-Length: $L\r\n\r\n"
)
JSON = b"<HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: $L\r\n\r\n"
STREAM = b"<HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def call(number, tool, text):
    arguments = {"name": tool, "arguments": {"text": text}}
    said = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": arguments}
    return HEAD + json.dumps(said, separators=(",", ":")).encode()


def result(number, text):
    said = {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": text}]}}
    return json.dumps(said, separators=(",", ":")).encode()


def coded(name, body):
    # An 0xfe or 0xff of the body's own would end the section; the fuzzer finds its way around it.
    body = body.replace(b"\xfe", b"\xfd").replace(b"\xff", b"\xfd")
    return JSON.replace(b"\r\n\r\n", b"\r\nContent-Encoding: " + name.encode() + b"\r\n\r\n") + body


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def connections(seeds):
    planted, forbidden = "MASKME-abcdef123456", "BLOCKME-123456"
    beat = b': beat\n\nid: 9\nretry: 5\ndata: {"jsonrpc":"2.0",\ndata: "method":"notifications/x"}\n\n'
    stream = chunk(beat) + chunk(b"data: " + result(2, "say " + planted) + b"\n\n") + b"0\r\n\r\n"
    plays = [
        [call(1, "echo", planted), JSON + result(1, "a " + planted + " b")],
        [call(1, "deploy", "x"), call(2, "echo", forbidden)],
        [call(2, "echo", "x"), STREAM + stream],
        [call(2, "echo", "x"), call(3, "echo", "y"), STREAM + stream, JSON + result(3, forbidden)],
        [call(1, "echo", "x"), b"<" + (JSON + result(1, "x"))[:-20]],
        [call(1, "echo", "x"), JSON + result(9, "x")],
        [call(1, "echo", "x"), coded("gzip", gzip.compress(result(1, planted), mtime=0))],
        [call(1, "echo", "x"), coded("zstd", raw_frame(result(1, planted)))],
        [b"GET /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer $T\r\nAccept: text/event-stream\r\n\r\n",
         STREAM + stream],
    ]
    for play in plays:
        seeds.add("connection", b"\xfe".join([b"", *play]), b"\0\1\x40\7\x90")
        for trouble in range(13):
            for turn in (0, 2) if trouble in (3, 8, 11) else (1,):
                turns = bytes(turn) + bytes([trouble]) + b"\0\0"
                seeds.add("connection", b"\xfe".join([turns, *play]), b"\x90\x81\x30\x90")


def codings(seeds):
    for text in (b"{}", result(1, "x"), b"a" * 5000, bytes(range(256))):
        packed = gzip.compress(text, mtime=0)
        seeds.add("coding", b"\0" + packed)
        seeds.add("coding", b"\0" + packed + packed)
        seeds.add("coding", b"\0" + packed[:-3])
        seeds.add("coding", b"\1" + zlib.compress(text))
        seeds.add("coding", b"\2" + raw_frame(text))


def raw_frame(text):
    """A zstd frame with one raw block (RFC 8878): no library of Python's own writes one."""
    block = (len(text) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\xa0" + len(text).to_bytes(4, "little") + block + text


def segments(seeds):
    first = (VECTORS / "segment/v1/segments/00000000.seg").read_bytes()
    seeds.add("segment", first, b"\7\x90")
    for letter in (b"a", b"b", b"c"):
        seeds.add("segment", letter, b"\0\x60")
        for kind in range(9):
            for place in (40, 700):
                changed = bytes([kind, kind % 2]) + place.to_bytes(2, "big") + b"\3"
                seeds.add("segment", letter + changed, b"\x22")


def proxies(seeds):
    """Headers of both versions of the PROXY protocol, and some that are nearly right."""
    for line in (
        "TCP4 192.0.2.7 198.51.100.1 56324 443", "TCP6 2001:db8::1 2001:db8::2 1 65535", "UNKNOWN",
        "UNKNOWN ffff::1 ffff::2 1 2", "TCP4 192.0.2.07 198.51.100.1 1 2", "TCP6 192.0.2.7 ::1 1 2",
        "TCP4 192.0.2.7 198.51.100.1 065 443", "TCP4 192.0.2.7  198.51.100.1 1 2", "",
    ):
        seeds.add("proxy", b"PROXY " + line.encode() + b"\r\nPOST /")
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    for kind, length in ((b"\x21\x11", 12), (b"\x21\x21", 36), (b"\x20\0", 0), (b"\x21\0", 0), (b"\x21\x12", 12)):
        block = bytes(range(1, length + 1))
        for behind in (b"", b"\4\0\2ab", b"\3\0\4\0\0\0\0", b"\4\0"):
            size = (length + len(behind)).to_bytes(2, "big")
            seeds.add("proxy", signature + kind + size + block + behind)


def vectors(seeds):
    for name in ("http1/requests.txt", "http1/responses.txt"):
        for data in cases(name):
            seeds.add("head", data)
    for data in cases("http1/chunks.txt"):
        seeds.add("body", b"\2" + data, b"\0\2")
    for data in cases("sse/streams.txt"):
        seeds.add("sse", data, b"\0\4")
    for data in cases("json/texts.txt"):
        seeds.add("json", data)
    for name in ("mcp/from-client.txt", "mcp/from-server.txt"):
        for data in cases(name):
            seeds.add("mcp", data)
    for file in sorted((VECTORS / "config").glob("*.toml")):
        seeds.add("config", file.read_bytes())


def rules(seeds):
    """What the rules of the pack must find, and what they must not."""
    pack = tomllib.loads((ROOT / "src/guard/pack.toml").read_text())
    for rule in pack["rule"]:
        for text in (*rule["tests"].get("match", ()), *rule["tests"].get("no_match", ())):
            seeds.add("guard", f"see {text} there".encode())


def recorded(seeds, record, binary):
    """Bodies and heads of every exchange of a record."""
    def lines(*words):
        said = subprocess.run([binary, *words, "--record", record, "--json"], capture_output=True)
        return [json.loads(line) for line in said.stdout.splitlines()]

    for session in {one["session"] for one in lines("sessions")}:
        for entry in lines("show", session):
            for part in entry.get("parts", []):
                if part["kind"] not in ("head-in", "head-out", "body"):
                    continue
                text = part.get("text", part.get("json"))
                if isinstance(text, (dict, list)):
                    text = json.dumps(text, separators=(",", ":"), ensure_ascii=False)
                data = base64.b64decode(part["base64"]) if "base64" in part else (text or "").encode()
                if data.startswith((b"POST ", b"GET ", b"DELETE ", b"OPTIONS ", b"HTTP/1.1 ")):
                    seeds.add("head", data)
                elif data.startswith((b"{", b"[")):
                    message(seeds, data)
                    seeds.add("sse", b"data: " + data + b"\n\n", b"\x40")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="where the seeds go")
    parser.add_argument("--record", help="directory of a record")
    parser.add_argument("--bin", default=str(ROOT / "target/debug/stenograph"), help="the stenograph binary")
    options = parser.parse_args()
    seeds = Seeds(options.out)
    if options.record:
        recorded(seeds, options.record, options.bin)
    else:
        for make in (vectors, samples, connections, codings, segments, proxies, rules):
            make(seeds)
    for target in sorted({target for target, _ in seeds.seen}):
        sizes = [len(data) for name, data in seeds.seen if name == target]
        print(f"{target}: {len(sizes)} seeds, {sum(sizes)} bytes")


if __name__ == "__main__":
    main()
