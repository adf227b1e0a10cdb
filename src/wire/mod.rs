//! Bytes on the wire: HTTP/1.1 heads and bodies, event streams, JSON and the MCP envelope.
