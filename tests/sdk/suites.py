"""What every client does with each server, and what must come back.

A step is data for the client programs; its expectation is a function of the line they print. The
expectations marked `guard` say what only a gateway brings about: the same steps straight at the
server must break exactly those, which is how each of them is shown to be able to fail.
"""

import json

DENIED = -31001
BLOCKED = -31002
CLIENT_TEXT = "grüße 東京 \u2028 \"quoted\" \\ 🎈"
LARGE = "lorem ipsum " * 20_000


# Tools whose structured content has a schema that a mask fits, or does not.
SHAPED = ["shaped_enum", "shaped_format", "shaped_loose", "shaped_pattern", "shaped_type"]


class Step:
    """One step of a client and what is expected of it."""

    def __init__(self, name, do, expect, guard=False, eras=("legacy", "modern"), **words):
        self.name = name
        self.words = {"name": name, "do": do, **words}
        self.expect = expect
        self.guard = guard
        self.eras = eras


def names(result, kind, key="name"):
    return sorted(item[key] for item in result[kind])


def text(result):
    return result["content"][0]["text"]


def denied(line):
    error = line.get("error") or {}
    return error.get("code") == DENIED and "exchange" in (error.get("data") or {})


def blocked(line):
    error = line.get("error") or {}
    return error.get("code") == BLOCKED and "exchange" in (error.get("data") or {})


def py_steps(planted, sent):
    """Steps for server_py2.py. `planted` leaks from the server; `sent` is a secret the client sends."""
    granted = ["add", "announce", "confirm", "echo", "fail", "leak", "leak_error", "leak_slowly", "route", "sample", *SHAPED, "slow"]

    def clean(line):
        return "result" in line and planted["github"] not in json.dumps(line) and planted["aws"] not in json.dumps(line)

    def leak(line):
        # The SDK has validated structuredContent against the tool's output schema by now.
        if not clean(line) or line["result"].get("isError"):
            return False
        inner = json.loads(text(line["result"]))
        spelled = json.loads(line["result"]["content"][1]["text"])
        value = line["result"]["structuredContent"]
        # The fill of the escaped spelling is longer: it has the length of what stood there.
        return (
            inner == value and {**spelled, "token": value["token"]} == value
            and value["repository"] == "git.example.com/widgets"
            and value["nested"]["keys"][1] == "harmless" and len(value["token"]) == len(planted["github"])
            and "ghp" not in value["token"][4:]
        )

    def refused_by_the_client(line):
        error = line.get("error") or {}
        return error.get("code") != BLOCKED and "structured content" in error["message"].lower()

    shaped = [
        # A client of TypeScript 2 forgets the schemas when the server says that its tools have changed.
        Step("tools after the change", "tools", lambda line: set(SHAPED) <= set(names(line["result"], "tools"))),
        Step("structured content that is any text", "call",
             lambda line: clean(line) and line["result"]["structuredContent"]["value"].startswith("[github-token"),
             guard=True, tool="shaped_type"),
        *[Step(f"structured content bound by {keyword}", "call", blocked, guard=True, tool=f"shaped_{keyword}")
          for keyword in ("pattern", "format", "enum")],
        Step("structured content of a rule that masks all the same", "call", refused_by_the_client, guard=True, tool="shaped_loose"),
    ]

    return [
        Step("tools", "tools", lambda line: names(line["result"], "tools") == granted, guard=True),
        Step("tools again", "tools", lambda line: set(granted) <= set(names(line["result"], "tools"))),
        Step("tools are private to caches", "tools", lambda line: line["result"]["cacheScope"] == "private",
             guard=True, eras=("modern",)),
        Step("echo", "call", lambda line: text(line["result"]) == CLIENT_TEXT, tool="echo", arguments={"text": CLIENT_TEXT}),
        Step("large echo", "call", lambda line: text(line["result"]) == LARGE, tool="echo", arguments={"text": LARGE}),
        Step("structured answer", "call", lambda line: line["result"]["structuredContent"] == {"result": 5},
             tool="add", arguments={"a": 2, "b": 3}),
        Step("progress on a stream", "call",
             lambda line: [p[0] for p in line["result"]["progress"]] == [1, 2, 3] and text(line["result"]) == "done after 3",
             tool="slow", arguments={"steps": 3, "step_ms": 20}, progress=True),
        Step("20 calls at once", "parallel",
             lambda line: [text(one) for one in line["result"]] == [f"call {n}" for n in range(20)],
             tool="echo", arguments=[{"text": f"call {n}"} for n in range(20)]),
        Step("argument repeated in a header field", "call", lambda line: text(line["result"]) == "eu-west: x",
             tool="route", arguments={"region": "eu-west", "text": "x"}),
        Step("secret in an argument repeated in a header field", "call",
             lambda line: sent["masked"] not in json.dumps(line) and text(line["result"]).endswith(": x"), guard=True,
             tool="route", arguments={"region": sent["masked"], "text": "x"}),
        Step("tool error", "call", lambda line: line["result"]["isError"] is True and "it failed" in text(line["result"]), tool="fail"),
        Step("listening", "announce", lambda line: line["result"]["changed"] >= 1),
        Step("elicitation", "call", lambda line: text(line["result"]) == "sure: True", tool="confirm"),
        Step("sampling", "call", lambda line: text(line["result"]) == "thought: deeply", tool="sample"),
        Step("tool not granted", "call", denied, guard=True, tool="wipe"),
        Step("call after the refusal", "call", lambda line: text(line["result"]) == "still here", tool="echo", arguments={"text": "still here"}),
        Step("leak", "call", leak, guard=True, tool="leak"),
        *shaped,
        Step("leak in progress", "call",
             lambda line: clean(line) and len(line["result"]["progress"]) == 1 and text(line["result"]) == "cloned",
             guard=True, tool="leak_slowly", progress=True),
        Step("leak in an error", "call", lambda line: clean(line) and line["result"]["isError"], guard=True, tool="leak_error"),
        Step("secret sent, masked", "call", lambda line: "result" in line and sent["masked"] not in json.dumps(line), guard=True,
             tool="echo", arguments={"text": f"my token is {sent['masked']} ok"}),
        Step("secret sent, blocked", "call", blocked, guard=True, tool="echo", arguments={"text": f"my token is {sent['blocked']} ok"}),
        Step("resources", "resources",
             lambda line: names(line["result"], "resources", "uri") == ["notes://logo", "notes://secret", "notes://today"], guard=True),
        Step("templates", "templates", lambda line: names(line["result"], "resourceTemplates", "uriTemplate") == ["notes://by-day/{day}"]),
        Step("read", "read", lambda line: line["result"]["contents"][0]["text"] == "buy milk", uri="notes://today"),
        Step("read by template", "read", lambda line: line["result"]["contents"][0]["text"] == "note of monday", uri="notes://by-day/monday"),
        Step("read binary", "read", lambda line: line["result"]["contents"][0]["blob"].startswith("AAECAwQF"), uri="notes://logo"),
        Step("read with a secret", "read", lambda line: clean(line) and line["result"]["contents"][0]["text"].startswith("token = "),
             guard=True, uri="notes://secret"),
        Step("resource not granted", "read", denied, guard=True, uri="vault://master"),
        Step("prompts", "prompts", lambda line: names(line["result"], "prompts") == ["review"], guard=True),
        Step("prompt", "prompt", lambda line: "Please review: fn" in json.dumps(line["result"]), prompt="review", arguments={"code": "fn"}),
        Step("prompt not granted", "prompt", denied, guard=True, prompt="exfiltrate"),
        Step("completion", "complete", lambda line: line["result"]["completion"]["values"] == ["a-one", "a-two"],
             prompt="review", argument={"name": "code", "value": "a"}),
        Step("ping", "ping", lambda line: "result" in line, eras=("legacy",)),
    ]


