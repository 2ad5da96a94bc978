"""`squall deploy`: an app that stays on the server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import click

from squall.cli import interrupts, targets
from squall.cli.run import build_errors
from squall.sdk import output
from squall.sdk.flows import finish
from squall.sdk.modes import BLOCKING

if TYPE_CHECKING:
    from squall.sdk import App


@click.command()
@click.option("--name", help="Name of the deployment; by default the app's own.")
@click.option("-e", "--env", metavar="NAME", help="Environment to use.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print what is built, and why it waits.")
@click.option("--tag", default="", help="A label for this version.")
@click.option("-m", "is_module", is_flag=True, help="The target is a module: package.module.")
@click.option("--stream-logs", is_flag=True, help="Go on and print what the containers print, until Ctrl-C.")
@click.option("--timestamps", is_flag=True, help="Put the time of day before each line.")
@click.option(
    "--strategy", type=click.Choice(["rolling", "recreate"]), default="rolling", help="How versions change."
)
@click.argument("target")
def deploy(target: str, is_module: bool, **options: Any) -> None:
    """Keep an app on the server.

    TARGET is FILE.py, FILE.py::APP, or with -m PACKAGE.MODULE::APP.
    """
    reference = targets.parse(target, is_module=is_module)
    quiet, timestamps = options["quiet"], options["timestamps"]
    with (
        output.enable_output(quiet=quiet, timestamps=timestamps),
        interrupts.told_to_end(),
        interrupts.twice(),
    ):
        app = targets.app(targets.load(reference), reference)
        with build_errors(quiet=False):
            app.deploy(
                name=options["name"],
                environment_name=options["env"],
                tag=options["tag"],
                strategy=options["strategy"],
            )
        _tell(app, str(options["name"] or app.name))
        if options["stream_logs"]:
            _stream(app)


def _tell(app: App, name: str) -> None:
    click.echo(f"Deployed {name}, version {app.version}:")
    for function, function_id in sorted(app.function_ids.items()):
        click.echo(f"  {function}  {function_id}")
    click.echo(f'Call it by squall.Function.from_name("{name}", "...").')


def _stream(app: App) -> None:
    assert app.running is not None
    port = finish(BLOCKING.port(app.running.access))
    finish(output.follow(port, app.running.app_id))
    threading.Event().wait()
