"""`squall shell`: a container of a function's image, or a plain one, and a shell in it."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from squall.cli import targets, terminals
from squall.cli.run import build_errors
from squall.cli.server import server
from squall.sdk import Image, output

if TYPE_CHECKING:
    from squall.sdk.waiting import Waiting

_BASE = "debian_slim"


@click.command()
@click.option(
    "-c", "--cmd", default="/bin/bash", show_default=True, help="Command to run in place of a shell."
)
@click.option("--image", metavar="NAME", help=f"Base of the image: {_BASE}, or {_BASE}:3.12 for a Python.")
@click.option("--cpu", type=float, help="Cores.")
@click.option("--memory", type=int, help="MiB.")
@click.option("--gpu", metavar="TYPE", help="GPU, such as H100 or H100:2.")
@click.option("-e", "--env", metavar="NAME", help="Environment to use.")
@click.option("-m", "is_module", is_flag=True, help="The target is a module: package.module.")
@terminals.pty_option
@click.argument("ref", required=False)
def shell(ref: str | None, *, cmd: str, pty: bool | None, is_module: bool, **options: Any) -> None:
    """Open a shell in a container like a function's, in a plain one, or in one that runs.

    REF is FILE.py::FUNCTION (its image, files, variables, CPU, memory and GPUs; not its code), or the id of a
    container. Without it the image is debian_slim. A container made for the shell ends with it.
    """
    command = shlex.split(cmd)
    if not command:
        raise click.UsageError("--cmd is empty: name a program.")
    if ref is not None and ref.startswith("ct-"):
        _only_for_new(options)
        with server() as client:
            code = terminals.attach(client, ref, command, pty=pty)
    else:
        code = _in_new(_like(ref, options, is_module=is_module), command, options["env"], pty=pty)
    raise click.exceptions.Exit(code)


def _in_new(waiting: Waiting, command: list[str], environment: str | None, *, pty: bool | None) -> int:
    with ExitStack() as stack:
        with output.enable_output(), build_errors(quiet=False):
            stack.enter_context(waiting.app.run(environment_name=environment))
            client, container = stack.enter_context(waiting.container())
        client.watch.logs = client.watch.notice = client.watch.progress = None  # the screen is the shell's
        return terminals.attach(client, container, command, pty=pty)


def _like(ref: str | None, options: dict[str, Any], *, is_module: bool) -> Waiting:
    from squall.sdk.waiting import Waiting

    changes = {name: options[name] for name in ("cpu", "memory", "gpu") if options[name] is not None}
    if ref is None:
        return Waiting.like(None, {**changes, "image": _image(options["image"] or _BASE)})
    if options["image"] is not None:
        raise click.UsageError("A function has an image of its own: give REF or --image.")
    reference = targets.parse(ref, is_module=is_module)
    return Waiting.like(targets.function(targets.load(reference), reference), changes)


def _image(name: str) -> Image:
    base, colon, python = name.partition(":")
    if base != _BASE or (colon and not python):
        raise click.UsageError(f"There is no image {name}: give {_BASE}, or {_BASE}:3.12 for a Python.")
    return Image.debian_slim(python or None)


def _only_for_new(options: dict[str, Any]) -> None:
    given = [f"--{name}" for name in ("image", "cpu", "memory", "gpu") if options[name] is not None]
    if given:
        raise click.UsageError(f"{', '.join(given)}: a container that runs already has what it has.")