PY_GRANT = {
    "tools": ["echo", "add", "slow", "leak*", "shaped_*", "route", "fail", "announce", "confirm", "sample"],
    "prompts": ["review"],
    "resources": ["notes://*", "notes://by-day/*"],
    "methods": ["subscriptions/listen"],
}


TS_TOOLS = ["add", "announce", "confirm", "echo", "fail", "hide", "leak", "route", *SHAPED, "slow"]
TS_GRANT = {**PY_GRANT, "tools": TS_TOOLS}


def ts_steps(planted, sent):
    """Steps for server_ts2.mjs: those of the Python server that it has a part in."""
    missing = {"tools again", "tools are private to caches", "sampling", "leak in progress", "leak in an error"}
    steps = [step for step in py_steps(planted, sent) if step.name not in missing]
    for step in steps:
        if step.name == "tools":
            step.expect = lambda line: names(line["result"], "tools") == TS_TOOLS
        if step.name in ("listening", "elicitation"):
            # Without a session there is nobody to ask and nothing to listen to in the handshake era.
            step.eras = ("modern",)
    return steps


def everything_steps(planted, sent):
    """Steps for server-everything (handshake era only)."""

    def env(line):
        values = json.loads(text(line["result"]))
        shown = json.dumps(values)
        return "STENOGRAPH_PLANTED" in values and planted["github"] not in shown and planted["aws"] not in shown

    return [
        Step("tools", "tools", lambda line: "get-sum" in names(line["result"], "tools")
             and "gzip-file-as-resource" not in names(line["result"], "tools"), guard=True),
        Step("echo", "call", lambda line: text(line["result"]) == f"Echo: {CLIENT_TEXT}", tool="echo", arguments={"message": CLIENT_TEXT}),
        Step("sum", "call", lambda line: "5" in text(line["result"]), tool="get-sum", arguments={"a": 2, "b": 3}),
        Step("image", "call", lambda line: any(c["type"] == "image" and len(c["data"]) > 1000 for c in line["result"]["content"]), tool="get-tiny-image"),
        Step("image where a grant blocks it", "call", blocked, guard=True,
             tool="get-annotated-message", arguments={"messageType": "success", "includeImage": True}),
        Step("the same without it", "call", lambda line: [c["type"] for c in line["result"]["content"]] == ["text"],
             tool="get-annotated-message", arguments={"messageType": "success", "includeImage": False}),
        Step("structured answer", "call", lambda line: "temperature" in line["result"]["structuredContent"],
             tool="get-structured-content", arguments={"location": "New York"}),
        Step("progress on a stream", "call", lambda line: [p[0] for p in line["result"]["progress"]] == [1, 2, 3],
             tool="trigger-long-running-operation", arguments={"duration": 0.15, "steps": 3}, progress=True),
        Step("20 calls at once", "parallel",
             lambda line: [text(one) for one in line["result"]] == [f"Echo: call {n}" for n in range(20)],
             tool="echo", arguments=[{"message": f"call {n}"} for n in range(20)]),
        Step("sampling", "call", lambda line: "deeply" in json.dumps(line["result"]), tool="trigger-sampling-request", arguments={"prompt": "think"}),
        Step("elicitation", "call", lambda line: not line["result"].get("isError") and "error" not in line, tool="trigger-elicitation-request"),
        Step("tool not granted", "call", denied, guard=True, tool="gzip-file-as-resource", arguments={}),
        Step("leak of the environment", "call", env, guard=True, tool="get-env"),
        Step("secret sent, masked", "call", lambda line: "result" in line and sent["masked"] not in json.dumps(line), guard=True,
             tool="echo", arguments={"message": f"my token is {sent['masked']} ok"}),
        Step("secret sent, blocked", "call", blocked, guard=True, tool="echo", arguments={"message": f"my token is {sent['blocked']} ok"}),
        Step("resources", "resources", lambda line: "demo://resource/static/document/features.md" in names(line["result"], "resources", "uri")),
        Step("templates", "templates", lambda line: len(line["result"]["resourceTemplates"]) == 2),
        Step("read", "read", lambda line: line["result"]["contents"][0]["uri"] == "demo://resource/dynamic/text/1", uri="demo://resource/dynamic/text/1"),
        Step("read binary", "read", lambda line: line["result"]["contents"][0]["blob"], uri="demo://resource/dynamic/blob/2"),
        Step("prompts", "prompts", lambda line: names(line["result"], "prompts") == ["args-prompt", "completable-prompt", "simple-prompt"], guard=True),
        Step("prompt", "prompt", lambda line: "Berlin" in json.dumps(line["result"]), prompt="args-prompt", arguments={"city": "Berlin"}),
        Step("prompt not granted", "prompt", denied, guard=True, prompt="resource-prompt",
             arguments={"resourceType": "Text", "resourceId": "1"}),
        Step("completion", "complete", lambda line: line["result"]["completion"]["values"] == ["Engineering"],
             prompt="completable-prompt", argument={"name": "department", "value": "E"}),
        Step("log level", "level", lambda line: "result" in line, level="debug"),
        Step("ping", "ping", lambda line: "result" in line),
    ]


# The first grant that allows a tool says what becomes of its images.
EVERYTHING_BLOCKED = {"tools": ["get-annotated-message"], "opaque": "block"}
EVERYTHING_GRANT = {
    "tools": ["echo", "get-*", "trigger-*", "toggle-*"],
    "prompts": ["args-prompt", "completable-prompt", "simple-prompt"],
    "resources": ["demo://resource/static/document/*", "demo://resource/dynamic/*/*"],
    "methods": ["logging/setLevel"],
}


def judge(checks, label, steps, lines, control):
    """Compares what a client printed with what its steps expect. In the `control` run, straight at
    the server, every `guard` expectation must be broken and every other one met."""
    by_name = {line["step"]: line for line in lines}
    if "connection" in by_name:
        checks.check(f"{label}: connection", False, by_name["connection"])
    for step in steps:
        line = by_name.get(step.name)
        try:
            met = bool(line) and bool(step.expect(line))
        except (KeyError, TypeError, IndexError, ValueError):
            met = False
        if control and step.guard:
            checks.check(f"{label}: {step.name}: can fail", line is not None and not met, line)
        else:
            checks.check(f"{label}: {step.name}", met, line)
