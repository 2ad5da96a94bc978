"""The server's one public port and its embedded Unix socket."""
