// As read.py, with JSON.parse of Node. Bytes become text as the SDKs do it: UTF-8, faults refused.
'use strict';
const readline = require('readline');
const places = process.argv.slice(2).map((place) => place.split('/'));
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const own = Object.prototype.hasOwnProperty;
function at(value, place) {
    for (const step of place) {
        if (typeof value !== 'object' || value === null || !own.call(value, step)) return undefined;
        value = value[step];
    }
    return value;
}
function said(value, place) {
    if (typeof value === 'string') return 's' + Buffer.from(value, 'utf8').toString('hex');
    if (typeof value === 'boolean' || value === null) return 'l';
    if (typeof value === 'number') {
        return place.length === 1 && place[0] === 'id' && Number.isInteger(value) ? 'n' + String(value) : 'x';
    }
    return Array.isArray(value) ? '[' : '{';
}
readline.createInterface({ input: process.stdin }).on('line', (line) => {
    let value;
    try {
        value = JSON.parse(utf8.decode(Buffer.from(line, 'hex')));
    } catch (error) {
        process.stdout.write('! ' + String(error).split('\n')[0] + '\n');
        return;
    }
    const found = [];
    for (const place of places) {
        const seen = at(value, place);
        if (seen !== undefined) found.push(place.join('/') + '=' + said(seen, place));
    }
    process.stdout.write(found.join(' ') + '\n');
});
