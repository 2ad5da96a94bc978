"""`squall secret`: create, list, delete, rotate-key."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from squall.cli import output
from squall.cli.server import environment_option, server
from squall.sdk import checks, dotenv
from squall.wire.control import Empty
from squall.wire.secrets import SecretDelete, SecretPut

if TYPE_CHECKING:
    from typing import TextIO


@click.group()
def secret() -> None:
    """Secrets: create, list, delete, rotate-key."""


@secret.command()
@click.argument("name")
@click.argument("keyvalues", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--from-dotenv", type=click.File(encoding="utf-8"), help="Take the variables of this file.")
@click.option("--from-json", type=click.File(encoding="utf-8"), help="Take the fields of this JSON object.")
@click.option("--force", is_flag=True, help="Replace one of that name.")
@environment_option
def create(
    name: str,
    keyvalues: tuple[str, ...],
    from_dotenv: TextIO | None,
    from_json: TextIO | None,
    force: bool,
    env: str,
) -> None:
    """Make a secret of these variables. KEY=- reads a value from standard input: no shell remembers it."""
    values: dict[str, str] = {}
    if from_dotenv is not None:
        values |= dotenv.parse(from_dotenv.read(), os.environ)
    if from_json is not None:
        values |= _of_json(from_json.read())
    values |= dict(map(_pair, keyvalues))
    if not values:
        raise click.UsageError("a secret needs variables: give KEY=VALUE, --from-dotenv or --from-json")
    checked = checks.hidden_variables("KEY=VALUE", values)
    mode = "replace" if force else "create"
    with server(env, start=True) as client:
        made = client.request("secret.put", SecretPut(checked, checks.secret_name(name), mode))
    click.echo(f"Secret {made.name}, version {made.version}: {', '.join(made.keys)}.")
    click.echo(f'Name it by secrets=[squall.Secret.from_name("{made.name}")].')


@secret.command("list")
@environment_option
@output.json_option
def list_(env: str, as_json: bool) -> None:
    """List the secrets, without their values."""
    with server(env) as client:
        secrets = client.request("secret.list", Empty()).secrets
    if as_json:
        output.echo_json(secrets)
        return
    columns = ("Name", "Version", "Variables", "Created", "Changed")
    rows = [
        (s.name, s.version, ", ".join(s.keys), output.when(s.created), output.when(s.updated))
        for s in secrets
    ]
    output.echo_table(columns, rows, "No secrets.")


@secret.command()
@click.argument("name")
@click.option("--allow-missing", is_flag=True, help="No error when there is none of that name.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@environment_option
def delete(name: str, allow_missing: bool, yes: bool, env: str) -> None:
    """Delete a secret. Containers that run keep what they have; functions that name it start no others."""
    from squall.client.api import ServiceRefusal

    if not yes:
        click.confirm(f"Delete the secret {name}?", abort=True)
    with server(env) as client:
        try:
            client.request("secret.delete", SecretDelete(name))
        except ServiceRefusal as refusal:
            if refusal.code != "not_found" or not allow_missing:
                raise
            click.echo(f"There is no secret {name}.")
            return
    click.echo(f"Deleted {name}.")


@secret.command("rotate-key")
def rotate_key() -> None:
    """Seal all secrets of this server with a new key, and forget the old one. On the server's own machine."""
    with server() as client:
        count = client.request("secret.rotate", Empty()).number
    click.echo(f"A new key seals {count} secret{'' if count == 1 else 's'}; the old one is gone.")


def _pair(text: str) -> tuple[str, str]:
    """Errors show the name alone."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"an argument is not KEY=VALUE: it has {len(text)} characters and no '='")
    return key, sys.stdin.read().removesuffix("\n") if value == "-" else value


def _of_json(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        raise click.UsageError("--from-json is no JSON") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise click.UsageError("--from-json must be an object whose values are texts")
    return found
