// What the two TypeScript clients have in common: the steps of a plan and how their results are
// printed. The plan and the output are client_py2.py's. Nothing here judges.
import { readFileSync } from 'node:fs';

export const plan = JSON.parse(readFileSync(0, 'utf8'));
export const seen = { logs: [], changed: 0, elicited: 0, sampled: 0 };

export const say = (line) => console.log(JSON.stringify(line));
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

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
  say({ step: 'connect', result: { version } });
  for (const step of plan.steps) {
    try {
      say({ step: step.name, result: await runStep(client, step, announce) });
    } catch (error) {
      say({ step: step.name, error: cause(error) });
    }
  }
}
