"""What is told of apps and functions: tags, facts, statistics, logs; apps that include others."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import ExecutionError, InvalidError, UnimplementedError
from squall.sdk import facts
from squall.wire.control import LogsPage, Stats
from squall.wire.values import LogItem

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sdk.fake_client import FakeServer

    Load = Callable[..., Any]

CODE = "@app.function()\ndef f(x=1):\n    return x\n"


def both(dual: Any, *args: Any, **kwargs: Any) -> Any:
    """The result, which is the same blocking and on asyncio."""
    result = dual(*args, **kwargs)
    assert asyncio.run(dual.aio(*args, **kwargs)) == result
    return result


# ------------------------------------------------------------------------------------------------------ tags


@pytest.mark.covers("App(tags)", "App.set_tags", "App.get_tags")
def test_tags_go_with_the_app(load: Load, server: FakeServer) -> None:
    module = load("app = squall.App('tagged', tags={'team': 'a'})\n" + CODE)
    with module.app.run():
        assert [app.tags for app in server.apps.values()] == [{"team": "a"}]
        module.app.set_tags({"team": "b", "kind": "x"})
        assert both(module.app.get_tags) == {"team": "b", "kind": "x"}
    assert both(module.app.get_tags) == {"team": "b", "kind": "x"}
    module.app.deploy()
    assert server.published[-1].tags == {"team": "b", "kind": "x"}


@pytest.mark.parametrize("tags", [{"a": 1}, {1: "a"}, ["a"], "a"])
def test_tags_are_texts(tags: Any) -> None:
    with pytest.raises(InvalidError, match="give a dictionary of texts"):
        squall.App("x", tags=tags)
    with pytest.raises(InvalidError, match="give a dictionary of texts"):
        squall.App("x").set_tags(tags)


# --------------------------------------------------------------------------------------------------- include

TWO = """
image = squall.Image.debian_slim().env({'PART': '1'})
part = squall.App('part', tags={'team': 'b', 'part': 'yes'}, image=image)

@part.function()
def half(x):
    return x / 2

@app.function()
def quarter(x):
    return half.remote(x) / 2

