// Reads messages, one a line, as the TypeScript SDKs (1.x and 2.x) read an answer of a call. Prints what
// either could not read, and last how many both read.
import { readFileSync } from 'node:fs';
import * as v1 from '@modelcontextprotocol/sdk/types.js';
import * as v2 from '@modelcontextprotocol/core';

let count = 0;
readFileSync(0, 'utf8').trimEnd().split('\n').forEach((line, index) => {
  try {
    for (const sdk of [v1, v2]) {
      const message = sdk.JSONRPCMessageSchema.parse(JSON.parse(line));
      const result = sdk.CallToolResultSchema.parse(message.result);
      if (!result.content[0].text || result.isError) throw new Error('no text');
    }
    count += 1;
  } catch (error) {
    console.log(`line ${index + 1}: ${String(error).slice(0, 300)}`);
  }
});
console.log(`${count} read`);
