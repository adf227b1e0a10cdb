"""Reads messages, one a line, as the Python SDK (1.x or 2.x, whichever runs this) reads an answer of a call.

Prints what it could not read, and last how many it read.
"""

import json
import sys

try:
    from mcp_types import CallToolResult, jsonrpc_message_adapter

    read = jsonrpc_message_adapter.validate_json
except ImportError:
    from mcp.types import CallToolResult, JSONRPCMessage

    def read(line):
        return JSONRPCMessage.model_validate_json(line).root


count = 0
for number, line in enumerate(sys.stdin, 1):
    try:
        result = CallToolResult.model_validate(read(line).result)
        assert result.content[0].text and not json.loads(line)["result"]["isError"]
        count += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        print(f"line {number}: {type(error).__name__}: {str(error)[:300]}")
print(f"{count} read")
