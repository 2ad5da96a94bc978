"""A session with a server: connect, call, stream, reconnect; and the start of the embedded server."""
