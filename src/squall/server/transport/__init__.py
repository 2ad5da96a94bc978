"""The server's one public port and its embedded Unix socket: WebSocket at `/rpc`, plain HTTP beside it.

`serve.Transport` is the way in. What arrives passes `guard` (who may knock), `http` (the upgrade), `fast`
or `plain` (WebSocket by picows, or by uvicorn) and `link` (messages), to the control plane's `Acceptor`.
"""
