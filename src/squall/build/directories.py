"""Builds images as stacks of plain directories, each step in the same isolation as functions run in.

A layer is named by the hash of all that made it (`wire.hashing.step_id`), so equal beginnings of recipes are
built once. What the machine lends to a build (indexes, proxies, authorities) has no part in the hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.build import bases, kit, layers, machine, records
from squall.build.base import Builder, BuildError, BuiltImage, StepResult
from squall.build.layers import LayerStore
from squall.build.recipes import Log, stages
from squall.build.steps import Bench, ImageConfig
from squall.wire.hashing import recipe_id, step_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    from squall.build.base import Files, HostRunner, Sandbox
    from squall.build.bases import BaseSystem
    from squall.build.kit import Kit
    from squall.build.layers import Layer
    from squall.build.machine import Machine
    from squall.build.recipes import Stage
    from squall.wire.values import Manifest, Recipe

#: What a step's commands find in their environment before the image's own variables.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
WORKDIR = "/root"


@dataclass(frozen=True)
class Work:
    """What all steps of one build share."""

    machine: Machine
    manifests: Mapping[str, Manifest]
    log: Log
    python: str


class DirectoryBuilder(Builder):
    """Images below `state`: layers/, images/, locks/ and, while steps run, kits/."""

    def __init__(
        self,
        state: Path,
        sandbox: Sandbox,
        files: Files,
        host: HostRunner,
        *,
        read_machine: Callable[[], Awaitable[Machine]] = machine.read,
    ) -> None:
        self._sandbox = sandbox
        self._files = files
        self._host = host
        self._read_machine = read_machine
        self._kits = state / "kits"
        self._images = state / "images"
        self._images.mkdir(parents=True, exist_ok=True)
        self._layers = LayerStore(state, host)

    async def ensure(
        self, recipe: Recipe, manifests: Mapping[str, Manifest], log: Callable[[bytes, int, int], None]
    ) -> BuiltImage:
        plan = stages(recipe)
        image_id = recipe_id(recipe)
        async with self._layers.locks.hold(image_id):
            forced = any(stage.step.force for stage in plan)
            known = None if forced else self._known(image_id)
            return known or await self._build(image_id, recipe, plan, manifests, Log(log, len(plan)))

    async def images(self) -> list[str]:
        ids = sorted(path.stem for path in self._images.glob("im-*.json"))
        return [image_id for image_id in ids if self._known(image_id) is not None]

    async def sweep(self, in_use: Collection[str] = ()) -> list[str]:
        """Remove what unfinished and replaced builds left; call it at the start.

        `in_use` are the layers (paths) of containers that run already. Gives what was removed.
        """
        found = (records.read(path) for path in self._images.glob("im-*.json"))
        kept = {name for record in found if record for name in layers.names(record)}
        return await self._layers.sweep(in_use, kept)

    async def host_paths(self) -> tuple[str, ...]:
        """The paths outside of the state directory that sandboxes will be asked to show, read-only."""
        return kit.host_paths(await self._read_machine(), kit.find_uv())

    async def _build(
        self,
        image_id: str,
        recipe: Recipe,
        plan: list[Stage],
        manifests: Mapping[str, Manifest],
        log: Log,
    ) -> BuiltImage:
        found = await self._read_machine()
        base, layer = await self._base(await bases.choose(found, recipe.python), log)
        work = Work(found, manifests, log, base.python)
        stack, config, chain = [layer], ImageConfig(), layer.id
        for stage in plan:
            chain = step_id(
                chain, stage.step
            )  # of all steps: what env and workdir say has a part in the next
            if stage.action.makes_layer:
                stack.append(await self._layer(stage, chain, stack, config, work))
            else:
                log.begin(stage)
            config = stage.action.configure(config)
        record = {
            "layers": [layer.name for layer in stack],
            "env": dict(config.env),
            "workdir": config.workdir or WORKDIR,
            "python": base.python,
        }
        records.write(self._record(image_id), record)
        built = self._known(image_id)
        if built is None:
            raise BuildError("layers of the image vanished while it was built; try again")
        return built

    async def _base(self, candidates: list[BaseSystem], log: Log) -> tuple[BaseSystem, Layer]:
        """The first base that can be made: a mirror may be out of reach."""
        failure = BuildError("there is none")
        for base in candidates:
            async with self._layers.locks.hold(base.layer_id):
                if layer := self._layers.find(base.layer_id):
                    return base, layer
                log.say(f"Base system: {base.title}")
                try:
                    async with self._layers.making(base.layer_id) as layer:
                        result = await base.make(layer, self._host, log.write)
                        if result.exit_code == 0:
                            return base, layer
                        raise BuildError(f"base system: exit code {result.exit_code}", result.tail)
                except BuildError as error:
                    log.say(f"Cannot make {base.title}: {error}")
                    failure = error
        raise BuildError(f"the base system ({candidates[-1].title}) cannot be made: {failure}", failure.tail)

    async def _layer(
        self, stage: Stage, layer_id: str, below: list[Layer], config: ImageConfig, work: Work
    ) -> Layer:
        parent = below[-1].name
        async with self._layers.locks.hold(layer_id):
            if not stage.step.force and (layer := self._layers.find(layer_id, parent)):
                work.log.begin(stage, " (cached)")
                return layer
            work.log.begin(stage)
            uv = kit.find_uv()
            with kit.made(work.machine, self._kits, uv) as lent:
                async with self._layers.making(layer_id, parent) as layer:
                    bench = SandboxBench(
                        self._sandbox, self._files, below, layer, stage.within(config), lent, work
                    )
                    stage.check(await stage.action.run(bench))
        return layer

    def _known(self, image_id: str) -> BuiltImage | None:
        record = records.read(self._record(image_id))
        if record is None:
            return None
        stack = [self._layers.named(name) for name in layers.names(record)]
        paths = tuple(str(layer.fs) for layer in stack if layer is not None)
        if not paths or len(paths) != len(stack):
            return None
        return BuiltImage(image_id, paths, record["env"], record["workdir"], record["python"])

    def _record(self, image_id: str) -> Path:
        return self._images / f"{image_id}.json"


class SandboxBench(Bench):
    """An image under construction: commands run over its layers, and what they write is the next one."""

    uv = kit.UV
    uv_options = ("--system", "--break-system-packages", "--no-cache")

    def __init__(
        self,
        sandbox: Sandbox,
        files: Files,
        below: list[Layer],
        layer: Layer,
        config: ImageConfig,
        lent: Kit,
        work: Work,
    ) -> None:
        self.python = work.python
        self.pip = lent.pip
        self._sandbox = sandbox
        self._files = files
        self._manifests = work.manifests
        self._below = tuple(str(one.fs) for one in below)
        self._upper = layer.fs
        self._env = {**ENVIRONMENT, **lent.env, **config.env}
        self._cwd = config.workdir or WORKDIR
        self._binds = dict(lent.binds)
        self._write = work.log.write

    async def run(self, argv: tuple[str, ...]) -> StepResult:
        return await self._sandbox.run(
            self._below,
            self._upper,
            argv,
            env=self._env,
            cwd=self._cwd,
            binds=self._binds,
            log=self._write,
        )

    async def show(self, manifest: str) -> str:
        found = self._manifests.get(manifest)
        if found is None:
            raise BuildError(f"the files of step 'files' ({manifest[:60]}) were not sent; run it again")
        tree = await self._files.tree(manifest, found)
        self._binds[str(tree)] = kit.FILES
        return kit.FILES
