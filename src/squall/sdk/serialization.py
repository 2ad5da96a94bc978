"""Python objects to payloads and back. Only the user's own processes ever unpickle."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any

from squall.exception import DeserializationError, RemoteError, RequestSizeError, SerializationError
from squall.runner.protocol import spool
from squall.wire.values import INLINE_LIMIT, PAYLOAD_LIMIT, Payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.runner.protocol.spool import Pickled
    from squall.sdk.ports import Port

PROTOCOL = 5
#: The largest function sent with serialized=True, in bytes.
FUNCTION_LIMIT = 16 << 20


def dump_arguments(
    function: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, by_value: bool
) -> Pickled:
    """The pickle of an input. Raises SerializationError, which names the argument, and RequestSizeError.

    With `by_value`, what is defined in this process' `__main__` is sent whole: the container has another one.
    """
    try:
        return _dump((args, kwargs), by_value=by_value, arguments=True)
    except spool.TooLargeError as error:
        size, limit = error.size >> 20, PAYLOAD_LIMIT >> 20
        raise RequestSizeError(
            f"the arguments of {function} take {size} MiB and {limit} MiB are possible: send them in parts"
        ) from None
    except Exception as error:
        raise _blamed(function, args, kwargs, error) from None


def encoder(function: str, kwargs: dict[str, Any], *, by_value: bool) -> Callable[[tuple[Any, ...]], Pickled]:
    """`dump_arguments` for many inputs with the same keywords."""
    return lambda args: dump_arguments(function, args, kwargs, by_value=by_value)


def dump_function(function: Callable[..., Any], name: str) -> bytes:
    """The cloudpickle of a function, with all of its module that it uses. Raises SerializationError."""
    import sys

    import cloudpickle

    module = sys.modules.get(function.__module__)
    registered = module is not None and function.__module__ != "__main__"
    try:
        if registered:
            cloudpickle.register_pickle_by_value(module)
        data: bytes = cloudpickle.dumps(function, PROTOCOL)
    except Exception as error:
        raise SerializationError(f"the function {name} cannot be serialized: {line(error)}") from None
    finally:
        if registered:
            cloudpickle.unregister_pickle_by_value(module)
    if len(data) > FUNCTION_LIMIT:
        size, limit = len(data) >> 20, FUNCTION_LIMIT >> 20
        raise RequestSizeError(
            f"the function {name} takes {size} MiB serialized and {limit} MiB are possible: "
            "which large global does it use?"
        )
    return data


def loads(data: bytes | memoryview) -> Any:
    """Raises DeserializationError for what this side cannot make an object of."""
    try:
        return spool.load(data, copy=True)  # a container pays for the memory of its results until then
    except Exception as error:
        raise DeserializationError(_why(error)) from None


class Missing(RemoteError):
    """Stands for an exception of a class that is not here; its subclasses have the names of such classes."""

    def __init__(self, *args: object) -> None:
        super().__init__(", ".join(map(str, args)))


def loads_exception(data: bytes | memoryview) -> Any:
    """As `loads`, with a subclass of Missing for each class that is not here."""
    import io
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError):
                return type(name.rpartition(".")[2], (Missing,), {"__module__": module})

    try:
        return Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise DeserializationError(_why(error)) from None


def _why(error: Exception) -> str:
    """Why a value cannot be had here: a module that is missing, or another version of it."""
    if not isinstance(error, (ModuleNotFoundError, AttributeError)):
        return f"a value cannot be unpickled here: {line(error)}"
    module = str(getattr(error, "name", None) or "")
    if isinstance(error, AttributeError):
        found = re.search(r"<module '([\w.]+)'", str(error))
        module = found[1] if found else module
    top = module.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and (top == module or importlib.util.find_spec(top) is None):
        return f"a value needs the module {module}, which is not installed here: install it"
    version = _version(top)
    return (
        f"a value does not fit {top} {version}, which is installed here ({line(error)}): give the image the "
        "same version"
    )


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "as it is"


async def to_payload(port: Port[Any], data: Pickled, inline: int = INLINE_LIMIT) -> Payload:
    """Inline up to so many bytes, or uploaded as a blob, which stays."""
    if isinstance(data, bytes) and len(data) <= inline:
        return Payload(data, size=len(data))
    content = data if isinstance(data, bytes) else data.view()
    if len(data) <= inline:
        return Payload(bytes(content), size=len(data))
    from squall.wire.hashing import blob_id

    blob = blob_id(content)
    await port.upload(blob, content)
    return Payload(blob=blob, size=len(data))


async def to_passing_payload(port: Port[Any], data: Pickled) -> Payload:
    """As `to_payload`, for a call that its caller waits for: a large one need not outlive the call."""
    if not isinstance(data, bytes):
        parcel = await port.offer(data)
        if parcel:
            return Payload(blob=parcel, size=len(data))
    return await to_payload(port, data)


async def from_payload(port: Port[Any], payload: Payload) -> bytes | memoryview:
    return await port.download(payload.blob) if payload.blob else payload.data


def line(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _dump(value: object, *, by_value: bool, arguments: bool = False) -> Pickled:
    try:
        main = _cloudpickle if by_value else None
        return spool.dump(value, PAYLOAD_LIMIT, arguments=arguments, main=main)
    except spool.TooLargeError:
        raise
    except Exception:
        # Lambdas, local functions, classes made on the fly: cloudpickle can, or its error says why not.
        return spool.filed(_cloudpickle(value), PAYLOAD_LIMIT)


def _cloudpickle(value: object) -> bytes:
    import cloudpickle

    return cloudpickle.dumps(value, PROTOCOL)  # type: ignore[no-any-return]


def _blamed(
    function: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> SerializationError:
    """The error of the argument that cannot be pickled."""
    named = [*((f"argument {n}", value) for n, value in enumerate(args, 1)), *kwargs.items()]
    for name, value in named:
        try:
            _dump(value, by_value=False)
        except Exception as cause:  # noqa: PERF203 - the first that fails is the one
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            return SerializationError(
                f"{name} of {function}, of type {kind}, cannot be pickled ({line(cause)}): send plain data"
            )
    return SerializationError(f"the arguments of {function} cannot be pickled: {line(error)}")
