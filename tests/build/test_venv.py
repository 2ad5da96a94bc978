from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from squall.build import machine, venv
from squall.build.base import BuildError, BuiltImage
from squall.build.venv import VenvBuilder
from squall.wire.values import Recipe, Step
from tests.build.doubles import FolderFiles, debian

if TYPE_CHECKING:
    from pathlib import Path

    from squall.build.machine import Machine

pytest.importorskip("uv")
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def builder(state: Path) -> VenvBuilder:
    async def bare() -> Machine:
        return debian()

    return VenvBuilder(state, FolderFiles(state), read_machine=bare)


def ensure(made_by: VenvBuilder, *steps: Step, python: str = "") -> BuiltImage:
    recipe = Recipe("debian_slim", python, list(steps))
    return asyncio.run(made_by.ensure(recipe, {}, lambda *_: None))


def run(*commands: str) -> Step:
    return Step("run", {"commands": list(commands)})


def test_commands_run_with_the_environment_of_the_image(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = [
        Step("env", {"vars": {"WHO": "me"}}),
        run(f'echo "$WHO $(python -c "import sys; print(sys.prefix)") $VIRTUAL_ENV" > {out}'),
    ]

    image = ensure(builder(tmp_path / "state"), *steps, python=OWN)

    who, prefix, named = out.read_text().split()
    assert (who, prefix) == ("me", named)
    assert image.layers == ()
    assert image.env["WHO"] == "me"
    assert image.python == f"{prefix}/bin/python"
    version = subprocess.run([image.python, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith(f"Python {OWN}.")


def test_variables_of_one_step_are_of_its_commands_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with_own = Step("run", {"commands": [f'echo "$WHO $MORE" > {out}'], "env": {"WHO": "it", "MORE": "x"}})
    after = run(f'echo "$WHO $MORE." >> {out}')
    image = ensure(
        builder(tmp_path / "state"), Step("env", {"vars": {"WHO": "me"}}), with_own, after, python=OWN
    )
    assert out.read_text() == "it x\nme .\n"
    assert (image.env["WHO"], "MORE" in image.env) == ("me", False)


def test_an_image_is_made_once_and_found_by_a_later_process(tmp_path: Path) -> None:
    count = tmp_path / "count"
    step = run(f"echo x >> {count}")

    first = ensure(builder(tmp_path), step)
    again = builder(tmp_path)

    assert ensure(again, step) == first
    assert asyncio.run(again.images()) == [first.id]
    assert count.read_text() == "x\n"


def test_a_failing_command_leaves_nothing(tmp_path: Path) -> None:
    made_by = builder(tmp_path)
    with pytest.raises(BuildError) as caught:
        ensure(made_by, run("true", "echo oh no; exit 9"))

    failure, _, hint = str(caught.value).partition("; ")
    assert failure == "step 1 of 1 (run_commands true and 1 more) failed with exit code 9"
    assert hint.startswith("the process driver runs commands on the machine itself, as the agent's user")
    assert caught.value.tail == "oh no"
    assert list((tmp_path / "venvs").iterdir()) == []


def test_half_made_environments_are_swept(tmp_path: Path) -> None:
    made_by = builder(tmp_path)
    image = ensure(made_by)
    half = tmp_path / "venvs" / f"{image.id}.0000"
    half.mkdir()

    assert asyncio.run(made_by.sweep()) == [half.name]
    assert ensure(made_by) == image


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step("apt", {"packages": ["curl"]}), "apt_install needs the namespaces driver"),
        (
            Step("files", {"manifest": "mo-1", "target": "/a"}),
            r"add_local_file\(copy=True\) needs the namespaces",
        ),
        (Step("workdir", {"path": "/no/such/place"}), "no such directory on this machine"),
    ],
)
def test_steps_that_need_a_file_system_are_refused(tmp_path: Path, step: Step, words: str) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(BuildError, match=words):
        ensure(builder(tmp_path / "state"), step, run(f"touch {ran}"))
    assert not ran.exists()


def test_a_python_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"Python 3\.99 is not on this machine, which has .*{OWN}"):
        ensure(builder(tmp_path), python="3.99")


def test_shims_that_do_not_work_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "3.14" if OWN != "3.14" else "3.13"
    shim = tmp_path / f"python{other}"
    shim.write_text("#!/bin/sh\necho no such version >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + ":/usr/bin:/bin")

    assert asyncio.run(machine.pythons(other, str(tmp_path))) == []

    shim.write_text(f"#!/bin/sh\necho {other}\n")
    assert asyncio.run(venv._interpreter(other)) == str(shim)


def test_real_packages_come_from_where_the_machines_pip_finds_them(tmp_path: Path) -> None:
    settings = asyncio.run(machine.read()).pip
    if not _reachable(settings.index_url or "https://pypi.org/simple"):
        pytest.skip("the package index of this machine is not reachable")
    made_by = VenvBuilder(tmp_path, FolderFiles(tmp_path))

    image = ensure(made_by, Step("pip", {"packages": ["six"]}))

    code = "import six; print(six.__version__)"
    subprocess.run([image.python, "-c", code], check=True, env={**os.environ, **image.env})
    with pytest.raises(
        BuildError, match=r"step 1 of 1 \(pip_install six==0.0.0.1\) failed with exit code 1"
    ) as caught:
        ensure(made_by, Step("pip", {"packages": ["six==0.0.0.1"]}))
    assert "six==0.0.0.1" in caught.value.tail


def _reachable(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/six/", timeout=10):
            return True
    except OSError:
        return False
