"""`squall run`: an app for the length of a local entrypoint, or of one call of a function."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from squall import exception
from squall.cli import arguments, interrupts, targets, tracebacks
from squall.sdk import output, tracing
from squall.sdk.entrypoint import LocalEntrypoint

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command(context_settings=_SETTINGS)
@click.option("-n", "--name", help="Name of the app while it runs.")
@click.option(
    "-w", "--write-result", metavar="FILE", help="Write the result, text or bytes, here (-: stdout)."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only what the functions print.")
@click.option("-d", "--detach", is_flag=True, help="Let calls go on when this program ends.")
@click.option("-i", "--interactive", is_flag=True, help="Not in this version.")
@click.option("-e", "--env", metavar="NAME", help="Environment to use.")
@click.option("-m", "is_module", is_flag=True, help="The target is a module: package.module.")
@click.option("--timestamps", is_flag=True, help="Put the time of day before each line.")
@click.option("--trace", is_flag=True, help="Print where each input was when.")
@click.argument("target")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(target: str, args: tuple[str, ...], is_module: bool, **options: Any) -> None:
    """Run a local entrypoint, a function, or a method of a class of a file.

    TARGET is FILE.py, FILE.py::NAME, FILE.py::CLASS.METHOD, or with -m PACKAGE.MODULE::NAME. ARGS are the
    parameters of the entrypoint, function, or class and method: `squall run FILE.py --help` shows them.
    """
    reference = targets.parse(target, is_module=is_module)
    with output.enable_output(quiet=options["quiet"], timestamps=options["timestamps"]) as printer:
        chosen = targets.runnable(targets.load(reference), reference)
        command = arguments.command(
            chosen.name, chosen.get_raw_f(), lambda *args, **kwargs: _call(chosen, args, kwargs, options)
        )
        traced = _traced(printer) if options["trace"] else nullcontext()
        with interrupts.told_to_end(), interrupts.twice(), traced:
            code = command.main(list(args), prog_name=f"squall run {target}", standalone_mode=False)
    if code:
        raise click.exceptions.Exit(code)


def _call(
    chosen: targets.Runnable, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
) -> None:
    running = chosen.app.run(
        name=options["name"],
        detach=options["detach"],
        interactive=options["interactive"],
        environment_name=options["env"],
    )
    with ExitStack() as stack:
        with build_errors(quiet=options["quiet"]):
            stack.enter_context(running)
        stack.push(_says_that_it_ends)
        result = _result(chosen, args, kwargs)
    _show(chosen, result, options["write_result"])


def _says_that_it_ends(kind: type[BaseException] | None, _error: object, _traceback: object) -> None:
    if kind is not None and issubclass(kind, KeyboardInterrupt) and output.active is not None:
        output.active.tell("stops the app; press Ctrl-C again to leave at once")


@contextmanager
def _traced(printer: output.Printer) -> Iterator[None]:
    tracing.sink = lambda call, index, hops: printer.show(tracing.told(call, index, hops))
    try:
        yield
    finally:
        tracing.sink = None


def _result(chosen: targets.Runnable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tells what the user's code raises, and ends in click's Exit."""
    try:
        if isinstance(chosen, LocalEntrypoint):
            return _awaited(chosen(*args, **kwargs))
        if chosen.is_generator:
            return list(map(_print_value, chosen.remote_gen(*args, **kwargs)))
        return chosen.remote(*args, **kwargs)
    except (Exception, exception.InputCancellation) as error:
        raise tracebacks.failed(error) from None


def _awaited(result: Any) -> Any:
    if not hasattr(type(result), "__await__"):
        return result
    import asyncio

    async def wait() -> Any:
        return await result

    return asyncio.run(wait())


def _print_value(value: Any) -> Any:
    click.echo(repr(value))
    return value


def _show(chosen: targets.Runnable, result: Any, path: str | None) -> None:
    """The result goes to a file, or a function's to stdout."""
    if path is None:
        if not isinstance(chosen, LocalEntrypoint) and not chosen.is_generator and result is not None:
            click.echo(repr(result))
        return
    if not isinstance(result, (str, bytes)):
        raise exception.InvalidError(
            f"--write-result takes text or bytes, and {chosen.name} gave {type(result).__name__}"
        )
    data = result.encode() if isinstance(result, str) else result
    if path == "-":
        sys.stdout.buffer.write(data)
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise exception.InvalidError(f"cannot write the result to {path}: {error.strerror}") from None


@contextmanager
def build_errors(*, quiet: bool) -> Iterator[None]:
    """An image that cannot be built is told with the last lines of the step that failed.

    Unless it is `quiet`, its whole log was printed already.
    """
    try:
        yield
    except exception.ImageBuildError as error:
        first, _, tail = str(error).partition("\n")
        if tail and quiet:
            click.echo(tail, err=True)
        click.echo(f"squall: {first}", err=True)
        raise click.exceptions.Exit(1) from None
