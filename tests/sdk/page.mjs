// What a page in a browser does with the gateway; browser.py serves it and judges what it tells.
//
// The query names the role, the gateway's URL, the tokens and where to tell. A page with the role
// `listed` has an origin that the gateway lets in, `foreign` one that it does not know, `rebound` one
// whose name has come to mean the gateway's address behind the page's back.
const asked = new URLSearchParams(location.search);
const url = asked.get('url');
const token = asked.get('token');
const told = {};

const ACCEPT = 'application/json, text/event-stream';
const INITIALIZE = {
  jsonrpc: '2.0', id: 1, method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'page', version: '1' } },
};

// Runs one step and keeps what came of it: a result, or the error that the page saw.
async function step(name, run) {
  try {
    told[name] = await run();
  } catch (error) {
    told[name] = { error: `${error.name}: ${error.message}` };
  }
}

function post(target, message, fields = {}) {
  return fetch(target, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', Accept: ACCEPT, ...fields },
    body: JSON.stringify(message),
  });
}

// All that the page can read of an answer.
async function seen(answer) {
  return { status: answer.status, type: answer.type, fields: Object.fromEntries(answer.headers), body: await answer.text() };
}

async function listed() {
  let session = {};
  await step('initialize', async () => {
    const answer = await seen(await post(url, INITIALIZE));
    session = { 'Mcp-Session-Id': answer.fields['mcp-session-id'], 'MCP-Protocol-Version': '2025-11-25' };
    return answer;
  });
  await step('initialized', async () => seen(await post(url, { jsonrpc: '2.0', method: 'notifications/initialized' }, session)));
  await step('list', async () => seen(await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/list' }, session)));
  await step('leak', async () =>
    seen(await post(url, { jsonrpc: '2.0', id: 3, method: 'tools/call', params: { name: 'leak', arguments: {} } }, session)));
  await step('stream', async () => {
    const aborted = new AbortController();
    const answer = await fetch(url, {
      headers: { Authorization: `Bearer ${token}`, Accept: 'text/event-stream', ...session }, signal: aborted.signal,
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    // The server has to know of the stream before it can announce on it.
    await new Promise((done) => setTimeout(done, 200));
    await (await post(url, { jsonrpc: '2.0', id: 4, method: 'tools/call', params: { name: 'announce', arguments: {} } }, session)).text();
    let text = '';
    while (!text.includes('list_changed')) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
    }
    aborted.abort();
    return { status: answer.status, type: answer.headers.get('content-type'), text };
  });
  await step('no token', async () => seen(await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json', Accept: ACCEPT }, body: JSON.stringify(INITIALIZE) })));
  await step('delete', async () => seen(await fetch(url, { method: 'DELETE', headers: { Authorization: `Bearer ${token}`, ...session } })));
  // The SDK leaves the fields of parameters out in a browser; the gateway's permission names them all the same.
  await step('parameter', async () => {
    const meta = {};
    for (const [key, value] of [['protocolVersion', '2026-07-28'], ['clientInfo', { name: 'page', version: '1' }], ['clientCapabilities', {}]]) {
      meta[`io.modelcontextprotocol/${key}`] = value;
    }
    const params = { name: 'route', arguments: { region: 'north', text: 'hi' }, _meta: meta };
    return seen(await post(url, { jsonrpc: '2.0', id: 5, method: 'tools/call', params }, {
      'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'route', 'Mcp-Param-Region': 'north',
    }));
  });
  for (const [name, mode] of [['legacy', 'legacy'], ['modern', 'auto']]) {
    await step(`sdk ${name}`, async () => {
      const progress = [];
      const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
      const client = new Client({ name: 'page', version: '1' }, { capabilities: {}, versionNegotiation: { mode } });
      await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${token}` } } }));
      const tools = (await client.listTools()).tools.map((tool) => tool.name);
      const said = await client.callTool({ name: 'slow', arguments: { steps: 2, step_ms: 20, text: 'é' } }, { onprogress: (one) => progress.push(one.message) });
      const version = client.getNegotiatedProtocolVersion();
      await client.close();
      return { version, tools, progress, said: said.content[0].text };
    });
  }
}

async function foreign() {
  await step('with token', async () => seen(await post(url, INITIALIZE)));
  await step('readable GET', async () => seen(await fetch(url)));
  await step('opaque POST', async () => seen(await fetch(url, { method: 'POST', mode: 'no-cors', body: JSON.stringify(INITIALIZE) })));
  await step('stream', async () => seen(await fetch(url, { headers: { Authorization: `Bearer ${token}`, Accept: 'text/event-stream' } })));
  await step('EventSource', () => new Promise((done) => {
    const source = new EventSource(url);
    source.onopen = () => done({ opened: true });
    source.onerror = () => { source.close(); done({ error: 'EventSource' }); };
  }));
  // A frame without an origin of its own: `Origin: null`.
  await step('no origin', () => new Promise((done) => {
    addEventListener('message', (event) => done(event.data));
    const frame = document.createElement('iframe');
    frame.sandbox = 'allow-scripts';
    const request = { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', Accept: ACCEPT }, body: JSON.stringify(INITIALIZE) };
    frame.srcdoc = `<script>
      fetch(${JSON.stringify(url)}, ${JSON.stringify(request)}).then(
        async (answer) => parent.postMessage({ status: answer.status, body: await answer.text() }, '*'),
        (error) => parent.postMessage({ error: String(error) }, '*'));
    </script>`;
    document.body.append(frame);
  }));
}

async function rebound() {
  // From here on this page's own name leads to the gateway.
  await step('before', async () => ({ status: (await fetch('/rebind', { method: 'POST' })).status }));
  await step('initialize', async () => seen(await post('/py', INITIALIZE)));
  await step('stream', async () => seen(await fetch('/py', { headers: { Authorization: `Bearer ${token}`, Accept: 'text/event-stream' } })));
  await step('metadata', async () => seen(await fetch('/.well-known/oauth-protected-resource/py')));
}

await { listed, foreign, rebound }[asked.get('role')]();
await fetch(asked.get('tell'), { method: 'POST', mode: 'no-cors', body: JSON.stringify(told) });
