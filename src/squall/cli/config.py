"""`squall config` and `squall profile`: the client's settings, and files of them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict

import click

from squall import config
from squall.cli import output
from squall.exception import InvalidError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TABLE = re.compile(r"^\s*\[", re.MULTILINE)


@click.group("config")
def settings() -> None:
    """Settings of the client: show, set-environment."""


@settings.command()
@click.option("--redact/--no-redact", default=True, help="Hide the token.", show_default=True)
@output.json_option
def show(*, redact: bool, as_json: bool) -> None:
    """Show the settings that hold here, and the file they may come from."""
    values = asdict(config.load())
    if redact and values["token"]:
        values["token"] = "***"  # noqa: S105 - in its place
    if as_json:
        output.echo_json(values)
        return
    url = values["server_url"] or "the embedded server of this machine"
    pairs = [("Server", url), ("Token", values["token"]), ("Environment", values["environment"])]
    output.echo_labels([*pairs, ("Profile", values["profile"]), ("File", config.config_file())])


@settings.command("set-environment")
@click.argument("name")
def set_environment(name: str) -> None:
    """Use the environment NAME from now on, in the profile that is active."""
    checked(name, "an environment")
    active = config.load().profile
    _change("environment", name, f"profiles.{active}" if active else "")
    click.echo(f"The environment is {name} now.")


@click.group()
def profile() -> None:
    """Profiles, named groups of settings: list, current, activate."""


@profile.command("list")
@output.json_option
def list_(as_json: bool) -> None:
    """List the profiles of the configuration file."""
    active, file = config.load().profile, config.read_file()
    if as_json:
        output.echo_json([{"name": name, "active": name == active} for name in sorted(file.profiles)])
        return
    rows = [
        (name, "yes" if name == active else "", values.get("server_url", ""), values.get("environment", ""))
        for name, values in sorted(file.profiles.items())
    ]
    empty = f"No profiles: add a table such as [profiles.work] to {config.config_file()}."
    output.echo_table(("Profile", "Active", "Server", "Environment"), rows, empty)


@profile.command()
def current() -> None:
    """Print the active profile."""
    click.echo(config.load().profile or "none")


@profile.command()
@click.argument("name")
def activate(name: str) -> None:
    """Use the profile NAME from now on; "none" for the settings at the top alone."""
    if name == "none":
        _change("profile", "", "")
        click.echo("No profile is active now.")
        return
    if checked(name, "a profile") not in config.read_file().profiles:
        raise InvalidError(
            f"There is no profile {name!r}: add a table [profiles.{name}] to {config.config_file()}."
        )
    _change("profile", name, "")
    click.echo(f"The profile is {name} now.")


def checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidError(f"{name!r} cannot name {what}: use letters, digits, - and _, 64 at most.")
    return name


def with_setting(text: str, section: str, name: str, value: str) -> str:
    """TOML with `name = "value"` in a table ("" for the top), other lines as they were. Pure."""
    line = f"{name} = {json.dumps(value)}"
    begin = 0
    if section:
        heading = re.search(rf"^\s*\[\s*{re.escape(section)}\s*\].*$\n?", text, re.MULTILINE)
        if heading is None:
            return f"{text.rstrip()}\n\n[{section}]\n{line}\n".lstrip()
        begin = heading.end()
    following = _TABLE.search(text, begin)
    end = following.start() if following else len(text)
    table, found = re.subn(
        rf"^\s*{name}\s*=.*$", lambda _: line, text[begin:end], count=1, flags=re.MULTILINE
    )
    return text[:begin] + (table if found else f"{line}\n{table}") + text[end:]


def _change(name: str, value: str, section: str) -> None:
    """In the file, whole or not at all: it may hold a token, so nobody else may read it."""
    path = config.config_file()
    try:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            text = ""
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(with_setting(text, section, name, value))
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise InvalidError(f"Cannot write {path}: {error.strerror}.") from None
