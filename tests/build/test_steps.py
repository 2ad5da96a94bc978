from __future__ import annotations

import asyncio
from typing import Any

import pytest

from squall.build import steps
from squall.build.base import BuildError, StepResult
from squall.build.pipconfig import PipSettings
from squall.build.recipes import stages
from squall.build.steps import Bench, ImageConfig
from squall.wire.values import Recipe, Step


class RecordingBench(Bench):
    """Remembers commands; answers each with the next of `codes`, then with 0."""

    python, uv, uv_options = "/py", "/uv", ("--system",)

    def __init__(self, pip: PipSettings | None = None, codes: tuple[int, ...] = ()) -> None:
        self.pip = pip or PipSettings()
        self.ran: list[tuple[str, ...]] = []
        self._codes = list(codes)

    async def run(self, argv: tuple[str, ...]) -> StepResult:
        self.ran.append(argv)
        return StepResult(self._codes.pop(0) if self._codes else 0, "")

    async def show(self, manifest: str) -> str:
        return f"/shown/{manifest}"


def run(kind: str, args: dict[str, Any], bench: RecordingBench | None = None) -> list[tuple[str, ...]]:
    bench = bench or RecordingBench()
    asyncio.run(_result(kind, args, bench))
    return bench.ran


async def _result(kind: str, args: dict[str, Any], bench: Bench) -> StepResult:
    return await steps.parse(Step(kind, args)).run(bench)


def test_pip() -> None:
    (argv,) = run(
        "pip", {"packages": ["six", "numpy>=2"], "find_links": None, "pre": False, "extra_options": ""}
    )

    assert argv == ("/uv", "pip", "install", "--python", "/py", "--system", "--", "six", "numpy>=2")


def test_pips_options_are_never_taken_for_others() -> None:
    args = {"packages": ["six"], "index_url": "--evil", "pre": True, "extra_options": "--no-deps 'a b'"}

    (argv,) = run("pip", args)

    assert argv[6:] == ("--default-index=--evil", "--prerelease=allow", "--no-deps", "a b", "--", "six")


def test_options_of_the_step_add_to_the_machines() -> None:
    machine = PipSettings(find_links=("/wheels",), extra_index_urls=("https://m/",), no_index=True)
    args = {"packages": ["six"], "find_links": "https://l/", "extra_index_url": "https://x/"}

    (argv,) = run("pip", args, RecordingBench(machine))

    assert argv[6:-2] == (
        "--no-index", "--find-links=/wheels", "--find-links=https://l/", "--index=https://x/", "--index=https://m/",
    )  # fmt: skip


def test_run_stops_at_the_first_failure() -> None:
    bench = RecordingBench(codes=(0, 3))

    result = asyncio.run(_result("run", {"commands": ["a; b", "c", "d"]}, bench))

    assert result.exit_code == 3
    assert bench.ran == [("/bin/sh", "-c", "a; b"), ("/bin/sh", "-c", "c")]


@pytest.mark.parametrize(
    ("kind", "args"),
    [("apt", {"packages": ["curl"]}), ("files", {"manifest": "mo-1", "target": "/a b;$(c)"})],
)
def test_tenants_words_are_arguments_of_our_scripts_and_no_part_of_them(
    kind: str, args: dict[str, Any]
) -> None:
    (argv,) = run(kind, args)

    assert argv[:2] == ("/bin/sh", "-c")
    assert not any(str(value) in argv[2] for value in ("curl", "$(c)", "mo-1"))
    assert argv[-1] in {"curl", "/a b;$(c)"}


def test_env_and_workdir_change_the_configuration_alone() -> None:
    env = steps.parse(Step("env", {"vars": {"B": "2"}}))
    workdir = steps.parse(Step("workdir", {"path": "/srv"}))

    config = workdir.configure(env.configure(ImageConfig({"A": "1"})))

    assert config == ImageConfig({"A": "1", "B": "2"}, "/srv")
    assert not env.makes_layer
    assert not workdir.makes_layer


@pytest.mark.parametrize(
    ("kind", "args", "words"),
    [
        ("nonsense", {}, "unknown image step"),
        ("pip", [], "no object"),
        ("pip", {}, "packages must be a list"),
        ("pip", {"packages": []}, "packages must be a list"),
        ("pip", {"packages": "six"}, "packages must be a list"),
        ("pip", {"packages": [1]}, "must be text"),
        ("pip", {"packages": [""]}, "empty"),
        ("pip", {"packages": ["--index-url=x"]}, "is no package"),
        ("pip", {"packages": ["six\nevil"]}, "is no package"),
        ("pip", {"packages": ["six"], "pre": "yes"}, "pre must be true or false"),
        ("pip", {"packages": ["six"], "extra_options": "'open"}, "cannot be split"),
        ("pip", {"packages": ["six"], "future": 1}, "unknown arguments: future"),
        ("apt", {"packages": ["-oDPkg::Pre-Invoke=x"]}, "no name of a Debian package"),
        ("apt", {"packages": ["a b"]}, "no name of a Debian package"),
        ("run", {"commands": ["a\0b"]}, "without NUL"),
        ("run", {"commands": ["x" * (1 << 20)]}, "at most"),
        ("env", {"vars": {"A=B": "c"}}, "cannot be the name"),
        ("run", {"commands": ["a"], "env": {"A=B": "c"}}, "cannot be the name"),
        ("run", {"commands": ["a"], "env": ["A"]}, "must be an object"),
        ("workdir", {"path": "/w", "env": {"A": "b"}}, "unknown arguments: env"),
        ("env", {"vars": {"A": 1}}, "must be text"),
        ("workdir", {"path": "relative"}, "absolute path"),
        ("workdir", {}, "path is missing"),
        ("files", {"manifest": "mo-1", "target": "/a/../b"}, "absolute path"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(kind: str, args: Any, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        steps.parse(Step(kind, args))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_steps_are_checked_before_anything_runs() -> None:
    with pytest.raises(BuildError, match="unknown image step"):
        stages(Recipe("debian_slim", "", [Step("run", {"commands": ["true"]}), Step("?")]))
    with pytest.raises(BuildError, match="unknown base"):
        stages(Recipe("nonsense"))


def test_a_failure_names_the_step_and_shows_its_tail() -> None:
    stage = stages(
        Recipe("debian_slim", "", [Step("env", {"vars": {}}), Step("pip", {"packages": ["magika"]})])
    )[1]

    with pytest.raises(BuildError) as caught:
        stage.check(StepResult(1, "last words"))

    assert str(caught.value) == "step 2 of 2 (pip_install magika) failed with exit code 1"
    assert caught.value.tail == "last words"


def test_long_titles_are_cut_and_stay_on_one_line() -> None:
    (stage,) = stages(Recipe("debian_slim", "", [Step("run", {"commands": ["echo\n" * 100]})]))

    assert len(stage.title) <= 120
    assert "\n" not in stage.title
