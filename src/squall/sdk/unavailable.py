"""What the public surface names and this version does not have: each use is an error that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from squall.exception import UnimplementedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Parameters, and what to do without them.
PARAMETERS: Mapping[str, str] = {
    "schedule": "schedules come with a later version: let cron run `squall run`",
    "network_file_systems": "they are deprecated, and volumes come with a later version",
    "volumes": "volumes come with a later version: pass data as arguments, or use Image.add_local_dir()",
    "proxy": "fixed egress addresses come with a later version",
    "routing_region": "there is one server, and no region to choose",
    "enable_memory_snapshot": "snapshots come with a later version",
    "restrict_modal_access": "restricted functions come with a later version: use block_network=True",
    "i6pn": "there is no private IPv6 network between containers",
    "experimental_options": "this version has no experimental options",
    "_experimental_restrict_output": "it comes with a later version",
    "container": "statistics are of the whole function",
}

#: Top-level names.
NAMES: Mapping[str, str] = {
    **dict.fromkeys(("Volume", "CloudBucketMount", "NetworkFileSystem"), PARAMETERS["volumes"]),
    **dict.fromkeys(("Dict", "Queue"), "shared state comes with a later version: pass values as arguments"),
    "Proxy": PARAMETERS["proxy"],
    **dict.fromkeys(("Cron", "Period"), PARAMETERS["schedule"]),
    **dict.fromkeys(("Cluster", "clustered"), "clusters come with a later version"),
    **dict.fromkeys(
        (
            "Server",
            "asgi_app",
            "fastapi_endpoint",
            "sessioned",
            "web_server",
            "wsgi_app",
            "forward",
            "Tunnel",
        ),
        "web functions come with a later version",
    ),
    **dict.fromkeys(("Sandbox", "SandboxSnapshot", "Probe"), "sandboxes come with a later version"),
    "Environment": "set SQUALL_ENVIRONMENT, or use environment_name=",
    "Workspace": "use `squall workspace`",
    "interact": "interactive functions come with a later version",
}


def missing_name(name: str) -> UnimplementedError:
    """The error of a top-level name."""
    return UnimplementedError(f"squall.{name} is not in this version of Squall: {NAMES[name]}")


class Unavailable(UnimplementedError, AttributeError):
    """Also an AttributeError: `hasattr` says no instead of failing."""


def refuse(where: str, given: Mapping[str, object]) -> None:
    """Raises UnimplementedError for a value that would have no effect."""
    for name, value in given.items():
        if name in PARAMETERS and value is not None and value is not False and value not in ((), [], {}):
            raise UnimplementedError(f"{where}: {name}= is not in this version of Squall: {PARAMETERS[name]}")


def missing(where: str, name: str, instead: str) -> Unavailable:
    return Unavailable(f"{where}{name} is not in this version of Squall: {instead}")


def method(where: str, name: str, instead: str) -> Callable[..., NoReturn]:
    """A method, of a class or an instance, that only says so."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise missing(where, f"{name}()", instead)

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
