// Reads what is sent to it with Node's own parser (llhttp, strict) and says what it read: one JSON line
// for each request or fault, with the port of the connection. The first line is its own port.
'use strict';
const http = require('http');
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const server = http.createServer({ keepAlive: true, keepAliveTimeout: 60000 }, (request, answer) => {
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
        say({
            port: request.socket.remotePort,
            method: request.method,
            url: request.url,
            fields: request.rawHeaders,
            body: Buffer.concat(pieces).toString('latin1'),
        });
        answer.end();
    });
});
server.on('clientError', (error, socket) => {
    say({ port: socket.remotePort, fault: error.code });
    socket.destroy();
});
server.listen(0, '127.0.0.1', () => say({ listening: server.address().port }));
process.stdin.resume();
// Not by force: what is still to be written would be lost.
process.stdin.on('end', () => {
    server.close();
    server.closeAllConnections();
});
