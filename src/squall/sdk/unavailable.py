"""What the public surface names and this version does not have: each use is an error that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from squall.exception import InvalidError, UnimplementedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Parameters, and what to do without them.
PARAMETERS: Mapping[str, str] = {
    "schedule": "schedules come with a later version: let cron run `squall run`",
    "network_file_systems": "they are deprecated, and volumes come with a later version",
    "volumes": "volumes come with a later version: pass data as arguments, or use Image.add_local_dir()",
    "proxy": "fixed egress addresses come with a later version",
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
    "Client": "client= takes what squall.client.connect.connect() gives",
    "SchedulerPlacement": "give region=, gpu= and the like to the function",
}

#: Names of Modal before its 1.0, which programs and answers on the web still have; and what to do today.
FORMER_NAMES: Mapping[str, str] = {
    "Stub": 'use squall.App("name")',
    **dict.fromkeys(("AioApp", "AioStub"), 'use squall.App("name"): calls have .aio forms'),
    "Mount": "use Image.add_local_dir(), .add_local_file() or .add_local_python_source()",
    "create_package_mounts": "use Image.add_local_python_source()",
    "gpu": 'give a text, such as gpu="A100" or gpu="H100:2"',
    "SharedVolume": PARAMETERS["volumes"],
    "build": "use Image.run_commands() for what is done once, @squall.enter() for what each container does",
    "web_endpoint": "web functions come with a later version, this one as fastapi_endpoint",
}
FORMER_OF_FUNCTIONS: Mapping[str, str] = {
    "call": ".remote(...)",
    "keep_warm": ".update_autoscaler(min_containers=...)",
    "lookup": "Function.from_name(app, name)",
    "submit": ".spawn(...)",
}
FORMER_OF_IMAGES: Mapping[str, str] = {
    "conda": "Image.debian_slim() with pip_install()",
    "conda_install": "pip_install()",
    "copy_local_dir": "add_local_dir(..., copy=True)",
    "copy_local_file": "add_local_file(..., copy=True)",
    "copy_mount": "add_local_dir() or add_local_python_source()",
    "from_dockerhub": "Image.debian_slim() with apt_install(), pip_install() and run_commands()",
}


def missing_name(name: str) -> UnimplementedError | InvalidError | None:
    """The error of a top-level name, if there is something to say of it.

    No AttributeError: `from squall import ...` would hide the advice.
    """
    if name in FORMER_NAMES:
        return InvalidError(f"squall.{name} is a name of the past: {FORMER_NAMES[name]}")
    if name in NAMES:
        return UnimplementedError(f"squall.{name} is not in this version of Squall: {NAMES[name]}")
    return None


class Unavailable(UnimplementedError, AttributeError):
    """Also an AttributeError: `hasattr` says no instead of failing."""


def refuse(where: str, given: Mapping[str, object]) -> None:
    """Raises UnimplementedError for a value that would have no effect."""
    for name, value in given.items():
        if name in PARAMETERS and value is not None and value is not False and value not in ((), [], {}):
            raise UnimplementedError(f"{where}: {name}= is not in this version of Squall: {PARAMETERS[name]}")


class Former(InvalidError, AttributeError):
    """A name that Modal once had. Also an AttributeError, as above."""


def former_methods(cls: type, instead: Mapping[str, str]) -> None:
    """Give a class methods of the past, that only say what took their place."""
    for name, today in instead.items():
        setattr(cls, name, staticmethod(_former(f"{cls.__name__}.{name}()", name, today)))


def _former(what: str, name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise Former(f"{what} is a name of the past: use {instead}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def missing(where: str, name: str, instead: str) -> Unavailable:
    return Unavailable(f"{where}{name} is not in this version of Squall: {instead}")


def method(where: str, name: str, instead: str) -> Callable[..., NoReturn]:
    """A method, of a class or an instance, that only says so."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise missing(where, f"{name}()", instead)

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
