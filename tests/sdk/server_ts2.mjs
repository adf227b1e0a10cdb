// The TypeScript SDK server of the end-to-end tests: 2026-07-28, and the handshake era without
// sessions (GET and DELETE get 405 there). Its tools are a part of server_py2.py's.
//
// Usage: server_ts2.mjs PORT; the planted secrets come as JSON in the environment variable PLANTED, and
// what the tool `hide` answers with in HIDDEN, as for server_hiding.py.
import { createMcpHandler, inputRequired, acceptedContent, McpServer, ResourceTemplate, completable } from '@modelcontextprotocol/server';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createServer } from 'node:http';
import { z } from 'zod';

const planted = JSON.parse(process.env.PLANTED ?? '{}');
const hidden = JSON.parse(process.env.HIDDEN ?? '{}');
const text = (value) => ({ content: [{ type: 'text', text: value }] });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
let handler;

function build() {
  const server = new McpServer({ name: 'stenograph-ts2', version: '1.0' });
  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, async (args) => text(args.text));
  server.registerTool('add', {
    inputSchema: z.object({ a: z.number(), b: z.number() }), outputSchema: z.object({ result: z.number() }),
  }, async ({ a, b }) => ({ ...text(String(a + b)), structuredContent: { result: a + b } }));
  server.registerTool('slow', {
    inputSchema: z.object({ steps: z.number().default(3), step_ms: z.number().default(30) }),
  }, async ({ steps, step_ms }, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (let step = 1; step <= steps; step++) {
      await pause(step_ms);
      if (progressToken !== undefined) {
        await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: step, total: steps, message: `step ${step}` } });
      }
    }
    return text(`done after ${steps}`);
  });
  server.registerTool('leak', {
    inputSchema: z.object({}),
    outputSchema: z.object({ repository: z.string(), token: z.string(), nested: z.object({ keys: z.array(z.string()) }) }),
  }, async () => {
    const value = { repository: 'git.example.com/widgets', token: planted.github, nested: { keys: [planted.aws, 'harmless'] } };
    const inner = JSON.stringify(value);
    return {
      content: [{ type: 'text', text: inner }, { type: 'text', text: inner.replace('_', '\\u005f') }],
      structuredContent: value,
    };
  });
  // Structured content that is bound by more than its type.
  const shaped = (name, shape, value) => server.registerTool(`shaped_${name}`, { inputSchema: z.object({}), outputSchema: z.object({ value: shape }) },
    async () => ({ ...text('shaped'), structuredContent: { value } }));
  shaped('type', z.string(), planted.github);
  shaped('pattern', z.string().regex(/^ghp_[0-9A-Za-z]{36}$/), planted.github);
  shaped('format', z.url(), `https://git.example.com/${planted.github}`);
  shaped('enum', z.enum(['CODE-123456', 'CODE-none']), 'CODE-123456');
  shaped('loose', z.string().regex(/^LOOSE-[a-z]{8}$/), 'LOOSE-abcdefgh');
  server.registerTool('hide', { inputSchema: z.object({ what: z.string() }), outputSchema: z.object({ value: z.string() }) },
    async ({ what }) => ({ ...text(hidden[what].text), structuredContent: { value: hidden[what].text } }));
  server.registerTool('route', {
    inputSchema: z.object({ region: z.string().meta({ 'x-mcp-header': 'Region' }), text: z.string() }),
  }, async (args) => text(`${args.region}: ${args.text}`));
  server.registerTool('fail', { inputSchema: z.object({}) }, async () => { throw new Error('it failed as asked'); });
  server.registerTool('announce', { inputSchema: z.object({}) }, async () => { handler.notify.toolsChanged(); return text('announced'); });
  server.registerTool('confirm', { inputSchema: z.object({}) }, async (args, ctx) => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'sure');
    if (!answer) {
      return inputRequired({
        inputRequests: {
          sure: inputRequired.elicit({
            message: 'Really?', requestedSchema: { type: 'object', properties: { sure: { type: 'boolean' } }, required: ['sure'] },
          }),
        },
      });
    }
    return text(`sure: ${answer.sure ? 'True' : 'False'}`);
  });
  server.registerTool('wipe', { inputSchema: z.object({}) }, async () => text('wiped'));
  server.registerResource('today', 'notes://today', { mimeType: 'text/plain' }, async (uri) => ({ contents: [{ uri: uri.href, text: 'buy milk' }] }));
  server.registerResource('secret', 'notes://secret', { mimeType: 'text/plain' }, async (uri) => ({ contents: [{ uri: uri.href, text: `token = ${planted.github}` }] }));
  server.registerResource('logo', 'notes://logo', { mimeType: 'application/octet-stream' }, async (uri) => ({ contents: [{ uri: uri.href, blob: Buffer.from(Uint8Array.from({ length: 256 }, (_, n) => n)).toString('base64') }] }));
  server.registerResource('by-day', new ResourceTemplate('notes://by-day/{day}', { list: undefined }), {}, async (uri, { day }) => ({ contents: [{ uri: uri.href, text: `note of ${day}` }] }));
  server.registerResource('vault', 'vault://master', {}, async (uri) => ({ contents: [{ uri: uri.href, text: 'the master key' }] }));
  server.registerPrompt('review', {
    argsSchema: z.object({ code: completable(z.string(), (value) => [`${value}-one`, `${value}-two`]) }),
  }, ({ code }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Please review: ${code}` } }] }));
  server.registerPrompt('exfiltrate', {}, () => ({ messages: [] }));
  return server;
}

handler = createMcpHandler(build, { onerror: (error) => console.error(error) });
createServer(toNodeHandler(handler)).listen(Number(process.argv[2]), '127.0.0.1');
