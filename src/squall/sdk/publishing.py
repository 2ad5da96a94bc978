"""An app on its way to the server: source, images, functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squall.sdk import output, serialization, trees
from squall.sdk.image import Image
from squall.sdk.source import TARGET, app_source, roots_of
from squall.wire.control import AppPublish, AppPublished, ImageEnsure
from squall.wire.hashing import recipe_id
from squall.wire.values import FunctionSpec, MountRef, Payload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from squall.sdk.function import Function
    from squall.sdk.modes import Mode
    from squall.sdk.ports import Port
    from squall.sdk.recipes import PythonSource, Resolved
    from squall.sdk.trees import Tree
    from squall.wire.values import Recipe, SecretRef


class Publisher:
    """Reads all that is local before it sends anything, so that what is wrong here is told at once."""

    def __init__(self, functions: Sequence[Function[..., Any]], *, image: Image | None) -> None:
        default = image or Image.debian_slim()
        self._images = {f.name: f.declaration.image or f.app.image or default for f in functions}
        self._resolved: dict[int, Resolved] = {id(i): i.resolve() for i in self._images.values()}
        self._functions = functions
        self._serialized = {
            f.name: serialization.dump_function(f.to_serialize(), f.name) for f in functions if f.serialized
        }
        self._sources = self._collect_sources()
        self._sent: dict[str, str] = {}
        self._refs: dict[int, SecretRef] = {}

    async def publish(
        self,
        mode: Mode,
        port: Port[Any],
        app: str,
        *,
        deploy: bool = False,
        tag: str = "",
        tags: Mapping[str, str] | None = None,
        strategy: str = "rolling",
    ) -> AppPublished:
        """Raises ImageBuildError with the failing step's last lines, and what the server refuses."""
        recipes = await self._ensure_images(port)
        specs = [await self._spec(mode, port, function) for function in self._functions]
        published: AppPublished = await port.request(
            "app.publish",
            AppPublish(app, specs, recipes, deploy, tag, dict(tags or {}), strategy),
        )
        return published

    def _collect_sources(self) -> dict[str, Tree]:
        """Each function's source. The app's own is the same for all: functions call each other."""
        roots = {
            (root.module, root.file): root
            for f in self._functions
            if self._includes_source(f)
            for root in roots_of(f.home)
        }
        of_image: dict[tuple[bool, tuple[PythonSource, ...]], Tree] = {}
        sources: dict[str, Tree] = {}
        for function in self._functions:
            key = (self._includes_source(function), self._images[function.name].python_source)
            if key not in of_image:
                of_image[key] = app_source(roots.values() if key[0] else (), key[1])
            sources[function.name] = of_image[key]
        return sources

    def _includes_source(self, function: Function[..., Any]) -> bool:
        own = function.declaration.include_source
        included: bool = function.app.include_source if own is None else own
        return included

    async def _ensure_images(self, port: Port[Any]) -> dict[str, Recipe]:
        recipes: dict[str, Recipe] = {}
        for resolved in self._resolved.values():
            image = recipe_id(resolved.recipe)
            forced = any(step.force for step in resolved.recipe.steps)
            if image in recipes and not forced:
                continue
            recipes[image] = resolved.recipe
            for tree in resolved.trees:
                await self._put(port, tree)
            with output.building(image):
                await port.request("image.ensure", ImageEnsure(image, resolved.recipe), timeout=None)
        return recipes

    async def _spec(self, mode: Mode, port: Port[Any], function: Function[..., Any]) -> FunctionSpec:
        declared = function.declaration
        resolved = self._resolved[id(self._images[function.name])]
        module, qualname = function.entry
        mounts = [(TARGET, self._sources[function.name]), *resolved.mounts]
        return FunctionSpec(
            name=function.name,
            module=module,
            qualname=qualname,
            image=recipe_id(resolved.recipe),
            serialized=await self._payload(port, function),
            is_generator=bool(function.is_generator),
            mounts=[MountRef(await self._put(port, tree), target) for target, tree in mounts if tree.files],
            resources=declared.resources,
            autoscaler=declared.autoscaler,
            retries=declared.retries,
            timeout=declared.timeout,
            startup_timeout=declared.startup_timeout,
            env=declared.env,
            block_network=declared.block_network,
            concurrency=function.sharing.concurrency(),
            batching=function.sharing.batching(),
            single_use=declared.single_use,
            class_=function.class_spec,
            secrets=await self._secrets(mode, port, function),
        )

    async def _secrets(self, mode: Mode, port: Port[Any], function: Function[..., Any]) -> list[SecretRef]:
        """The app's, then the function's own. One is sent once, however many name it."""
        wanted = (*function.app.secrets, *function.declaration.secrets)
        for secret in wanted:
            if id(secret) not in self._refs:
                self._refs[id(secret)] = await secret.ref(mode, port)
        return [self._refs[id(secret)] for secret in wanted]

    async def _payload(self, port: Port[Any], function: Function[..., Any]) -> Payload | None:
        data = self._serialized.get(function.name)
        return None if data is None else await serialization.to_payload(port, data)

    async def _put(self, port: Port[Any], tree: Tree) -> str:
        if tree.id not in self._sent:
            self._sent[tree.id] = await trees.put(port, tree)
        return tree.id
