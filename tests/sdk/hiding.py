"""Hiding places: how a secret stands in a message, where in an answer it stands, and how it is found again.

The codings are written here a second time, apart from the scanner's own tests: what they call a hiding
place (README, "Where it looks") has the same name here. `Seen` takes off every coding of a text, so that
what a client has parsed, or what crossed the wire, shows its secrets however they are written.
"""

import base64
import concurrent.futures
import gzip
import html
import json
import re
import urllib.parse

from suites import BLOCKED, Step

UNSEEN = "\u200b\u00ad\U000e0001\ufeff\u115f\u3164\u034f"
NAMED = {"_": "lowbar", "-": "hyphen", ".": "period", "/": "sol", "+": "plus", "=": "equals", ":": "colon", " ": None}


def nested(text, times=1):
    for _ in range(times):
        text = json.dumps({"before": 'x "y"', "value": text, "z": [1]})
    return text


def spelled(text):
    return '{"value":"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"}'


def b64(text):
    return base64.b64encode(text.encode()).decode()


CODINGS = {
    "plain": lambda text: text,
    "json-1": nested,
    "json-2": lambda text: nested(text, 2),
    "json-3": lambda text: nested(text, 3),
    "json-spelled": spelled,
    "percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent-signs": lambda text: urllib.parse.quote(text, safe="").replace("_", "%5F"),
    "html-decimal": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "html-hex": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "html-named": lambda text: "".join(f"&{NAMED[c]};" if NAMED.get(c) else c for c in text),
    "zero-width": lambda text: "\u200b".join(text),
    "colours": lambda text: "\x1b[32m" + "\x1b[0;1m".join(text),
    "soft-hyphen": lambda text: "\u00ad".join(text),
    "tags": lambda text: "\U000e0001\ufeff".join(text),
    "fillers": lambda text: "\u115f\u3164\u034f".join(text),
    "base64": lambda text: f"data {b64(text)} end",
    "base64url": lambda text: f"data {base64.urlsafe_b64encode(text.encode()).decode().rstrip('=')} end",
    "base64-lines": lambda text: "data " + "\r\n".join(re.findall(".{1,76}", b64(text))) + " end",
    "base64-glued": lambda text: f"data /srv/x/{b64(text)} end",
    "hex": lambda text: f"data {text.encode().hex()} end",
    "hex-escapes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "gzip-base64": lambda text: f"data {base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()} end",
    "percent>html-hex": lambda text: CODINGS["html-hex"](CODINGS["percent"](text)),
    "base64>base64": lambda text: b64(b64(text)),
    "hex>base64url": lambda text: base64.urlsafe_b64encode(text.encode().hex().encode()).decode().rstrip("="),
    "percent>base64": lambda text: b64(CODINGS["percent"](text)),
    "base64>zero-width": lambda text: "\u200b".join(b64(text)),
    "base64>json-1": lambda text: nested(b64(text)),
}


class Place:
    """Where a secret stands: how a client comes to it, and what must come of it. `path` is where the record
    says that it stood; `blocked` is what no mask may edit."""

    def __init__(self, name, path, do="call", blocked=False, **words):
        self.name = name
        self.path = path
        self.blocked = blocked
        self.words = {"do": do, **({"tool": "hide", "arguments": {"what": name}} if do == "call" else {}), **words}


