"""`squall.experimental`: what may change. So far each name says what to do without it."""

from __future__ import annotations

from typing import NoReturn

from squall.exception import UnimplementedError

_LATER = {
    "stop_fetching_inputs": "declare the function with single_use_containers, or let scaledown_window end it",
    "get_local_input_concurrency": "it is what @squall.concurrent was given",
    "set_local_input_concurrency": "declare it with @squall.concurrent",
    "list_deployed_apps": "use `squall app list --json`",
    "get_app_objects": "use App.lookup(name).function_ids",
    "get_app_lifecycle": "use App.lookup(name).info()",
    "image_delete": "images that no app uses any more cost disk space only",
    "list_cluster_reservations": "clusters come with a later version",
    "flash": "web functions come with a later version",
    "flash_forward": "web functions come with a later version",
    "http_server": "web functions come with a later version",
    "stream": "durable streams come with a later version",
    "OutboundPolicy": "network policies come with a later version: use block_network=True",
    "ipython": "there are no magics: apps, `with app.run()` and .remote() work in a notebook as they are",
}


def __getattr__(name: str) -> NoReturn:
    if name in _LATER:
        raise UnimplementedError(
            f"squall.experimental.{name} is not in this version of Squall: {_LATER[name]}"
        )
    raise AttributeError(f"module 'squall.experimental' has no attribute {name!r}")
