"""A server on the Python SDK that offers all that the conformance suite asks a server for.

Usage: server_py.py PORT [plain]. It serves every protocol version, both eras, and the tasks extension.
What each tool, prompt and resource answers is what the suite's scenarios say of it. `plain`: JSON instead
of event streams, and no sessions.
"""

import base64
import sys
import uuid
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.server import require_client_extension
from mcp.server.mcpserver.tools.base import Tool
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from mcp_types import (
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    RequestParams,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SILENCE = base64.b64encode(
    b"RIFF\x26\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00"
    b"\x02\x00\x10\x00data\x02\x00\x00\x00\x00\x00"
).decode()
TASKS = "io.modelcontextprotocol/tasks"
MODERN = "2026-07-28"


class Events(EventStore):
    """What was sent on each stream, so that a client that comes back gets the rest."""

    def __init__(self):
        self.sent = []

    async def store_event(self, stream_id, message):
        self.sent.append((stream_id, message))
        return f"{stream_id}.{len(self.sent)}"

    async def replay_events_after(self, last_event_id, send_callback):
        stream, _, number = last_event_id.rpartition(".")
        if not number.isdigit() or int(number) > len(self.sent) or self.sent[int(number) - 1][0] != stream:
            return None
        for place, (of, message) in enumerate(self.sent[int(number) :], int(number) + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, f"{stream}.{place}"))
        return stream


def form(message, properties, required=None):
    """A request for input by a form."""
    schema = {"type": "object", "properties": properties, "required": required or list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(text, tokens):
    """A request for a model's words."""
    words = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[words], max_tokens=tokens))


def text_of(answer):
    """The text of a client's answer, whatever shape the SDK gives it."""
    content = getattr(answer, "content", None)
    if isinstance(content, dict):
        return " ".join(str(value) for value in content.values())
    return getattr(content, "text", str(answer))


def accepted(answer):
    """What a person filled in, or nothing."""
    return answer.content if getattr(answer, "action", None) == "accept" and answer.content else {}


# Tasks: made by some tools for clients that declare the extension.


class TaskParams(RequestParams):
    """Parameters of the methods that name a task."""

    task_id: str = Field(alias="taskId")
    input_responses: dict[str, Any] | None = Field(default=None, alias="inputResponses")


