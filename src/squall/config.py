"""Where the client finds its server, and where the embedded server keeps its state.

Each setting is an environment variable `SQUALL_<NAME>`, else a line of `~/.config/squall/config.toml`
(`$SQUALL_CONFIG` names another file): `server_url`, `token`, `environment`. A table `[profiles.NAME]` holds
further ones, which count when `profile = "NAME"` or `$SQUALL_PROFILE` choose them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = ("server_url", "token", "environment")


@dataclass(frozen=True)
class Config:
    """`server_url` is empty for the embedded server of this machine, `profile` where none was chosen."""

    server_url: str = ""
    token: str = ""
    environment: str = "main"
    profile: str = ""


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The settings of this process. Raises InvalidError for a file that makes no sense."""
    environ = os.environ if environ is None else environ
    file = read_file(environ)
    chosen = environ.get("SQUALL_PROFILE") or file.settings.get("profile", "")
    if chosen and chosen not in file.profiles:
        names = ", ".join(sorted(file.profiles)) or "none"
        raise InvalidError(f"There is no profile {chosen!r} in {config_file(environ)}; it has: {names}.")
    values = {**file.settings, **file.profiles.get(chosen, {}), **_from_environment(environ, SETTINGS)}
    return Config(**{name: values[name] for name in SETTINGS if values.get(name)}, profile=chosen)


@dataclass(frozen=True)
class ConfigFile:
    """What the file says: settings by name, and those of each profile."""

    settings: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)


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


def read_file(environ: Mapping[str, str] | None = None) -> ConfigFile:
    """Raises InvalidError for a file that makes no sense. No file says nothing."""
    path = config_file(environ)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None
    # Only here, and by name: Python 3.10 has no tomllib, and `import squall` must not pay for it.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        values = toml.loads(text)
    except ValueError as error:
        raise InvalidError(f"{path} is not TOML: {error}.") from None
    profiles = values.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in profiles.values()):
        raise InvalidError(f"{path}: a profile is a table, such as [profiles.work].")
    for table in (values, *profiles.values()):
        known = SETTINGS if table is not values else (*SETTINGS, "profile")
        if unknown := [name for name in table if name not in known]:
            raise InvalidError(
                f"{path} has {unknown[0]!r}, which is no setting: it takes {', '.join(known)}."
            )
        wrong = [name for name, value in table.items() if not isinstance(value, str)]
        if wrong:
            raise InvalidError(f'{path}: {wrong[0]} must be a text in quotes, such as {wrong[0]} = "...".')
    return ConfigFile(values, profiles)
