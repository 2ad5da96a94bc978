"""Builds images for the process driver: a virtual environment a recipe, on the host itself, for one tenant.

There is no isolation to build in: commands run as the agent's user, with the environment first on PATH.
Steps that would need a file system of their own are refused before anything runs.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING

from squall.build import kit, machine, process, records
from squall.build.base import Builder, BuildError, BuiltImage
from squall.build.recipes import Log, stages
from squall.build.steps import Bench, ImageConfig
from squall.wire.hashing import recipe_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from squall.build.base import Files, StepResult
    from squall.build.machine import Machine
    from squall.build.recipes import Stage
    from squall.wire.values import Manifest, Recipe

#: Minor versions that the runner works with.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


class VenvBuilder(Builder):
    """Environments below `state`: venvs/<recipe id>.<random>/, named by <recipe id>.json when whole."""

    def __init__(
        self,
        state: Path,
        files: Files,
        *,
        read_machine: Callable[[], Awaitable[Machine]] = machine.read,
    ) -> None:
        self._files = files
        self._read_machine = read_machine
        self._folder = state / "venvs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._locks = records.Locks(state / "locks")

    async def ensure(
        self,
        recipe: Recipe,
        manifests: Mapping[str, Manifest],  # noqa: ARG002 - steps with files are refused
        log: Callable[[bytes, int, int], None],
    ) -> BuiltImage:
        plan = stages(recipe)
        _refuse(plan)
        image_id = recipe_id(recipe)
        async with self._locks.hold(image_id):
            forced = any(stage.step.force for stage in plan)
            known = None if forced else self._known(image_id)
            return known or await self._build(image_id, recipe, plan, Log(log, len(plan)))

    async def images(self) -> list[str]:
        ids = sorted(path.stem for path in self._folder.glob("im-*.json"))
        return [image_id for image_id in ids if self._known(image_id) is not None]

    async def sweep(self) -> list[str]:
        """Remove what unfinished and replaced builds left; call it at the start, when no container runs."""
        removed = []
        for folder in [path for path in self._folder.iterdir() if path.is_dir()]:
            image_id = folder.name.partition(".")[0]
            record = records.read(self._record(image_id)) or {}
            if folder.name != record.get("name") and self._locks.is_free(image_id):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
        return removed

    async def _build(self, image_id: str, recipe: Recipe, plan: list[Stage], log: Log) -> BuiltImage:
        python = await _interpreter(recipe.python)
        found = await self._read_machine()
        folder = self._folder / f"{image_id}.{secrets.token_hex(4)}"
        config = ImageConfig()
        try:
            folder.mkdir()
            bench = VenvBench(folder, found, log)
            await bench.create(python)
            for stage in plan:
                log.begin(stage)
                config = stage.action.configure(config)
                bench.configure(stage.within(config))
                if stage.action.makes_layer:
                    stage.check(await stage.action.run(bench), stage.action.unisolated)
            await records.sync(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        env = dict(config.env)
        records.write(self._record(image_id), {"name": folder.name, "env": env, "workdir": config.workdir})
        return self._image(image_id, folder, env, config.workdir)

    def _known(self, image_id: str) -> BuiltImage | None:
        record = records.read(self._record(image_id))
        if record is None:
            return None
        folder = self._folder / record["name"]
        # The interpreter is a link to the host's, which may have gone.
        if not (folder / "venv/bin/python").exists():
            return None
        return self._image(image_id, folder, record["env"], record["workdir"])

    def _image(self, image_id: str, folder: Path, env: dict[str, str], workdir: str) -> BuiltImage:
        place = workdir or str(folder / "work")
        return BuiltImage(image_id, (), _environment(folder, env), place, str(folder / "venv/bin/python"))

    def _record(self, image_id: str) -> Path:
        return self._folder / f"{image_id}.json"


class VenvBench(Bench):
    """A virtual environment, `folder`/venv; commands start in `folder`/work or in the image's workdir."""

    uv_options = ("--compile-bytecode",)

    def __init__(self, folder: Path, found: Machine, log: Log) -> None:
        self.uv = kit.find_uv()
        self.pip = found.pip.present(os.path.exists)
        self.python = str(folder / "venv/bin/python")
        self._folder = folder
        self._log = log
        self._work = folder / "work"
        self._work.mkdir()
        self._config = ImageConfig()
        (folder / "pip.conf").write_text(self.pip.for_pip(), encoding="utf-8")

    def configure(self, config: ImageConfig) -> None:
        if config.workdir and not os.path.isdir(config.workdir):
            raise BuildError(
                f"workdir {config.workdir!r}: no such directory on this machine, and the process driver "
                "has only its files; make it, or leave the step out"
            )
        self._config = config

    async def create(self, python: str) -> None:
        argv = (self.uv, "venv", "--quiet", "--no-project", "--python", python, str(self._folder / "venv"))
        result = await self.run(argv)
        if result.exit_code != 0:
            raise BuildError(f"uv cannot make a virtual environment of {python}", result.tail)

    async def run(self, argv: tuple[str, ...]) -> StepResult:
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("SQUALL_", "PIP_", "UV_"))}
        lent = {
            **self.pip.for_uv(),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "PIP_CONFIG_FILE": str(self._folder / "pip.conf"),
        }
        env = {**ours, **lent, **_environment(self._folder, self._config.env)}
        return await process.run(argv, self._log.write, env=env, cwd=self._config.workdir or str(self._work))

    async def show(self, manifest: str) -> str:
        raise BuildError(f"the process driver cannot copy files into an image ({manifest[:60]})")


def _refuse(plan: list[Stage]) -> None:
    for stage in plan:
        if stage.action.refusal:
            raise BuildError(f"step {stage.number} of {stage.total}: {stage.action.refusal}")


def _environment(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    search = env.get("PATH") or os.environ.get("PATH", os.defpath)
    # Python's way to write bytecode leaves half of it on a full disk, for all who import it later.
    env = {"PYTHONDONTWRITEBYTECODE": "1", **env}
    return {**env, "VIRTUAL_ENV": str(folder / "venv"), "PATH": f"{folder / 'venv/bin'}:{search}"}


async def _interpreter(minor: str) -> str:
    """An interpreter of the host with this minor version: ours, else one on PATH. Raises BuildError."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if minor in {"", own}:
        return sys.executable
    search = os.environ.get("PATH", os.defpath)
    found = await machine.pythons(minor, search) if minor in PYTHONS else []
    if found:
        return found[0]
    there = [version for version in PYTHONS if version == own or await machine.pythons(version, search)]
    raise BuildError(
        f"Python {minor[:20]} is not on this machine, which has {', '.join(there)}; install it, or use "
        f"Image.debian_slim(python_version={own!r})"
    )
