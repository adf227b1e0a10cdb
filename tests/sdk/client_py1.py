"""Runs a list of steps with the Python SDK 1.x client; the plan and the output are client_py2.py's."""

import json
import sys
import warnings
from datetime import timedelta

import anyio
import httpx
import mcp.types as types
from mcp import ClientSession, McpError
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

warnings.simplefilter("ignore")
PLAN = json.load(sys.stdin)
SEEN = {"logs": [], "changed": 0, "elicited": 0, "sampled": 0, "asked": []}


class Memory:
    """Token storage in memory."""

    tokens = None
    client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


REDIRECT = "http://127.0.0.1/callback"


class Person:
    """Goes where the SDK sends the person who uses it, at once, as a browser would."""

    callback = None

    async def go(self, url):
        async with httpx.AsyncClient() as browser:
            while not str(url).startswith(REDIRECT):
                answer = await browser.get(url)
                url = answer.next_request.url if answer.next_request else f"no way on: {answer.text}"
            self.callback = dict(url.params)

    async def come_back(self):
        return self.callback["code"], self.callback["state"]


def plain(value):
    return value.model_dump(mode="json", by_alias=True, exclude_none=True) if hasattr(value, "model_dump") else value


def say(line):
    print(json.dumps(line), flush=True)


def cause(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    found = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, McpError):
        found["code"] = error.error.code
        found["data"] = error.error.data
    return found


async def on_log(params):
    SEEN["logs"].append(params.data)


async def on_message(message):
    if isinstance(message, types.ServerNotification) and isinstance(message.root, types.ToolListChangedNotification):
        SEEN["changed"] += 1


async def on_elicit(context, params):
    SEEN["elicited"] += 1
    SEEN["asked"].append(params.message)
    return types.ElicitResult(action="accept", content={"sure": True})


async def on_sample(context, params):
    SEEN["sampled"] += 1
    return types.CreateMessageResult(
        role="assistant", content=types.TextContent(type="text", text="deeply"), model="none", stopReason="endTurn"
    )


async def run_step(session, step):
    do = step["do"]
    if do == "tools":
        return plain(await session.list_tools())
    if do == "prompts":
        return plain(await session.list_prompts())
    if do == "resources":
        return plain(await session.list_resources())
    if do == "templates":
        return plain(await session.list_resource_templates())
    if do == "read":
        return plain(await session.read_resource(step["uri"]))
    if do == "prompt":
        return plain(await session.get_prompt(step["prompt"], step.get("arguments")))
    if do == "complete":
        ref = types.PromptReference(type="ref/prompt", name=step["prompt"])
        return plain(await session.complete(ref, step["argument"]))
    if do == "ping":
        return plain(await session.send_ping())
    if do == "level":
        return plain(await session.set_logging_level(step["level"]))
    if do == "call":
        progress = []

        async def on_progress(value, total, message):
            progress.append([value, total, message])

        wanted = on_progress if step.get("progress") else None
        result = plain(await session.call_tool(step["tool"], step.get("arguments"), progress_callback=wanted))
        return {**result, "progress": progress}
    if do == "parallel":
        results = [None] * len(step["arguments"])

        async def one(index, arguments):
            results[index] = plain(await session.call_tool(step["tool"], arguments))

        async with anyio.create_task_group() as group:
            for index, arguments in enumerate(step["arguments"]):
                group.start_soon(one, index, arguments)
        return results
    if do == "announce":
        await anyio.sleep(0.3)
        await session.call_tool("announce", {})
        with anyio.move_on_after(3):
            while not SEEN["changed"]:
                await anyio.sleep(0.01)
        return {"changed": SEEN["changed"]}
    if do == "sleep":
        await anyio.sleep(step["ms"] / 1000)
        return {}
    raise ValueError(f"unknown step {do}")


async def main():
    auth = None
    headers = {}
    if PLAN.get("client_id"):
        auth = ClientCredentialsOAuthProvider(
            server_url=PLAN["url"], storage=Memory(), client_id=PLAN["client_id"],
            client_secret=PLAN["client_secret"], issuer=PLAN["issuer"],
        )
    if PLAN.get("person"):
        person = Person()
        auth = OAuthClientProvider(
            server_url=PLAN["url"], storage=Memory(), redirect_handler=person.go, callback_handler=person.come_back,
            client_metadata=OAuthClientMetadata(
                client_name=PLAN["person"], redirect_uris=[REDIRECT], token_endpoint_auth_method="none",
                grant_types=["authorization_code", "refresh_token"], response_types=["code"],
            ),
        )
    if PLAN.get("token"):
        headers["Authorization"] = f"Bearer {PLAN['token']}"
    try:
        async with (
            httpx.AsyncClient(auth=auth, headers=headers, timeout=httpx.Timeout(20, read=60)) as http,
            streamable_http_client(PLAN["url"], http_client=http) as (read, write, _),
            ClientSession(
                read, write, read_timeout_seconds=timedelta(seconds=20), logging_callback=on_log,
                message_handler=on_message, elicitation_callback=on_elicit, sampling_callback=on_sample,
            ) as session,
        ):
            opened = await session.initialize()
            say({"step": "connect", "result": {"version": opened.protocolVersion, "instructions": opened.instructions}})
            for step in PLAN["steps"]:
                try:
                    say({"step": step["name"], "result": await run_step(session, step)})
                except Exception as error:
                    say({"step": step["name"], "error": cause(error)})
    except BaseException as error:
        say({"step": "connection", "error": cause(error)})
    say({"step": "end", "result": SEEN})


anyio.run(main)
