// Runs a list of steps with the TypeScript SDK 2.x client, either era; see steps.mjs.
import { Client, ClientCredentialsProvider, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Person, cause, connect, plan, runAll, say, seen } from './steps.mjs';

const modern = plan.era === 'modern';
const client = new Client(
  { name: 'stenograph-ts2', version: '1.0' },
  {
    capabilities: { sampling: {}, elicitation: {}, roots: {} },
    versionNegotiation: { mode: modern ? 'auto' : 'legacy' },
  });
client.setNotificationHandler('notifications/message', (n) => { seen.logs.push(n.params.data); });
client.setNotificationHandler('notifications/tools/list_changed', () => { seen.changed += 1; });
client.setRequestHandler('elicitation/create', (r) => { seen.elicited += 1; seen.asked.push(r.params.message); return { action: 'accept', content: { sure: true } }; });
client.setRequestHandler('sampling/createMessage', () => {
  seen.sampled += 1;
  return { role: 'assistant', content: { type: 'text', text: 'deeply' }, model: 'none', stopReason: 'endTurn' };
});

const authProvider = plan.client_id
  ? new ClientCredentialsProvider({ clientId: plan.client_id, clientSecret: plan.client_secret, expectedIssuer: plan.issuer })
  : plan.person ? new Person() : undefined;
const requestInit = plan.token ? { headers: { Authorization: `Bearer ${plan.token}` } } : undefined;
const open = () => new StreamableHTTPClientTransport(new URL(plan.url), { authProvider, requestInit });

async function listenAndGo(go) {
  if (!modern) return go();
  const subscription = await client.listen({ toolsListChanged: true });
  await go();
  for (let i = 0; i < 300 && !seen.changed; i++) await new Promise((done) => setTimeout(done, 10));
  await subscription.close();
}

try {
  const transport = await connect(client, open, authProvider);
  await runAll(client, client.getNegotiatedProtocolVersion(), listenAndGo);
  if (transport.sessionId) await transport.terminateSession();
  await client.close();
} catch (error) {
  say({ step: 'connection', error: cause(error) });
}
say({ step: 'end', result: seen });
process.exit(0);
