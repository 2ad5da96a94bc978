"""The command `squall`. A command is a module and one line in COMMANDS; it loads when it is used."""

from __future__ import annotations

import os
import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from squall import __version__
from squall.cli.interrupts import INTERRUPTED, Terminated

#: Where each command is: module and name in it.
COMMANDS = {
    "app": "squall.cli.app:app",
    "config": "squall.cli.config:settings",
    "container": "squall.cli.container:container",
    "daemon": "squall.cli.daemon:daemon",
    "deploy": "squall.cli.deploy:deploy",
    "doctor": "squall.cli.doctor:doctor",
    "function": "squall.cli.function:function",
    "node": "squall.cli.node:node",
    "profile": "squall.cli.config:profile",
    "run": "squall.cli.run:run",
    "secret": "squall.cli.secret:secret",
    "shell": "squall.cli.shell:shell",
    "status": "squall.cli.status:status",
    "token": "squall.cli.token:token",
    "workspace": "squall.cli.workspace:workspace",
}


class Commands(click.Group):
    """Loads commands on use, and ends errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; a command that there is not is told with the nearest that there is."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]}?" if near else " See `squall --help`."
            raise click.UsageError(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's, but with our errors. Ends the process."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, SystemExit):
                raise
            code = explain(error)
        sys.exit(code if isinstance(code, int) else 0)


def explain(error: BaseException) -> int:
    """Say on stderr what happened; the exit status."""
    from squall.client.api import ServiceRefusal
    from squall.exception import Error

    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # from click 8.2 on
        assert isinstance(error, click.ClickException)
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        click.echo(f"squall: {_wrong_use(error)}", err=True)
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        told = error.__cause__ if isinstance(error, click.Abort) else error  # click has one word for both
        return told.status if isinstance(told, Terminated) else INTERRUPTED
    if isinstance(error, BrokenPipeError):  # `squall app logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if _full_traceback():
        traceback.print_exception(error)
    elif isinstance(error, (Error, ServiceRefusal)):
        click.echo(f"squall: {_one_line(error)}", err=True)
    else:
        name = type(error).__name__
        hint = "This is a bug in Squall; `squall --full-traceback ...` shows where."
        click.echo(f"squall: {name}: {_one_line(error)}. {hint}", err=True)
    return 1


def _wrong_use(error: click.ClickException) -> str:
    """In one line: what is wrong, and where to read what is right. Our own say that themselves."""
    text = " ".join(error.format_message().split())
    ours = type(error) is click.UsageError
    context = error.ctx if isinstance(error, click.UsageError) and not ours else None
    return f"{text} See `{context.command_path} --help`." if context is not None else text


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _full_traceback() -> bool:
    return os.environ.get("SQUALL_TRACEBACK") == "1"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="squall")
@click.option("--full-traceback", is_flag=True, help="Show where an error came from.")
@click.option("--profile", metavar="NAME", help="Settings to use, of the configuration file.")
def main(full_traceback: bool, profile: str | None) -> None:
    """Run Python functions in the cloud you own."""
    if full_traceback:
        os.environ["SQUALL_TRACEBACK"] = "1"
    if profile:
        os.environ["SQUALL_PROFILE"] = profile
