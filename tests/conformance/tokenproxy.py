"""A relay that adds one header field to every request and leaves every other byte as it is.

The conformance suite cannot be told to send a token. This stands between it and what it tests, both
for the server itself and for the gateway, so that whatever the relay does cancels out.
"""

import asyncio
import threading

HEAD_BYTES_MAX = 64 * 1024


class TokenProxy:
    """Listens on 127.0.0.1:`port`; relays to `target_port`; adds `Authorization: Bearer` to each head."""

    def __init__(self):
        self.target_port = None
        self.token = None
        self.tasks = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait(10)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)

        def accept(reader, writer):
            task = self.loop.create_task(self._accept(reader, writer))
            self.tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self.tasks.discard)

        async def start():
            server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        self.loop.run_until_complete(start())

    async def _accept(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.ensure_future(self._requests(reader, far_writer))
        try:
            while data := await far_reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        up.cancel()
        for end in (writer, far_writer):
            end.close()

    async def _requests(self, reader, far):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, rest = head.split(b"\r\n", 1)
                far.write(line + b"\r\nAuthorization: Bearer " + self.token.encode() + b"\r\n" + rest)
                await self._body(reader, far, head.lower())
        except asyncio.IncompleteReadError as left:
            if left.partial:
                far.write(left.partial)
        except (OSError, asyncio.LimitOverrunError):
            far.transport.abort()
            return
        # The client asks no more. Closing is what a browser or an agent that gives up does: the far
        # side sees it as it would without the relay.
        if far.can_write_eof():
            far.write_eof()

    @staticmethod
    async def _body(reader, far, head):
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                far.write(await reader.readexactly(int(value)))
            elif name == b"transfer-encoding":
                while True:
                    line = await reader.readuntil(b"\r\n")
                    size = int(line.split(b";")[0], 16)
                    far.write(line + await reader.readexactly(size + 2))
                    if size == 0:
                        break
        await far.drain()
