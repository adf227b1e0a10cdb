// Reads event streams as the TypeScript SDK does, with the npm package eventsource-parser, whose
// directory is the argument, behind a TextDecoderStream.
//
// One stream for each line on stdin: its bytes in hexadecimal digits, a space, the sizes of the pieces
// that it comes in (what is left is the last). One JSON array for each on stdout, in the order in which
// the parser tells: ["event", name or null, id or null, data] and ["retry", milliseconds].
'use strict';
const readline = require('readline');
const { createRequire } = require('module');
const packages = createRequire(process.argv[2] + '/');
const { createParser } = packages('eventsource-parser');

function pieces(bytes, sizes) {
    const all = [];
    let at = 0;
    for (const size of [...sizes, bytes.length]) {
        if (at < bytes.length) all.push(bytes.subarray(at, at + size));
        at += size;
    }
    return all;
}

async function read(bytes, sizes) {
    const told = [];
    const source = new ReadableStream({
        start(controller) {
            for (const piece of pieces(bytes, sizes)) controller.enqueue(piece);
            controller.close();
        },
    });
    const parser = createParser({
        onEvent: (event) => told.push(['event', event.event ?? null, event.id ?? null, event.data]),
        onRetry: (ms) => told.push(['retry', Math.min(ms, 2 ** 64)]),
    });
    for await (const text of source.pipeThrough(new TextDecoderStream())) parser.feed(text);
    return told;
}

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [hex, sizes] = line.split(' ');
        const numbers = sizes ? sizes.split(',').map(Number) : [];
        process.stdout.write(JSON.stringify(await read(Buffer.from(hex, 'hex'), numbers)) + '\n');
    }
})();
