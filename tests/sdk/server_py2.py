"""The Python SDK server of the end-to-end tests: one endpoint, both protocol eras.

Usage: server_py2.py PORT; the planted secrets come as JSON in the environment variable PLANTED.
It authenticates nobody: it stands for the server that a gateway protects.
"""

import json
import os
import sys
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp_types import (
    CallToolResult,
    Completion,
    CreateMessageResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, Field, create_model

PLANTED = json.loads(os.environ.get("PLANTED", "{}"))

server = MCPServer(
    "stenograph-py2", version="1.0", instructions="A server behind a gateway.", log_level="WARNING",
    # A shared cache may hold this list, says the server; a gateway that filters it per caller must not agree.
    cache_hints={"tools/list": CacheHint(ttl_ms=60_000, scope="public")},
)


class Credentials(BaseModel):
    """What the leaking tool answers with; its schema is what SDK clients validate against."""

    repository: str
    token: str
    nested: dict[str, list[str]]


class Confirmation(BaseModel):
    """The answer a person gives to the confirming tool."""

    sure: bool


@server.tool()
async def echo(text: str) -> str:
    """Answers what it was told."""
    return text


@server.tool()
async def add(a: int, b: int) -> int:
    """Adds two integers; its answer has structured content."""
    return a + b


@server.tool()
async def slow(ctx: Context, steps: int = 3, step_ms: int = 30, text: str = "step") -> str:
    """Reports progress and a log line for every step, then answers."""
    for step in range(steps):
        await anyio.sleep(step_ms / 1000)
        await ctx.report_progress(step + 1, steps, f"{text} {step + 1}")
        await ctx.info(f"log {text} {step + 1}")
    return f"done after {steps}"


@server.tool()
async def leak() -> Annotated[CallToolResult, Credentials]:
    """Leaks the planted credential as structured content and as JSON inside a JSON string."""
    value = {
        "repository": "git.example.com/widgets",
        "token": PLANTED["github"],
        "nested": {"keys": [PLANTED["aws"], "harmless"]},
    }
    inner = json.dumps(value, indent=2)
    # A backslash-u spelling of the same text: only a reader that decodes JSON twice sees it.
    spelled = inner.replace("_", "\\u005f", 1)
    return CallToolResult(
        content=[
            TextContent(type="text", text=inner),
            TextContent(type="text", text=spelled),
            TextContent(type="text", text=f"export GITHUB_TOKEN={PLANTED['github']}"),
        ],
        structured_content=value,
    )


def shaped(name, kind, value):
    """A tool whose structured content is bound by what `kind` says of it."""
    model = create_model(f"Shaped{name.title()}", value=(kind, ...))

    async def answer() -> Any:
        return model(value=value)

    answer.__annotations__["return"] = model
    server.add_tool(answer, name=f"shaped_{name}", description="Its answer has a shape.")


shaped("type", str, PLANTED.get("github"))
shaped("pattern", Annotated[str, Field(pattern="^ghp_[0-9A-Za-z]{36}$")], PLANTED.get("github"))
shaped("format", Annotated[str, Field(json_schema_extra={"format": "uri"})], f"https://git.example.com/{PLANTED.get('github')}")
shaped("enum", Literal["CODE-123456", "CODE-none"], "CODE-123456")
shaped("loose", Annotated[str, Field(pattern="^LOOSE-[a-z]{8}$")], "LOOSE-abcdefgh")


@server.tool()
async def leak_slowly(ctx: Context) -> str:
    """Leaks the planted credential in a progress message and in a log line before the answer."""
    await ctx.report_progress(1, 2, f"cloning with {PLANTED['github']}")
    await ctx.info({"env": {"GITHUB_TOKEN": PLANTED["github"]}})
    return "cloned"


@server.tool()
async def leak_error() -> str:
    """Leaks the planted credential in the text of an error."""
    raise ToolError(f"could not push with {PLANTED['github']}")


@server.tool()
async def route(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], text: str) -> str:
    """Has an argument that 2026-07-28 clients repeat in a header field."""
    return f"{region}: {text}"


@server.tool()
async def fail() -> str:
    """Always fails, with a harmless text."""
    raise ToolError("it failed as asked")


@server.tool()
async def announce(ctx: Context) -> str:
    """Tells everyone who listens that the tools changed."""
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()
    return "announced"


async def ask(ctx: Context) -> Elicit[Confirmation]:
    """Asks the person at the client."""
    return Elicit("Really?", Confirmation)


@server.tool()
async def confirm(answer: Annotated[Confirmation, Resolve(ask)]) -> str:
    """Answers what the person said."""
    return f"sure: {answer.sure}"


async def think() -> Sample:
    """Asks the client's model."""
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text="think"))], max_tokens=16)


@server.tool()
async def sample(thought: Annotated[CreateMessageResult, Resolve(think)]) -> str:
    """Answers what the client's model said."""
    return f"thought: {thought.content.text}"


@server.tool()
async def wipe() -> str:
    """Nobody is granted this one."""
    return "wiped"


@server.resource("notes://today")
async def today() -> str:
    """A note."""
    return "buy milk"


@server.resource("notes://logo", mime_type="application/octet-stream")
async def logo() -> bytes:
    """A binary note."""
    return bytes(range(256))


@server.resource("notes://secret")
async def secret_note() -> str:
    """A note with a credential in it."""
    return f"token = {PLANTED['github']}"


@server.resource("notes://by-day/{day}")
async def by_day(day: str) -> str:
    """A note of a day."""
    return f"note of {day}"


@server.resource("vault://master")
async def vault() -> str:
    """Nobody is granted this one."""
    return "the master key"


@server.prompt()
async def review(code: str) -> str:
    """Asks for a review."""
    return f"Please review: {code}"


@server.prompt()
async def exfiltrate() -> str:
    """Nobody is granted this one."""
    return "send it all"


@server.completion()
async def complete(ref, argument, context):
    """Completes any argument with two values."""
    return Completion(values=[f"{argument.value}-one", f"{argument.value}-two"], total=2, has_more=False)


if __name__ == "__main__":
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
