"""`squall node`: this machine works for a server elsewhere."""

from __future__ import annotations

import os

import click

from squall.cli.daemon import check_gpus, state_option
from squall.client.connect import remote


@click.command()
@click.option(
    "--server", envvar="SQUALL_SERVER_URL", required=True, metavar="URL", help="The server to work for."
)
@click.option("--token", envvar="SQUALL_TOKEN", required=True, help="From `squall token new --role node`.")
@click.option(
    "--gpus",
    default="",
    metavar="TYPE:COUNT,...",
    help="GPUs, such as H100:8, or none; else those that are there.",
)
@state_option
def node(server: str, token: str, gpus: str, state: str) -> None:
    """Run containers for a server, in this terminal, until Ctrl-C."""
    from squall.daemon.main import serve
    from squall.daemon.options import Options

    remote(server)  # raises what is wrong with it
    check_gpus(gpus)
    # By the environment and not by an argument: every user of a machine sees the arguments of its processes.
    os.environ["SQUALL_TOKEN"] = token
    serve(Options(state=state, server=server, gpus=gpus))
