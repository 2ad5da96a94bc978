"""`squall function`: info, calls, logs; of deployed apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from squall.cli import output
from squall.cli.app import write
from squall.cli.server import environment_option, server
from squall.client.api import ServiceRefusal
from squall.exception import InvalidError, NotFoundError
from squall.wire.control import CallsQuery, FunctionGet, FunctionInfo, FunctionLookup, LogsRead, StatsQuery

if TYPE_CHECKING:
    from squall.client.api import Client

reference = click.argument("function", metavar="APP::FUNCTION")


class Found(NamedTuple):
    """A function of the server's, and of a class the method that was named."""

    function: FunctionInfo
    method: str

    @property
    def kind(self) -> str:
        if self.function.class_ is None:
            return "generator" if self.function.is_generator else "function"
        if self.method:
            generator = " (generator)" if self.function.class_.methods[self.method].is_generator else ""
            return f"method {self.method}{generator} of class {self.function.name}, whose numbers these are"
        return f"class with {', '.join(self.function.class_.methods) or 'no methods'}"


@click.group()
def function() -> None:
    """Functions of deployed apps: info, calls, logs."""


@function.command()
@reference
@environment_option
@output.json_option
def info(function: str, env: str, *, as_json: bool) -> None:
    """Show what of a function waits and runs, and how this version's inputs have ended."""
    with server(env) as client:
        named = find(client, function)
        found = named.function
        stats = client.request("function.stats", StatsQuery(found.id, all_variants=True))
    if as_json:
        output.echo_json({"function": output.plain(found), "stats": output.plain(stats)})
        return
    ended = ", ".join(f"{count} {how}" for how, count in sorted(stats.ended.items()))
    count = sum(stats.ended.values())
    times = f"mean {stats.seconds / count:.3f} s, longest {stats.longest:.3f} s" if count else ""
    output.echo_labels(
        [
            ("Function", found.id),
            ("App", f"{found.app}, version {found.version}"),
            ("Kind", named.kind),
            ("Containers", stats.runners),
            ("Waiting inputs", stats.backlog),
            ("Ended inputs", ended),
            ("Time", times),
        ]
    )


@function.command()
@reference
@click.option("-n", "--tail", "--limit", "limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@environment_option
@output.json_option
def calls(function: str, limit: int, env: str, *, as_json: bool) -> None:
    """List calls, the newest first: those that run, and spawned ones while their results are kept."""
    with server(env) as client:
        named = find(client, function).function
        found = client.request("call.list", CallsQuery(named.app, named.name, limit)).calls
    if as_json:
        output.echo_json(found)
        return
    rows = [(c.id, c.kind, c.state, f"{c.done}/{c.inputs}", output.when(c.created)) for c in found]
    output.echo_table(("Call", "Kind", "State", "Inputs", "Created"), rows, "No calls.")


@function.command()
@reference
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@environment_option
def logs(function: str, env: str, *, follow: bool) -> None:
    """Print what a function's containers wrote."""
    after = 0
    with server(env) as client:
        named = find(client, function).function
        while True:
            wait = 10.0 if follow and after else 0.0
            query = LogsRead(named.app, function=named.name, after=after, wait=wait)
            page = client.request("logs.read", query)
            for item in page.items:
                write(item.fd, item.data)
            done = page.upto == after
            after = page.upto
            if not page.live or (done and not follow):
                return


def find(client: Client, reference: str) -> Found:
    """A function, class or method of a deployed app, or one of any app by its id.

    Raises InvalidError, NotFoundError.
    """
    app, separator, name = reference.partition("::")
    if separator:
        return _of_app(client, app, name)
    if reference.startswith("fu-"):
        return Found(client.request("function.get", FunctionGet(reference)), "")
    raise InvalidError(f"{reference!r} names no function: write APP::FUNCTION, or a function's id.")


def _of_app(client: Client, app: str, name: str) -> Found:
    owner, dot, method = name.rpartition(".")
    try:
        return Found(client.request("function.lookup", FunctionLookup(app, name)), "")
    except ServiceRefusal as refusal:
        if refusal.code != "not_found" or not dot:
            raise
    found: FunctionInfo = client.request("function.lookup", FunctionLookup(app, owner))
    methods = found.class_.methods if found.class_ is not None else {}
    if method not in methods:
        raise NotFoundError(
            f"{owner} of app {app} has no method {method}; it has {', '.join(methods) or 'none'}."
        )
    return Found(found, method)