PLACES = [
    Place("structured content", r"/result/structuredContent/nested/list/1"),
    Place("a key of structured content", r"/result/structuredContent/\*", blocked=True),
    Place("_meta of a result", r"/result/_meta/example.com~1note"),
    Place("_meta of a content", r"/result/content/0/_meta/note"),
    Place("resource in a result", r"/result/content/0/resource/text"),
    Place("blob of a resource in a result", r"/result/content/0/resource/blob"),
    Place("address of a resource in a result", r"/result/content/0/resource/uri"),
    Place("address of a link", r"/result/content/0/uri"),
    Place("name of a link", r"/result/content/0/name"),
    Place("description of a link", r"/result/content/0/description"),
    Place("text of a failed call", r"/result/content/0/text"),
    Place("message of an error", r"/error/message"),
    Place("data of an error", r"/error/data/env/1"),
    Place("progress", r"/params/message", progress=True),
    Place("log", r"/params/data/env/TOKEN"),
    Place("question to a person", r"(/params/message|/result/inputRequests/.*/params/message)", tool="ask"),
    Place("description of a tool", r"/result/tools/\d+/description", do="tools"),
    Place("schema of a tool", r"/result/tools/\d+/inputSchema/properties/what/description", do="tools"),
    Place("resource", r"/result/contents/0/text", do="read", uri="hide://text"),
    Place("blob of a resource", r"/result/contents/0/blob", do="read", uri="hide://blob"),
    Place("description of a resource", r"/result/resources/\d+/description", do="resources"),
    Place("prompt", r"/result/messages/0/content/text", do="prompt", prompt="hidden", arguments={"code": "x"}),
    Place("name of a prompt", r"/result/prompts/\d+/name", do="prompts", blocked=True),
    Place("completion", r"/result/completion/values/0", do="complete", prompt="hidden", argument={"name": "code", "value": "a"}),
    Place("instructions", r"/result/instructions"),
]


def plan(token):
    """Every hiding place with a secret of its own: {name: {secret, text}}."""
    made = {}
    for coding, write in CODINGS.items():
        secret = token()
        made[coding] = {"secret": secret, "text": write(f"key {secret} of x")}
    for place in PLACES:
        secret = token()
        made[place.name] = {"secret": secret, "text": f"key {secret} of x"}
    # A name has no spaces, an address none either.
    for name in ("a key of structured content", "name of a prompt", "address of a link", "name of a link", "address of a resource in a result"):
        made[name]["text"] = made[name]["secret"]
    return made


