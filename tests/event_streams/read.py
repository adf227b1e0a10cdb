"""Reads event streams as the Python SDKs do: with httpx-sse (SDK 1) or httpx2 (SDK 2), the argument.

One stream for each line on stdin: its bytes in hexadecimal digits, a space, the sizes of the pieces that
it comes in (what is left is the last). One JSON array for each on stdout: [name, last id, data, retry
time or null] for each event that the parser tells of.
"""

import asyncio
import json
import sys

if sys.argv[1] == "httpx-sse":
    from httpx import Request, Response
    from httpx_sse import EventSource

    def events(response):
        return EventSource(response).aiter_sse()

else:
    from httpx2 import EventSource, Request, Response

    def events(response):
        return aiter(EventSource(response))


async def pieces(data, sizes):
    at = 0
    for size in [*sizes, len(data)]:
        if at < len(data):
            yield data[at : at + size]
        at += size


async def main():
    asking = Request("GET", "http://gateway.example.test/")
    for line in sys.stdin:
        data, _, sizes = line.rstrip("\n").partition(" ")
        body = pieces(bytes.fromhex(data), [int(size) for size in sizes.split(",") if size])
        answer = Response(200, headers={"Content-Type": "text/event-stream"}, content=body, request=asking)
        told = []
        async for event in events(answer):
            retry = event.retry if event.retry is None else min(event.retry, 2**64)
            told.append([event.event, event.id, event.data, retry])
        print(json.dumps(told))


asyncio.run(main())
