"""Where the client finds its server, and where the embedded server keeps its state.

Each setting is an environment variable `SQUALL_<NAME>`, else a line of `~/.config/squall/config.toml`
(`$SQUALL_CONFIG` names another file): `server_url`, `token`, `environment`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Config:
    """`server_url` is empty for the embedded server of this machine."""

    server_url: str = ""
    token: str = ""
    environment: str = "main"


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The settings of this process. Raises InvalidError for a file that makes no sense."""
    environ = os.environ if environ is None else environ
    names = ("server_url", "token", "environment")
    values = {**_from_file(environ), **_from_environment(environ, names)}
    return Config(**{name: values[name] for name in names if values.get(name)})


def state_dir(environ: Mapping[str, str] | None = None) -> str:
    """The absolute path of the embedded server's state."""
    environ = os.environ if environ is None else environ
    named = environ.get("SQUALL_STATE")
    if named:
        return os.path.abspath(os.path.expanduser(named))
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return "/var/lib/squall"
    home = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "squall")


def config_file(environ: Mapping[str, str] | None = None) -> str:
    environ = os.environ if environ is None else environ
    named = environ.get("SQUALL_CONFIG")
    if named:
        return os.path.expanduser(named)
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "squall", "config.toml")


def _from_environment(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name in names if (value := environ.get(f"SQUALL_{name.upper()}"))}


def _from_file(environ: Mapping[str, str]) -> dict[str, str]:
    path = config_file(environ)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None
    # Only here, and by name: Python 3.10 has no tomllib, and `import squall` must not pay for it.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        values = toml.loads(text)
    except ValueError as error:
        raise InvalidError(f"{path} is not TOML: {error}.") from None
    wrong = [name for name, value in values.items() if not isinstance(value, str)]
    if wrong:
        raise InvalidError(f'{path}: {wrong[0]} must be a text in quotes, such as {wrong[0]} = "...".')
    return dict(values)