app.include(part)
"""


@pytest.mark.covers("App.include", "App.function(image)")
def test_what_is_included_runs_with_the_app(load: Load, server: FakeServer) -> None:
    module = load("app = squall.App('whole', tags={'team': 'a'})\n" + TWO)
    with pytest.raises(ExecutionError, match="its app part must run"):
        module.half.remote(4)
    with module.app.run():
        assert module.half.remote(4) == 2
        assert module.quarter.remote(4) == 1
        (app,) = server.apps.values()
        assert sorted(app.specs) == ["half", "quarter"]
        assert app.tags == {"team": "a", "part": "yes"}
        assert app.specs["half"].image != app.specs["quarter"].image
    with pytest.raises(ExecutionError):
        module.half.remote(4)


def test_an_included_app_runs_by_itself_too(load: Load, server: FakeServer) -> None:
    module = load(TWO)
    with module.part.run():
        assert module.half.remote(4) == 2
        with pytest.raises(ExecutionError):
            module.quarter.remote(4)
    assert list(next(iter(server.apps.values())).specs) == ["half"]


@pytest.mark.covers("App.include(inherit_tags)", "App.function(name)")
def test_include_is_checked(load: Load) -> None:
    module = load(CODE + "other = squall.App('other')\n@other.function(name='f')\ndef g(): pass\n")
    with pytest.raises(InvalidError, match="two functions f"):
        module.app.include(module.other)
    with pytest.raises(InvalidError, match="cannot include itself"):
        module.app.include(module.app)
    plain = squall.App("plain").include(squall.App("tagged", tags={"a": "b"}), inherit_tags=False)
    assert plain.get_tags() == {}


# ----------------------------------------------------------------------------------------------------- facts


@pytest.mark.covers("App.info", "Function.info")
def test_info(load: Load, server: FakeServer) -> None:
    module = load(CODE)
    with pytest.raises(ExecutionError, match="is not on the server"):
        module.app.info()
    module.app.deploy(tag="v1")
    info = both(module.app.info)
    assert (info.name, info.state, info.version, info.tag) == ("example", "deployed", 1, "v1")
    assert info.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    told = both(squall.Function.from_name("example", "f").info)
    assert told == facts.FunctionInfo(info.functions["f"], info.app_id, "f", 1, is_generator=False)
    assert squall.Function.from_id(told.function_id).info() == told


@pytest.mark.covers(
    "App.stats",
    "App.stats(*)",
    "Function.stats",
    "Function.stats(since)",
    "Function.stats(until)",
    "Function.get_current_stats",
)
def test_stats(load: Load, server: FakeServer) -> None:
    module = load(CODE)
    module.app.deploy()
    ended = {"ok": 2, "done": 1, "exception": 3, "failed": 1, "timeout": 1, "cancelled": 2}
    function_id = module.f.info().function_id
    server.stats = {module.app.app_id: Stats(ended, 20.0, 7.5, 4, 2), function_id: Stats({}, 0.0, 0.0, 5, 1)}
    stats = both(module.app.stats, since=timedelta(hours=1))
    assert stats == facts.Stats(3, 4, 1, 2, 2.0, 7.5)
    assert stats.inputs == 10
    assert both(module.f.stats) == facts.Stats(0, 0, 0, 0, 0.0, 0.0)
    assert both(module.f.get_current_stats) == facts.FunctionStats(5, 1)
    with pytest.raises(UnimplementedError, match="container="):
        module.f.stats(container="ct-1")


def test_moments() -> None:
    moment = datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    assert facts.seconds("since", moment) == facts.seconds("since", 1_700_000_000) == 1_700_000_000
    assert facts.seconds("since", moment.astimezone().replace(tzinfo=None)) == 1_700_000_000
    assert facts.seconds("since", timedelta(0)) == pytest.approx(time.time(), abs=60)
    assert facts.seconds("since", None) == 0
    with pytest.raises(InvalidError, match="until='noon' is not possible"):
        facts.seconds("until", "noon")  # type: ignore[arg-type]


def test_there_is_no_dashboard_yet() -> None:
    with pytest.raises(UnimplementedError, match=r"App\.get_dashboard_url"):
        squall.App("x").get_dashboard_url()


# ------------------------------------------------------------------------------------------------------ logs


def piece(data: bytes, fd: int = 1, container: str = "ct-1") -> LogItem:
    return LogItem(container, "f", fd, data, 1_700_000_000.0)


@pytest.mark.covers("App.logs.fetch", "App.logs.tail", "Function.logs.fetch", "Function.logs.tail")
def test_logs_are_lines(load: Load, server: FakeServer) -> None:
    module = load(CODE)
    module.app.deploy()
    pieces = [piece(b"one\ntw"), piece(b"warn\n", 2), piece(b"o\nthree", 1), piece(b"other\n", 1, "ct-2")]
    server.log_pages = [LogsPage(pieces, 4, live=True) for _ in range(5)]
    lines = both(module.app.logs.fetch)
    assert [line.text for line in lines] == ["one", "warn", "two", "other", "three"]
    assert (lines[1].source, lines[1].function_name, lines[1].container_id) == ("stderr", "f", "ct-1")
    assert lines[0].timestamp == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    assert [line.text for line in module.app.logs.tail(2)] == ["other", "three"]
    assert [line.text for line in module.app.logs.fetch(search_text="o", limit=2)] == ["two", "other"]
    module.f.logs.fetch(source="stderr", since=5, until=6)
    query = server.log_queries[-1]
    assert (query.app, query.function, query.fd) == (module.app.app_id, "f", 2)
    assert (query.since, query.until) == (5, 6)


@pytest.mark.covers("FunctionCall.logs.*")
def test_logs_of_a_call(load: Load, server: FakeServer) -> None:
    module = load(CODE)
    module.app.deploy()
    call = module.f.spawn()
    server.log_pages = [LogsPage([], 0, live=True)]
    assert call.logs.tail() == []
    assert (server.log_queries[0].call, server.log_queries[0].app) == (call.object_id, module.app.app_id)


@pytest.mark.covers("App.logs.stream", "Function.logs.stream")
def test_logs_stream_until_the_app_has_stopped(load: Load, server: FakeServer) -> None:
    module = load(CODE)
    module.app.deploy()

    async def run() -> list[str]:
        return [line.text async for line in module.app.logs.stream.aio()]

    for stream in (lambda: [line.text for line in module.app.logs.stream()], lambda: asyncio.run(run())):
        server.log_queries.clear()
        server.log_pages = [
            LogsPage([piece(b"old\n")], 3, live=True),
            LogsPage([piece(b"new\nla")], 4, live=True),
            LogsPage([piece(b"st")], 5, live=False),
        ]
        assert stream() == ["new", "last"]
        assert [query.after for query in server.log_queries] == [0, 3, 4]


@pytest.mark.parametrize(
    "options", [{"source": "stdin"}, {"search_text": 3}, {"limit": 0}, {"limit": 20_001}]
)
def test_log_queries_are_checked(load: Load, server: FakeServer, options: dict[str, Any]) -> None:
    module = load(CODE)
    module.app.deploy()
    with pytest.raises(InvalidError, match=next(iter(options))):
        module.app.logs.fetch(**options)
