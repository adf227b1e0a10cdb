// What the two TypeScript clients have in common: the steps of a plan and how their results are
// printed. The plan and the output are client_py2.py's. Nothing here judges.
import { readFileSync } from 'node:fs';

export const plan = JSON.parse(readFileSync(0, 'utf8'));
export const seen = { logs: [], changed: 0, elicited: 0, sampled: 0, asked: [] };

export const say = (line) => console.log(JSON.stringify(line));
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// What stands between an SDK's OAuth client and the person who uses it: registration and tokens are
// kept in memory, and where the SDK sends the person is gone to at once, as a browser would.
export class Person {
  redirectUrl = 'http://127.0.0.1/callback';
  clientMetadata = {
    client_name: plan.person, redirect_uris: [this.redirectUrl], grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'], token_endpoint_auth_method: 'none',
    // This provider gives no code for no scope; the Python SDK takes these from its metadata.
    scope: 'openid offline_access',
  };
  clientInformation() { return this.client; }
  saveClientInformation(client) { this.client = client; }
  tokens() { return this.kept; }
  saveTokens(tokens) { this.kept = tokens; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  codeVerifier() { return this.verifier; }
  saveDiscoveryState(state) { this.discovered = state; }
  discoveryState() { return this.discovered; }

  async redirectToAuthorization(url) {
    // Name and path make a cookie.
    const cookies = new Map();
    for (let at = new URL(url); ;) {
      const own = [...cookies.values()].filter(({ path }) => at.pathname.startsWith(path));
      const answer = await fetch(at, { redirect: 'manual', headers: { cookie: own.map(({ pair }) => pair).join('; ') } });
      for (const line of answer.headers.getSetCookie()) {
        const [pair, ...rest] = line.split(/; */);
        const words = Object.fromEntries(rest.map((word) => word.split('=')));
        const key = `${pair.split('=')[0]} ${words.path}`;
        if (new Date(words.expires) < Date.now()) cookies.delete(key);
        else cookies.set(key, { pair, path: words.path ?? '/' });
      }
      const next = answer.headers.get('location');
      if (!next) throw new Error(`no way on from ${at}: ${answer.status} ${await answer.text()}`);
      at = new URL(next, at);
      if (at.href.startsWith(this.redirectUrl)) {
        this.callback = at.searchParams;
        return;
      }
    }
  }
}

// Connects; with a person, by way of the identity provider when the first try says so.
export async function connect(client, transport, provider) {
  try {
    await client.connect(transport());
  } catch (error) {
    if (!(provider instanceof Person) || !provider.callback) throw error;
    await transport().finishAuth(client.v1 ? provider.callback.get('code') : provider.callback);
    await client.connect(transport());
  }
  return client.transport;
}

export function cause(error) {
  return { type: error.constructor.name, message: String(error.message), code: error.code, data: error.data, status: error.status };
}

export async function until(condition, timeout_ms = 3000) {
  const end = Date.now() + timeout_ms;
  while (!condition() && Date.now() < end) await pause(10);
}

export async function runStep(client, step, announce) {
  const call = async (tool, args, onprogress) => {
    const params = { name: tool, arguments: args ?? {} };
    return client.v1
      ? client.callTool(params, undefined, onprogress ? { onprogress } : undefined)
      : client.callTool(params, onprogress ? { onprogress } : undefined);
  };
  switch (step.do) {
    case 'tools': return client.listTools();
    case 'prompts': return client.listPrompts();
    case 'resources': return client.listResources();
    case 'templates': return client.listResourceTemplates();
    case 'read': return client.readResource({ uri: step.uri });
    case 'prompt': return client.getPrompt({ name: step.prompt, arguments: step.arguments ?? {} });
    case 'complete': return client.complete({ ref: { type: 'ref/prompt', name: step.prompt }, argument: step.argument });
    case 'ping': return client.ping();
    case 'level': return client.setLoggingLevel(step.level);
    case 'call': {
      const progress = [];
      const onprogress = step.progress ? (p) => progress.push([p.progress, p.total, p.message]) : undefined;
      return { ...(await call(step.tool, step.arguments, onprogress)), progress };
    }
    case 'parallel': return Promise.all(step.arguments.map((args) => call(step.tool, args)));
    case 'announce': {
      await pause(300);
      await announce(() => call('announce', {}));
      await until(() => seen.changed);
      return { changed: seen.changed };
    }
    case 'sleep': await pause(step.ms); return {};
    default: throw new Error(`unknown step ${step.do}`);
  }
}

export async function runAll(client, version, announce = (go) => go()) {
  say({ step: 'connect', result: { version, instructions: client.getInstructions() } });
  for (const step of plan.steps) {
    try {
      say({ step: step.name, result: await runStep(client, step, announce) });
    } catch (error) {
      say({ step: step.name, error: cause(error) });
    }
  }
}
