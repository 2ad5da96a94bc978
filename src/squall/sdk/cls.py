"""Classes that run in containers: what `@app.cls()` makes of a class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from squall.exception import ExecutionError, InvalidError
from squall.sdk import checks, context, sharing, unavailable
from squall.sdk.blueprint import Blueprint
from squall.sdk.dual import dual_function
from squall.sdk.function import Function
from squall.sdk.handles import Deployed, Handle, OfApp
from squall.sdk.members import Member, Method
from squall.sdk.modes import Access, Mode
from squall.sdk.objects import Bound, Obj
from squall.sdk.variants import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from squall.client.api import AsyncClient, Client
    from squall.sdk.overrides import VariantOptions
    from squall.wire.values import ClassSpec, Overrides


class NotAnObjectError(InvalidError, AttributeError):
    """Also an AttributeError: `hasattr` says no."""


class Service(Function[..., Any]):
    """A class as the server has it: one function whose calls name a method."""

    where = "@app.cls"

    def __init__(self, name: str, handle: Handle, user_cls: Any, *, is_generator: bool | None) -> None:
        super().__init__(name, handle, None, is_generator=is_generator)
        self.raw_f = user_cls
        self.blueprint = Blueprint(user_cls)

    @property
    def class_spec(self) -> ClassSpec:
        return self.blueprint.spec()

    def to_serialize(self) -> Any:
        return self.blueprint

    @property
    def sharing(self) -> sharing.Sharing:
        """Batches are declared on the method, all else on the class."""
        batched = [sharing.of(m) for m in self.blueprint.members(Method).values()]
        own = sharing.of(self.raw_f)
        for each in batched:
            if each.max_batch_size:
                own = replace(own, max_batch_size=each.max_batch_size, wait_ms=each.wait_ms)
        return own


class Cls:
    """Called with its parameters, it gives an object whose methods run in containers of that object."""

    def __init__(
        self, name: str, handle: Handle, service: Service | None, overrides: Overrides | None = None
    ) -> None:
        self.name = name
        self.service = service
        self._handle = handle
        self._overrides = overrides
        if service is not None:
            user_cls = service.blueprint.user_cls
            self.__doc__ = user_cls.__doc__
            self.__module__ = user_cls.__module__
            self.__qualname__ = user_cls.__qualname__

    @classmethod
    def declared(cls, app: Any, user_cls: type, options: Mapping[str, Any]) -> Cls:
        """What `@app.cls()` gives. Raises InvalidError for a class whose objects no container could make."""
        service = Service.declared(app, user_cls, options)
        assert isinstance(service, Service)
        if context.is_local():
            service.blueprint.check()
        return cls(service.name, OfApp(app, service.name), service)

    @property
    def blueprint(self) -> Blueprint:
        """What objects are made by. Raises ExecutionError for a class that was looked up."""
        if self.service is None:
            raise ExecutionError(f"{self.name} has no code here: only its objects' methods can be called")
        return self.service.blueprint

    @property
    def app(self) -> Any:
        """The app that it was declared with; None for one that was looked up."""
        return self._handle.app

    def __call__(self, /, *args: Any, **parameters: Any) -> Any:
        """An object. Raises InvalidError for parameters that do not fit; of a class that was looked up, its
        first call does.
        """
        if args:
            raise InvalidError(f"{self.name}(...) takes its parameters by name, such as {self.name}(size=1)")
        blueprint = None if self.service is None else self.service.blueprint
        if blueprint is not None:
            blueprint.check_parameters(parameters)
        handle = self._handle
        if parameters or self._overrides is not None:
            handle = Variant(handle, parameters, self._overrides)
        bound = Bound(self.name, handle, blueprint, parameters)
        if self.service is not None and context.is_local():
            bound.home = self.service.home
        return Obj(bound)

    def with_options(self, **options: Unpack[VariantOptions]) -> Cls:
        """The same class with other options, and containers of its own. Raises InvalidError.

        What is None, or not given, stays as it was declared; `env` adds to what there is.
        """
        from squall.sdk import overrides

        return self._changed(overrides.of_options(f"{self.name}.with_options", options))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Cls:
        """The same class with `@squall.concurrent` of these numbers, and containers of its own."""
        from squall.sdk import overrides

        return self._changed(overrides.of_concurrency(max_inputs, target_inputs))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Cls:
        """The same class with `@squall.batched` of these numbers for its only method."""
        from squall.sdk import overrides

        return self._changed(overrides.of_batching(max_batch_size, wait_ms))

    def _changed(self, changes: Overrides) -> Cls:
        from squall.sdk import overrides

        return Cls(self.name, self._handle, self.service, overrides.merged(self._overrides, changes))

    @dual_function
    @staticmethod
    async def from_name(
        mode: Mode,
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Client | AsyncClient | None = None,
    ) -> Cls:
        """A class of a deployed app, looked up with the first call: of the newest version at any time, or of
        one `version` for good.
        """
        del mode  # nothing is asked here
        access = Access(client, environment_name or "")
        return Cls(name, Deployed(checks.app_name(app_name), name, access, checks.version(version)), None)

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        """`class Larger(Model)` inherits from the class that was decorated."""
        return (self.blueprint.user_cls,)

    def __reduce__(self) -> tuple[Any, ...]:
        """As an argument or a global of another function: the same class of the container's app."""
        return (_restored, (self.name, self._handle, self._overrides))

    def __getattr__(self, name: str) -> Any:
        service = self.__dict__.get("service")
        if name.startswith("__") or service is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(service.blueprint.user_cls, name)
        if isinstance(value, Member):
            raise NotAnObjectError(f"make an object first: {self.name}(...).{name}")
        return value

    def __repr__(self) -> str:
        return f"<Cls {self.name}>"


unavailable.former_methods(Cls, {"lookup": "Cls.from_name(app, name)"})


def _restored(name: str, handle: Handle, overrides: Overrides | None) -> Cls:
    return Cls(name, handle, None, overrides)
