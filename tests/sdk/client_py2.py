"""Runs a list of steps with the Python SDK 2.x client and prints what came back, as JSON lines.

Usage: client_py2.py < PLAN (JSON): {url, issuer, client_id, client_secret, person, token, era, steps}.
With `client_id` the SDK finds the identity provider and fetches the token by itself; with `person` it
registers under that name and sends its person there first; with `token` that one is sent; else none.
It judges nothing: run.py does.
"""

import json
import sys
import warnings

import anyio
import httpx2
import mcp_types as types
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from mcp.shared.exceptions import MCPError

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
        async with httpx2.AsyncClient() as browser:
            while not str(url).startswith(REDIRECT):
                answer = await browser.get(url)
                url = answer.next_request.url if answer.next_request else f"no way on: {answer.text}"
            self.callback = dict(url.params)

    async def come_back(self):
        return AuthorizationCodeResult(**self.callback)


def plain(value):
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return value


def say(line):
    print(json.dumps(line), flush=True)


def cause(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    found = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, MCPError):
        found["code"] = error.error.code
        found["data"] = error.error.data
    return found


async def on_log(params):
    SEEN["logs"].append(params.data)


async def on_message(message):
    if isinstance(message, types.ToolListChangedNotification):
        SEEN["changed"] += 1


async def on_elicit(context, params):
    SEEN["elicited"] += 1
    SEEN["asked"].append(params.message)
    return types.ElicitResult(action="accept", content={"sure": True})


async def on_sample(context, params):
    SEEN["sampled"] += 1
    return types.CreateMessageResult(
        role="assistant", content=types.TextContent(type="text", text="deeply"), model="none", stop_reason="endTurn"
    )


async def until(condition, timeout_s=3.0):
    with anyio.move_on_after(timeout_s):
        while not condition():
            await anyio.sleep(0.01)


async def run_step(client, step):
    do = step["do"]
    if do == "tools":
        return plain(await client.list_tools(cache_mode="bypass"))
    if do == "prompts":
        return plain(await client.list_prompts(cache_mode="bypass"))
    if do == "resources":
        return plain(await client.list_resources(cache_mode="bypass"))
    if do == "templates":
        return plain(await client.list_resource_templates(cache_mode="bypass"))
    if do == "read":
        return plain(await client.read_resource(step["uri"], cache_mode="bypass"))
    if do == "prompt":
        return plain(await client.get_prompt(step["prompt"], step.get("arguments")))
    if do == "complete":
        ref = types.PromptReference(type="ref/prompt", name=step["prompt"])
        return plain(await client.complete(ref, step["argument"]))
    if do == "ping":
        return plain(await client.send_ping())
    if do == "level":
        return plain(await client.set_logging_level(step["level"]))
    if do == "call":
        progress = []

        async def on_progress(value, total, message):
            progress.append([value, total, message])

        wanted = on_progress if step.get("progress") else None
        result = plain(await client.call_tool(step["tool"], step.get("arguments"), progress_callback=wanted))
        return {**result, "progress": progress}
    if do == "parallel":
        results = [None] * len(step["arguments"])

        async def one(index, arguments):
            results[index] = plain(await client.call_tool(step["tool"], arguments))

        async with anyio.create_task_group() as group:
            for index, arguments in enumerate(step["arguments"]):
                group.start_soon(one, index, arguments)
        return results
    if do == "announce":
        if PLAN["era"] == "legacy":
            await anyio.sleep(0.3)
            await client.call_tool("announce", {})
            await until(lambda: SEEN["changed"])
            return {"changed": SEEN["changed"]}
        async with client.listen(tools_list_changed=True) as subscription:
            await client.call_tool("announce", {})
            with anyio.move_on_after(3):
                async for event in subscription:
                    return {"changed": 1, "event": type(event).__name__}
        return {"changed": 0}
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
        async with httpx2.AsyncClient(auth=auth, headers=headers, timeout=httpx2.Timeout(20, read=60)) as http:
            client = Client(
                streamable_http_client(PLAN["url"], http_client=http),
                mode="legacy" if PLAN["era"] == "legacy" else "auto",
                read_timeout_seconds=20, logging_callback=on_log, message_handler=on_message,
                elicitation_callback=on_elicit, sampling_callback=on_sample,
                log_level=None if PLAN["era"] == "legacy" else "info",
            )
            async with client:
                say({"step": "connect", "result": {"version": client.protocol_version, "instructions": client.instructions}})
                for step in PLAN["steps"]:
                    try:
                        say({"step": step["name"], "result": await run_step(client, step)})
                    except Exception as error:
                        say({"step": step["name"], "error": cause(error)})
    except BaseException as error:
        say({"step": "connection", "error": cause(error)})
    say({"step": "end", "result": SEEN})


anyio.run(main)
