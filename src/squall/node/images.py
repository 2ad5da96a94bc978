"""Images on this machine: what the server asks for, by way of a builder, and the log for who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.build.base import BuildError
from squall.node.files import Tenant, building_for
from squall.node.transfers import TransferError
from squall.wire.messages import BuildImage, BuildLog, ImageDone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from squall.build.base import Builder, BuiltImage
    from squall.node.link import Link
    from squall.wire.values import Manifest, Recipe

    #: Called with a builder and the layers in use.
    Sweep = Callable[[Builder, list[str]], Awaitable[object]]

#: Bytes that wait for the server at which build output is dropped: it may be endless.
_FULL = 4 << 20


class Images:
    """`sweep` is how this builder cleans up."""

    def __init__(self, builder: Builder, sweep: Sweep, link: Link) -> None:
        self._builder = builder
        self._sweep = sweep
        self._link = link

    async def build(self, order: BuildImage) -> None:
        """Answered by ImageDone."""
        try:
            await self.ensure(
                order.image, order.recipe, Tenant(order.workspace, order.uid_base), order.manifests
            )
        except BuildError as error:
            done = ImageDone(order.image, str(error), error.tail)
        else:
            done = ImageDone(order.image)
        self._link.send(done)

    async def ensure(
        self, image: str, recipe: Recipe, tenant: Tenant, manifests: Mapping[str, Manifest]
    ) -> BuiltImage:
        """Raises BuildError."""

        def log(data: bytes, step: int, steps: int) -> None:
            if self._link.buffered() < _FULL:
                self._link.send(BuildLog(image, data, step, steps))

        token = building_for.set(tenant)
        try:
            return await self._builder.ensure(recipe, manifests, log)
        except (TransferError, OSError) as error:
            raise BuildError(f"the image could not be built: {error}") from None
        finally:
            building_for.reset(token)

    async def sweep(self, in_use: list[str]) -> None:
        """Remove what unfinished builds left; `in_use` are layers of containers that run already."""
        await self._sweep(self._builder, in_use)

    async def present(self) -> list[str]:
        """Ids of images that are here whole."""
        return await self._builder.images()
