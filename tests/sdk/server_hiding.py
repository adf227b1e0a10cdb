"""A server on the Python SDK that puts secrets into every hiding place of its answers, and that shows what
it was sent: a debug tool reflects the fields of the request, the gateway's own credential among them.

Usage: server_hiding.py PORT; what it hides comes as JSON in the environment variable HIDDEN:
{name: {secret, text}}, the names of hiding.py. It authenticates nobody.
"""

import base64
import json
import os
import sys
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.shared.exceptions import MCPError
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    Completion,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

HIDDEN = {name: one["text"] for name, one in json.loads(os.environ["HIDDEN"]).items()}

server = MCPServer("stenograph-hiding", version="1.0", instructions=HIDDEN["instructions"], log_level="ERROR")


def embedded(**words):
    resource = BlobResourceContents(**words) if "blob" in words else TextResourceContents(**words)
    return [EmbeddedResource(type="resource", resource=resource)]


def link(uri="hide://x", name="x", description=None):
    return [ResourceLink(type="resource_link", uri=uri, name=name, description=description)]


@server.tool(description=f"Hides something. {HIDDEN['description of a tool']}")
async def hide(ctx: Context, what: Annotated[str, Field(description=HIDDEN["schema of a tool"])]) -> CallToolResult:
    text = HIDDEN[what]
    content, structured, meta, failed = [TextContent(type="text", text="hidden elsewhere")], None, None, False
    if what == "structured content":
        structured = {"nested": {"list": ["harmless", text]}}
    elif what == "a key of structured content":
        structured = {text: 1}
    elif what == "_meta of a result":
        meta = {"example.com/note": text}
    elif what == "_meta of a content":
        content = [TextContent(type="text", text="x", _meta={"note": text})]
    elif what == "resource in a result":
        content = embedded(uri="hide://x", text=text)
    elif what == "blob of a resource in a result":
        content = embedded(uri="hide://x", blob=base64.b64encode(text.encode()).decode())
    elif what == "address of a resource in a result":
        content = embedded(uri=f"hide://x/{text}", text="x")
    elif what == "address of a link":
        content = link(uri=f"hide://x/{text}")
    elif what == "name of a link":
        content = link(name=text)
    elif what == "description of a link":
        content = link(description=text)
    elif what == "text of a failed call":
        content, failed = [TextContent(type="text", text=text)], True
    elif what == "message of an error":
        raise MCPError(-32050, text)
    elif what == "data of an error":
        raise MCPError(-32050, "it failed", {"env": ["x", text]})
    elif what == "progress":
        await ctx.report_progress(1, 2, text)
    elif what == "log":
        await ctx.info({"env": {"TOKEN": text}})
    else:
        content = [TextContent(type="text", text=text)]
    return CallToolResult(content=content, structured_content=structured, _meta=meta, is_error=failed)


class Sure(BaseModel):
    """The answer of a person."""

    sure: bool


async def question() -> Elicit[Sure]:
    """Asks the person at the client."""
    return Elicit(HIDDEN["question to a person"], Sure)


@server.tool()
async def ask(answer: Annotated[Sure, Resolve(question)]) -> str:
    """Answers what the person said."""
    return f"sure: {answer.sure}"


@server.tool()
async def debug(ctx: Context) -> CallToolResult:
    """Shows the fields of the request, as they came and in three codings."""
    fields = dict(ctx.headers)
    raw = "\n".join(f"{name}: {value}" for name, value in fields.items())
    token = fields.get("authorization", "").removeprefix("Bearer ")
    texts = [
        raw, json.dumps(json.dumps(fields)), base64.b64encode(raw.encode()).decode(), raw.encode().hex(),
        "".join(f"%{byte:02X}" for byte in raw.encode()), token, f"<{token}>",
    ]
    return CallToolResult(content=[TextContent(type="text", text=text) for text in texts], structured_content=fields)


@server.resource("hide://text", description=HIDDEN["description of a resource"])
async def hidden_text() -> str:
    """A note."""
    return HIDDEN["resource"]


@server.resource("hide://blob", mime_type="application/octet-stream")
async def hidden_blob() -> bytes:
    """A note in bytes."""
    return HIDDEN["blob of a resource"].encode()


@server.prompt()
async def hidden(code: str) -> str:
    """A prompt."""
    return f"{HIDDEN['prompt']} {code}"


@server.prompt(name=HIDDEN["name of a prompt"])
async def named() -> str:
    """A prompt whose name is a secret: no list with it may go on."""
    return "x"


@server.completion()
async def complete(ref, argument, context):
    """Completes any argument."""
    return Completion(values=[HIDDEN["completion"], "harmless"], total=2, has_more=False)


if __name__ == "__main__":
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
