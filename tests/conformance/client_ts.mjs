// The client that the suite's client mode drives: TypeScript SDK, either era. argv[2] is the URL.
// It lists the tools and calls each, or those that the scenario's context names.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === '2026-07-28';
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const client = new Client(
  { name: 'stenograph-conformance', version: '1.0' },
  {
    capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
    versionNegotiation: { mode: modern ? 'auto' : 'legacy' },
  },
);
client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: {} }));
client.setRequestHandler('sampling/createMessage', () => ({
  role: 'assistant', content: { type: 'text', text: 'deeply' }, model: 'none', stopReason: 'endTurn',
}));
client.setRequestHandler('roots/list', () => ({ roots: [] }));

const headers = { Authorization: `Bearer ${process.env.CONFORMANCE_TOKEN}` };
const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), { requestInit: { headers } });
await client.connect(transport);
const { tools } = await client.listTools();
const calls = context.toolCalls ?? tools.map(({ name }) => ({ name, arguments: name === 'add_numbers' ? { a: 5, b: 3 } : {} }));
for (const call of calls) {
  try {
    await client.callTool(call);
  } catch (error) {
    console.error(call.name, error.message);
  }
}
await client.close();
process.exit(0);
