"""A client in a container, for tests: its frames come relayed by its node."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from squall.wire import codec
from squall.wire import messages as m
from squall.wire.values import PROTOCOL
from tests.server.fakes import FakeNode, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

T = TypeVar("T")
HELLO = m.Hello(PROTOCOL, "client", "0", environment="elsewhere")


class Inside:
    """A client in a container, as the node relays it."""

    def __init__(self, node: FakeNode, container: str, number: int = 1) -> None:
        self.node = node
        self.container = container
        self.number = number

    def send(self, *messages: object) -> None:
        self.node.send(m.Nested(self.container, self.number, codec.encode(messages)))

    def got(self, kind: type[T]) -> list[T]:
        key = (self.container, self.number)
        mine = [n for n in self.node.of(m.Nested) if (n.container, n.connection) == key]
        return [x for n in mine if n.data for x in codec.decode(n.data) if isinstance(x, kind)]

    @property
    def closed(self) -> bool:
        return m.Nested(self.container, self.number, b"") in self.node.of(m.Nested)

    async def hello(self) -> m.Welcome:
        self.send(HELLO)
        await settle()
        (welcome,) = self.got(m.Welcome)
        return welcome


async def inside(world: World, cpu_millis: int = 4000) -> tuple[FakeNode, Inside, dict[str, str], str]:
    """A container of f that runs an input; its functions, and that input."""
    client, node = await world.client(environment="dev"), await world.node(cpu_millis=cpu_millis)
    node.hold = True
    app = await client.app(spec("f"), spec("g"))
    call = client.call(app.functions["f"], b"x")
    await node.work()
    return node, Inside(node, node.inputs[f"{call}:0"][0]), app.functions, f"{call}:0"
