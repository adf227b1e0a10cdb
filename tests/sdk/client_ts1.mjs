// Runs a list of steps with the TypeScript SDK 1.x client; see steps.mjs.
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CreateMessageRequestSchema, ElicitRequestSchema, LoggingMessageNotificationSchema, ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { Person, cause, connect, plan, runAll, say, seen } from './steps.mjs';

const client = new Client(
  { name: 'stenograph-ts1', version: '1.0' }, { capabilities: { sampling: {}, elicitation: {}, roots: {} } });
client.v1 = true;
client.setNotificationHandler(LoggingMessageNotificationSchema, (n) => { seen.logs.push(n.params.data); });
client.setNotificationHandler(ToolListChangedNotificationSchema, () => { seen.changed += 1; });
client.setRequestHandler(ElicitRequestSchema, (r) => { seen.elicited += 1; seen.asked.push(r.params.message); return { action: 'accept', content: { sure: true } }; });
client.setRequestHandler(CreateMessageRequestSchema, () => {
  seen.sampled += 1;
  return { role: 'assistant', content: { type: 'text', text: 'deeply' }, model: 'none', stopReason: 'endTurn' };
});

const authProvider = plan.client_id
  ? new ClientCredentialsProvider({ clientId: plan.client_id, clientSecret: plan.client_secret, expectedIssuer: plan.issuer })
  : plan.person ? new Person() : undefined;
const requestInit = plan.token ? { headers: { Authorization: `Bearer ${plan.token}` } } : undefined;
const open = () => new StreamableHTTPClientTransport(new URL(plan.url), { authProvider, requestInit });
try {
  const transport = await connect(client, open, authProvider);
  await runAll(client, transport.protocolVersion);
  if (transport.sessionId) await transport.terminateSession();
  await client.close();
} catch (error) {
  say({ step: 'connection', error: cause(error) });
}
say({ step: 'end', result: seen });
process.exit(0);