class Tasks(Extension):
    """The tasks extension: tools that take long become tasks, which are asked after by their id."""

    identifier = TASKS

    def __init__(self):
        self.tasks = {}
        self.group = None
        # What each tool does as a task: its questions, its seconds, its result.
        self.made = {"slow_compute": self.slow, "confirm_delete": self.confirm, "multi_input": self.many,
                     "failing_job": self.fails}

    def methods(self):
        versions = frozenset({MODERN})
        return [MethodBinding(f"tasks/{name}", TaskParams, getattr(self, name), versions)
                for name in ("get", "update", "cancel")]

    def declared(self, ctx):
        capabilities = ctx.session.client_capabilities
        return bool(capabilities and capabilities.extensions and TASKS in capabilities.extensions)

    def found(self, ctx, params):
        require_client_extension(ctx, TASKS)
        if params.task_id not in self.tasks:
            raise MCPError(code=-32602, message=f"no such task: {params.task_id}")
        return self.tasks[params.task_id]

    async def get(self, ctx, params):
        task = self.found(ctx, params)
        shown = {key: value for key, value in task.items() if key not in ("wake", "answers", "scope") and value is not None}
        return {**shown, "resultType": "complete"}

    async def update(self, ctx, params):
        task = self.found(ctx, params)
        for key, answer in (params.input_responses or {}).items():
            if task["inputRequests"] and task["inputRequests"].pop(key, None):
                task["answers"][key] = answer
        if not task["inputRequests"]:
            task["inputRequests"] = None
            if task["status"] == "input_required":
                task["status"] = "working"
            task["wake"].set()
        return {"resultType": "complete"}

    async def cancel(self, ctx, params):
        task = self.found(ctx, params)
        if task["status"] in ("working", "input_required"):
            task["status"] = "cancelled"
            task["inputRequests"] = None
            task["scope"].cancel()
        return {"resultType": "complete"}

    def create(self, work):
        name = str(uuid.uuid4())
        task = {
            "taskId": name, "status": "working", "createdAt": "2026-07-28T00:00:00Z",
            "lastUpdatedAt": "2026-07-28T00:00:00Z", "ttlMs": 60_000, "pollIntervalMs": 100,
            "inputRequests": None, "result": None, "error": None,
            "wake": anyio.Event(), "answers": {}, "scope": anyio.CancelScope(),
        }
        self.tasks[name] = task

        async def run():
            with task["scope"]:
                result = await work(task)
                task["status"], task["result"] = "completed", result

        self.group.start_soon(run)
        keys = ("taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs")
        return {"resultType": "task", **{key: task[key] for key in keys}}

    @staticmethod
    def said(text, error=False):
        return {"resultType": "complete", "content": [{"type": "text", "text": text}], "isError": error}

    async def ask(self, task, **questions):
        task["wake"] = anyio.Event()
        task["inputRequests"] = {
            key: {"method": "elicitation/create", "params": {"mode": "form", "message": words, "requestedSchema": {
                "type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}}}
            for key, words in questions.items()
        }
        task["status"] = "input_required"
        await task["wake"].wait()

    async def slow(self, task, arguments):
        await anyio.sleep(float(arguments.get("seconds", 1)))
        return self.said(f"computed {arguments.get('label', '')}")

    async def confirm(self, task, arguments):
        await self.ask(task, sure=f"Delete {arguments.get('filename')}?")
        return self.said(f"deleted {arguments.get('filename')}")

    async def many(self, task, arguments):
        await self.ask(task, first="The first?", second="The second?")
        return self.said("both answered")

    async def fails(self, task, arguments):
        await anyio.sleep(0.05)
        return self.said("the job failed as asked", True)

    async def intercept_tool_call(self, params, ctx, call_next):
        work = self.made.get(params.name)
        if params.name in ("failing_job", "test_tool_with_task"):
            require_client_extension(ctx, TASKS)
        if work is None or not self.declared(ctx):
            return await call_next(ctx)
        arguments = params.arguments or {}
        if params.name == "slow_compute" and float(arguments.get("seconds", 1)) == 0:
            return await call_next(ctx)
        return self.create(lambda task: work(task, arguments))


tasks = Tasks()
server = MCPServer(
    "stenograph-conformance", version="1.0", log_level="ERROR", extensions=[tasks],
    cache_hints={
        name: CacheHint(ttl_ms=1000, scope="private")
        for name in ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
    },
)


# Tools with plain answers.


@server.tool(structured_output=False)
async def test_simple_text() -> str:
    """Answers one text."""
    return "This is a simple text response for testing."


@server.tool(structured_output=False)
async def test_image_content() -> list[ImageContent]:
    """Answers an image."""
    return [ImageContent(type="image", data=PIXEL, mime_type="image/png")]


@server.tool(structured_output=False)
async def test_audio_content() -> list[AudioContent]:
    """Answers a sound."""
    return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


def embedded(uri, mime_type, text):
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    )


@server.tool(structured_output=False)
async def test_embedded_resource() -> list[EmbeddedResource]:
    """Answers a resource."""
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@server.tool(structured_output=False)
async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answers a text, an image and a resource."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        ImageContent(type="image", data=PIXEL, mime_type="image/png"),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


@server.tool(structured_output=False)
async def test_error_handling() -> str:
    """Always fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool(structured_output=False)
async def test_headers(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Has an argument that is repeated in a header field."""
    return f"region {region}"


# Tools that speak before they answer.


@server.tool(structured_output=False)
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three times."""
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(words)
        await anyio.sleep(0.05)
    return "logged three times"


@server.tool(structured_output=False)
async def test_logging_tool(ctx: Context) -> str:
    """Logs once, where the client asked for it."""
    await ctx.info("a line")
    return "logged"


@server.tool(structured_output=False)
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await anyio.sleep(0.05)
    return "progress reported"


@server.tool(structured_output=False)
async def test_reconnection(ctx: Context) -> str:
    """Ends its stream early; the answer waits for the client to come back."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.2)
    return "Reconnection test completed"


# Tools that ask the client, in the handshake era by requests of the server.


@server.tool(structured_output=False)
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    words = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    # On the stream of the call: the standing one may not be open yet.
    answer = await ctx.session.create_message(
        messages=[words], max_tokens=100, related_request_id=ctx.request_id
    )
    return f"LLM response: {text_of(answer)}"


class Person(BaseModel):
    """What a person is asked for."""

    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class Defaults(BaseModel):
    """One field of each kind, each with what it is when nothing is said."""

    name: str = Field(default="John Doe", description="User name")
    age: int = Field(default=30, description="User age")
    score: float = Field(default=95.5, description="User score")
    status: str = Field(
        default="active", description="User status", json_schema_extra={"enum": ["active", "inactive", "pending"]}
    )
    verified: bool = Field(default=True, description="Verification status")


def options(*pairs):
    return [{"const": value, "title": title} for value, title in pairs]


class Choices(BaseModel):
    """The five ways to write a choice."""

    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": options(("value1", "First Option"), ("value2", "Second Option"))})
    legacyEnum: str = Field(json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]})
    untitledMulti: list[str] = Field(json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2"]}})
    titledMulti: list[str] = Field(
        json_schema_extra={"items": {"anyOf": options(("value1", "First Choice"), ("value2", "Second Choice"))}}
    )


async def asked(ctx, message, schema):
    answer = await ctx.elicit(message=message, schema=schema)
    filled = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"action={answer.action}, content={filled}"


@server.tool(structured_output=False)
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks a person."""
    return f"User response: {await asked(ctx, message, Person)}"


@server.tool(structured_output=False)
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with defaults."""
    return f"Elicitation completed: {await asked(ctx, 'Who are you?', Defaults)}"


@server.tool(structured_output=False)
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks for choices."""
    return f"Elicitation completed: {await asked(ctx, 'Choose.', Choices)}"


# Tools that ask the client, in the newer era: an answer that asks, and the call again with what it asked.

NAME = {"name": {"type": "string"}}


@server.tool(structured_output=False)
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Asks a person's name."""
    name = accepted((ctx.input_responses or {}).get("user_name")).get("name")
    if name is None:
        return InputRequiredResult(input_requests={"user_name": form("What is your name?", NAME)})
    return f"Hello, {name}!"


@server.tool(structured_output=False)
async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model."""
    answer = (ctx.input_responses or {}).get("capital_question")
    if answer is None:
        return InputRequiredResult(input_requests={"capital_question": sampling("What is the capital of France?", 100)})
    return text_of(answer)


@server.tool(structured_output=False)
async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Asks for the client's roots."""
    answer = (ctx.input_responses or {}).get("client_roots")
    if answer is None:
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
    return " ".join(str(root.uri) for root in answer.roots)


CONFIRM = {"ok": {"type": "boolean"}}


@server.tool(structured_output=False)
async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Asks, and wants its state back."""
    if ctx.request_state != "asked" or "confirm" not in (ctx.input_responses or {}):
        return InputRequiredResult(input_requests={"confirm": form("Please confirm", CONFIRM)}, request_state="asked")
    return "state-ok"


@server.tool(structured_output=False)
async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """The same: the SDK refuses a state that is not its own."""
    return await test_input_required_result_request_state(ctx)


@server.tool(structured_output=False)
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Asks three things at once."""
    wanted = {
        "user_name": form("What is your name?", NAME), "greeting": sampling("Generate a greeting", 50),
        "client_roots": ListRootsRequest(),
    }
    if not wanted.keys() <= (ctx.input_responses or {}).keys():
        return InputRequiredResult(input_requests=wanted, request_state="three")
    return "all three answered"


@server.tool(structured_output=False)
async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Asks twice."""
    answers = ctx.input_responses or {}
    if ctx.request_state == "two" and "step2" in answers:
        return "both steps answered"
    if ctx.request_state == "one" and "step1" in answers:
        color = {"color": {"type": "string"}}
        return InputRequiredResult(
            input_requests={"step2": form("Step 2: What is your favorite color?", color)}, request_state="two"
        )
    return InputRequiredResult(input_requests={"step1": form("Step 1: What is your name?", NAME)}, request_state="one")


@server.tool(structured_output=False)
async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    """Asks only what the client says it can."""
    can = ctx.client_capabilities
    wanted = {}
    if can and can.sampling:
        wanted["thought"] = sampling("Think.", 10)
    if can and can.elicitation:
        wanted["name"] = form("What is your name?", NAME)
    if wanted and not ctx.input_responses:
        return InputRequiredResult(input_requests=wanted)
    return "nothing to ask"


@server.tool(structured_output=False)
async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Reports progress, then asks."""
    await ctx.report_progress(1, 2)
    if not ctx.input_responses:
        return InputRequiredResult(input_requests={"name": form("What is your name?", NAME)})
    return "answered"


@server.tool(structured_output=False)
async def test_missing_capability(ctx: Context) -> str:
    """Needs a client with a model."""
    can = ctx.client_capabilities
    if not (can and can.sampling):
        needed = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(code=-32021, message="this tool needs sampling", data=needed)
    return "capable"


# Tools of the tasks extension. Who does not declare it gets the answer at once.


@server.tool(structured_output=False)
async def greet(name: str = "world") -> str:
    """Greets."""
    return f"Hello, {name}!"


@server.tool(structured_output=False)
async def slow_compute(seconds: float = 1, label: str = "") -> str:
    """Takes its time."""
    await anyio.sleep(min(seconds, 1))
    return f"computed {label}"


@server.tool(structured_output=False)
async def confirm_delete(filename: str = "") -> str:
    """Asks before it deletes."""
    return f"deleted {filename}"


@server.tool(structured_output=False)
async def multi_input() -> str:
    """Asks two things at once."""
    return "both answered"


@server.tool(structured_output=False)
async def failing_job() -> str:
    """Fails as a task."""
    raise ToolError("the job failed as asked")


async def test_tool_with_task(ctx: Context) -> Any:
    """Asks, then becomes a task."""
    name = accepted((ctx.input_responses or {}).get("user_name")).get("name")
    if name is None:
        return InputRequiredResult(input_requests={"user_name": form("What is your name?", NAME)}, request_state="task")

    async def work(task):
        return tasks.said(f"Hello, {name}!")

    return tasks.create(work)


class TaskTool(Tool):
    """A tool whose answer may be a task: it is not made into content."""

    async def run(self, arguments, context, convert_result=False, **rest):
        return await self.fn(context)


made = Tool.from_function(test_tool_with_task, context_kwarg="ctx", structured_output=False)
server._tool_manager._tools["test_tool_with_task"] = TaskTool(**{name: getattr(made, name) for name in Tool.model_fields})


# Lists that change.


async def extra() -> str:
    """Comes and goes."""
    return "here"


@server.tool(structured_output=False)
async def test_trigger_tool_change(ctx: Context) -> str:
    """Changes the list of tools."""
    if server._tool_manager.get_tool("extra"):
        server.remove_tool("extra")
    else:
        server.add_tool(extra, structured_output=False)
    await ctx.notify_tools_changed()
    return "tools changed"


@server.tool(structured_output=False)
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Says that the list of prompts changed."""
    await ctx.notify_prompts_changed()
    return "prompts changed"


schema_tool = Tool.from_function(greet, name="json_schema_2020_12_tool", description="Keeps its schema.",
                                 structured_output=False)
schema_tool.parameters = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object",
                          "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"}, "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
server._tool_manager._tools["json_schema_2020_12_tool"] = schema_tool


# Resources.


@server.resource("test://static-text", mime_type="text/plain")
async def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
async def static_binary() -> bytes:
    """An image."""
    return base64.b64decode(PIXEL)


@server.resource("test://watched-resource", mime_type="text/plain")
async def watched() -> str:
    """A text that may be subscribed to."""
    return "watched"


@server.resource("test://template/{id}/data", mime_type="application/json")
async def template(id: str) -> str:
    """A resource of each id."""
    return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'


# Prompts.


def user(content):
    return UserMessage(content=content)


def words(text):
    return user(TextContent(type="text", text=text))


@server.prompt()
async def test_simple_prompt() -> Any:
    """One message."""
    return [words("This is a simple prompt for testing.")]


@server.prompt()
async def test_prompt_with_arguments(arg1: str, arg2: str) -> Any:
    """One message of two arguments."""
    return [words(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]


@server.prompt()
async def test_prompt_with_embedded_resource(resourceUri: str) -> Any:
    """A message with a resource."""
    return [
        user(embedded(resourceUri, "text/plain", "Embedded resource content for testing.")),
        words("Please process the embedded resource above."),
    ]


@server.prompt()
async def test_prompt_with_image() -> Any:
    """A message with an image."""
    return [user(ImageContent(type="image", data=PIXEL, mime_type="image/png")), words("Please analyze the image above.")]


@server.prompt()
async def test_input_required_result_prompt(ctx: Context) -> list[Any] | InputRequiredResult:
    """Asks before it is given."""
    context = accepted((ctx.input_responses or {}).get("user_context")).get("context")
    if context is None:
        wanted = {"context": {"type": "string"}}
        return InputRequiredResult(
            input_requests={"user_context": form("What context should the prompt use?", wanted)}
        )
    return [words(f"In the context of {context}.")]


@server.completion()
async def complete(ref, argument, context):
    """Completes any argument."""
    return Completion(values=[f"{argument.value}is"], total=1, has_more=False)


# What the handshake era asks besides.


async def nothing(ctx, params):
    return EmptyResult()


for method, kind in (
    ("logging/setLevel", SetLevelRequestParams),
    ("resources/subscribe", SubscribeRequestParams),
    ("resources/unsubscribe", UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(method, kind, nothing)


async def main():
    if sys.argv[2:] == ["plain"]:
        app = server.streamable_http_app(json_response=True, stateless_http=True)
    else:
        app = server.streamable_http_app(event_store=Events(), retry_interval=100)
    settings = uvicorn.Config(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
    async with anyio.create_task_group() as group:
        tasks.group = group
        await uvicorn.Server(settings).serve()
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
