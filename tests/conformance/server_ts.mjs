// A server on the TypeScript SDK with what the conformance suite asks a server for: 2026-07-28 by the
// SDK's handler, the handshake era with sessions and resumption by its transport.
//
// Usage: server_ts.mjs PORT. See server_py.py, which has more.
import { acceptedContent, createMcpHandler, inputRequired, McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
const SILENCE = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==';
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const text = (value) => ({ content: [{ type: 'text', text: value }] });
const image = { type: 'image', data: PIXEL, mimeType: 'image/png' };
const embedded = (uri, mimeType, words) => ({ type: 'resource', resource: { uri, mimeType, text: words } });
const user = (content) => ({ role: 'user', content });
const words = (value) => user({ type: 'text', text: value });
const form = (message, properties) => ({ message, requestedSchema: { type: 'object', properties, required: Object.keys(properties) } });
const options = (...pairs) => pairs.map(([value, title]) => ({ const: value, title }));

const DEFAULTS = {
  name: { type: 'string', default: 'John Doe' },
  age: { type: 'integer', default: 30 },
  score: { type: 'number', default: 95.5 },
  status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
  verified: { type: 'boolean', default: true },
};
const CHOICES = {
  untitledSingle: { type: 'string', enum: ['option1', 'option2'] },
  titledSingle: { type: 'string', oneOf: options(['value1', 'First Option'], ['value2', 'Second Option']) },
  legacyEnum: { type: 'string', enum: ['opt1', 'opt2'], enumNames: ['Option One', 'Option Two'] },
  untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2'] } },
  titledMulti: { type: 'array', items: { anyOf: options(['value1', 'First Choice'], ['value2', 'Second Choice']) } },
};

let handler;

function build() {
  const server = new McpServer(
    { name: 'stenograph-conformance-ts', version: '1.0' },
    {
      capabilities: {
        tools: { listChanged: true }, prompts: { listChanged: true },
        resources: { subscribe: true, listChanged: true }, logging: {}, completions: {},
      },
    },
  );
  const tool = (name, answer, shape = {}) =>
    server.registerTool(name, { description: `Answers as ${name}.`, inputSchema: z.object(shape) }, answer);
  const say = (ctx, method, params) => ctx.mcpReq.notify({ method, params });

  tool('test_simple_text', async () => text('This is a simple text response for testing.'));
  tool('test_image_content', async () => ({ content: [image] }));
  tool('test_audio_content', async () => ({ content: [{ type: 'audio', data: SILENCE, mimeType: 'audio/wav' }] }));
  tool('test_embedded_resource', async () => ({
    content: [embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')],
  }));
  tool('test_multiple_content_types', async () => ({
    content: [
      { type: 'text', text: 'Multiple content types test:' }, image,
      embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
    ],
  }));
  tool('test_error_handling', async () => { throw new Error('This tool intentionally returns an error for testing'); });
  tool('test_headers', async ({ region }) => text(`region ${region}`), { region: z.string().meta({ 'x-mcp-header': 'Region' }) });
  tool('test_tool_with_logging', async (_, ctx) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await say(ctx, 'notifications/message', { level: 'info', data });
      await pause(50);
    }
    return text('logged three times');
  });
  tool('test_logging_tool', async () => text('logged'));
  tool('test_tool_with_progress', async (_, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) await say(ctx, 'notifications/progress', { progressToken, progress, total: 100 });
      await pause(50);
    }
    return text('progress reported');
  });
  tool('test_reconnection', async (_, ctx) => {
    ctx.http?.closeSSE?.();
    await pause(200);
    return text('Reconnection test completed');
  });
  const asked = async (ctx, message, properties) => {
    const answer = await ctx.mcpReq.send({ method: 'elicitation/create', params: form(message, properties) });
    return `action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`;
  };
  tool('test_sampling', async ({ prompt }, ctx) => {
    const messages = [words(prompt)];
    const answer = await ctx.mcpReq.send({ method: 'sampling/createMessage', params: { messages, maxTokens: 100 } });
    return text(`LLM response: ${answer.content.text}`);
  }, { prompt: z.string() });
  const person = { username: { type: 'string', description: "User's response" }, email: { type: 'string' } };
  tool('test_elicitation', async ({ message }, ctx) => text(`User response: ${await asked(ctx, message, person)}`), { message: z.string() });
  tool('test_elicitation_sep1034_defaults', async (_, ctx) => text(`Elicitation completed: ${await asked(ctx, 'Who?', DEFAULTS)}`));
  tool('test_elicitation_sep1330_enums', async (_, ctx) => text(`Elicitation completed: ${await asked(ctx, 'Choose.', CHOICES)}`));

  const name = { name: { type: 'string' } };
  tool('test_input_required_result_elicitation', async (_, ctx) => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_name');
    if (answer?.name) return text(`Hello, ${answer.name}!`);
    return inputRequired({ inputRequests: { user_name: inputRequired.elicit(form('What is your name?', name)) } });
  });
  // It does not look at what comes back: a state that was tampered with is refused before it, or not.
  for (const kind of ['request_state', 'tampered_state']) {
    tool(`test_input_required_result_${kind}`, async (_, ctx) => {
      const answer = acceptedContent(ctx.mcpReq.inputResponses, 'confirm');
      if (answer) return text('state-ok');
      const confirm = inputRequired.elicit(form('Please confirm', { ok: { type: 'boolean' } }));
      return inputRequired({ inputRequests: { confirm }, requestState: 'asked "once"/\u00e9' });
    });
  }
  tool('test_trigger_tool_change', async () => { handler.notify.toolsChanged(); return text('tools changed'); });
  tool('test_trigger_prompt_change', async () => { handler.notify.promptsChanged(); return text('prompts changed'); });

  const read = (contents) => async (uri) => ({ contents: [{ uri: uri.href, ...contents }] });
  const described = (mimeType) => ({ mimeType, description: 'A resource.' });
  server.registerResource('text', 'test://static-text', described('text/plain'),
    read({ mimeType: 'text/plain', text: 'This is the content of the static text resource.' }));
  server.registerResource('binary', 'test://static-binary', described('image/png'), read({ mimeType: 'image/png', blob: PIXEL }));
  server.registerResource('watched', 'test://watched-resource', described('text/plain'), read({ mimeType: 'text/plain', text: 'watched' }));
  server.registerResource('template', new ResourceTemplate('test://template/{id}/data', { list: undefined }), described('application/json'),
    async (uri, { id }) => ({
      contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }],
    }));

  const prompt = (id, messages, shape) =>
    server.registerPrompt(id, { description: `Gives ${id}.`, ...(shape && { argsSchema: z.object(shape) }) }, messages);
  prompt('test_simple_prompt', () => ({ messages: [words('This is a simple prompt for testing.')] }));
  prompt('test_prompt_with_arguments', ({ arg1, arg2 }) => ({
    messages: [words(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)],
  }), { arg1: z.string(), arg2: z.string() });
  prompt('test_prompt_with_embedded_resource', ({ resourceUri }) => ({
    messages: [user(embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.')), words('Please process the embedded resource above.')],
  }), { resourceUri: z.string() });
  prompt('test_prompt_with_image', () => ({ messages: [user(image), words('Please analyze the image above.')] }));

  const handles = (method, answer) => server.server.setRequestHandler(method, answer);
  handles('resources/subscribe', async () => ({}));
  handles('resources/unsubscribe', async () => ({}));
  handles('logging/setLevel', async () => ({}));
  handles('completion/complete', async () => ({ completion: { values: ['paris'], total: 1, hasMore: false } }));
  return server;
}

/** What was sent on each stream, so that a client that comes back gets the rest. */
class Events {
  sent = [];
  async storeEvent(stream, message) {
    this.sent.push([stream, message]);
    return `${stream}::${this.sent.length}`;
  }
  async getStreamIdForEventId(id) {
    return this.sent[Number(id.split('::')[1]) - 1]?.[0];
  }
  async replayEventsAfter(id, { send }) {
    const [stream, number] = id.split('::');
    for (let at = Number(number); at < this.sent.length; at++) {
      const [of, message] = this.sent[at];
      if (of === stream && Object.keys(message ?? {}).length) await send(`${stream}::${at + 1}`, message);
    }
    return stream;
  }
}

handler = createMcpHandler(build, { onerror: (error) => console.error(error) });
const modern = toNodeHandler(handler);
const sessions = new Map();

createServer(async (request, response) => {
  if (request.headers['mcp-protocol-version'] >= '2026-07-28') return modern(request, response);
  const known = sessions.get(request.headers['mcp-session-id']);
  if (request.headers['mcp-session-id'] && !known) return response.writeHead(404).end();
  if (known) return known.handleRequest(request, response);
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID, eventStore: new Events(), retryInterval: 200,
    onsessioninitialized: (id) => sessions.set(id, transport), onsessionclosed: (id) => sessions.delete(id),
  });
  await build().connect(transport);
  return transport.handleRequest(request, response);
}).listen(Number(process.argv[2]), '127.0.0.1');