def decoded(text):
    """What `text` can be read as, one coding taken off."""
    found = []
    if "\\" in text:
        plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
        found.append(re.sub(r"\\x([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), text))
        found.append(re.sub(r'\\(["\\/rnt])', lambda m: {"r": "\r", "n": "\n", "t": "\t"}.get(m[1], m[1]), plain))
    if "%" in text:
        found.append(urllib.parse.unquote(text))
    if "&" in text:
        found.append(html.unescape(text).replace("\u2010", "-"))
    if "\x1b[" in text:
        found.append(re.sub(r"\x1b\[[0-9;]*m", "", text))
    if any(c in text for c in UNSEEN):
        found.append("".join(c for c in text if c not in UNSEEN))
    runs = [run for spot in re.finditer(r"[A-Za-z0-9+/_-]{20,}(?:(?:\r?\n|\\r\\n|\\n)[A-Za-z0-9+/_-]+)*", text)
            for run in [re.sub(r"\r|\n|\\r|\\n", "", spot[0])]]
    for run in runs:
        letters = run.replace("-", "+").replace("_", "/")
        for lead in range(4):
            whole = letters[lead:][: (len(letters) - lead) // 4 * 4]
            rest = letters[lead:] + "=" * (-(len(letters) - lead) % 4)
            for one in {whole, rest}:
                try:
                    data = base64.b64decode(one)
                except ValueError:
                    continue
                found.append(data.decode("latin-1"))
                if data[:2] == b"\x1f\x8b":
                    try:
                        found.append(gzip.decompress(data).decode("latin-1"))
                    except (OSError, EOFError):
                        pass
        for digits in re.findall(r"(?:[0-9a-fA-F]{2}){10,}", run):
            found.append(bytes.fromhex(digits).decode("latin-1"))
    return found


class Seen:
    """Every reading of some texts, four codings deep."""

    def __init__(self, texts):
        self.readings = set()
        level = [text for text in texts if text]
        for _ in range(5):
            self.readings.update(level)
            level = {new for text in level for new in decoded(text)} - self.readings

    def __contains__(self, secret):
        return any(secret in reading for reading in self.readings)


def wire(streams):
    """The texts of byte streams as they came over HTTP: chunks put together."""
    return [re.sub(rb"\r\n[0-9a-fA-F]{1,8}\r\n", b"", stream).decode("utf-8", "replace") for stream in streams]


def strings(value):
    """Every text in a JSON value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


MASKED = re.compile(r"\[(?:github-token|secret:upstream-credential)[^\]]*\]")
GRANT = {"tools": ["*"], "prompts": ["*"], "resources": ["hide://*"], "methods": ["logging/setLevel"]}


def steps(hidden, credential, codings_alone=False):
    """What a client does at server_hiding.py; at another server that has its tool `hide`, the codings alone."""

    def masked(name):
        secret, whole = hidden[name]["secret"], hidden[name]["text"].startswith("key ") or name in CODINGS

        def expect(line):
            seen = Seen(strings(line))
            clean = secret not in seen and any(MASKED.search(reading) for reading in seen.readings)
            # What stands around it is what it was; of what is compressed nothing stays.
            around = any(re.search(r"key \[github-token:[0-9a-f]{8}\]\** of x", reading) for reading in seen.readings)
            return clean and (around or not whole or name == "gzip-base64")

        return expect

    def blocked(line):
        return (line.get("error") or {}).get("code") == BLOCKED

    def told(line):
        return "result" in line and not line["result"].get("isError")

    made = [Step(f"hidden in {coding}", "call", masked(coding), guard=True, tool="hide", arguments={"what": coding}) for coding in CODINGS]
    if codings_alone:
        return made
    for place in PLACES:
        # These come beside the answer; `leaks` looks at all that came.
        beside = place.name in ("log", "question to a person", "instructions")
        expect = told if beside else blocked if place.blocked else masked(place.name)
        if place.name != "instructions":
            made.append(Step(f"hidden in {place.name}", expect=expect, guard=not beside, **place.words))
    token = credential.split()[1]
    made.append(Step(
        "the gateway's credential, reflected", "call",
        lambda line: told(line) and token not in Seen(strings(line)) and len(line["result"]["content"]) == 7, guard=True, tool="debug",
    ))
    return made


def judge(checks, label, hidden, lines, down):
    """Beyond the steps: all that the client has parsed, and, behind the gateway, all bytes that it got."""
    parsed = Seen(text for line in lines for text in strings(line))
    if down is None:
        # The TypeScript client of 2026-07-28 asks for no log.
        silent = {"log"} if label.endswith("typescript 2, hiding, modern") else set()
        missing = [name for name, one in hidden.items() if one["secret"] not in parsed and name not in silent]
        checks.check(f"{label}: every hidden secret can be seen", not missing, missing)
        return
    for what, seen in (("what the client parsed", parsed), ("the bytes", Seen(wire(down)))):
        leaks = [name for name, one in hidden.items() if one["secret"] in seen]
        checks.check(f"{label}: no hidden secret in {what}", not leaks, leaks)


def told(checks, hidden, runs, echoed):
    """`echoed` names each place: every exchange, the direction, the rule, where in the message. `echoed` gives the
    lines that it says of a secret."""
    paths = {coding: r"/result/(content/0/text|structuredContent/value)" for coding in CODINGS} | {place.name: place.path for place in PLACES}

    def ask(name):
        lines = echoed(hidden[name]["secret"])
        hits = [line for line in lines if "exchange" in line]
        good = all(
            hit["masked"] and hit["direction"] == "response" and hit["rule"] == "github-token"
            and re.fullmatch(paths[name], hit["path"] or "") and hit["level"] >= 0 and hit["len"] > 0
            for hit in hits
        )
        return good and len({hit["exchange"] for hit in hits}) >= runs - (name == "log"), hits

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, (good, hits) in zip(hidden, pool.map(ask, hidden)):
            checks.check(f"echoed names the place: {name}", good, hits[:2] + [len(hits)])
