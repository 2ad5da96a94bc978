"""Every error that Squall raises at a user. One line each: what happened, and what to do."""

from __future__ import annotations

import builtins


class Error(Exception):
    """Base of all of Squall's errors."""


class AlreadyExistsError(Error):
    """A thing of that name is there already."""


class AuthError(Error):
    """No token, a wrong one, or one that may not do this."""


class ClientClosed(Error):
    """The client was closed and then used."""


class ConflictError(Error):
    """Somebody else changed the thing meanwhile."""


class ConnectionError(Error, builtins.ConnectionError):  # noqa: A001 - a name of the public surface
    """The server cannot be reached, or went away and did not come back in time."""


class DataLossError(Error):
    """Stored data is damaged."""


class DeserializationError(Error):
    """Bytes from the other side could not be turned into an object here (a missing module, most often)."""


class ExecutionError(Error):
    """The platform could not run the input."""


class ImageBuildError(Error):
    """An image could not be built; the message has the failing step's last lines."""


class InputCancellation(BaseException):
    """Raised in user code when its input is cancelled."""


class InternalError(Error):
    """A bug of Squall's, or a broken host."""


class InternalFailure(Error):
    """The input was lost by the platform after all its re-runs."""


class InvalidError(Error):
    """A wrong value or use: the message says which and what is right."""


class ModuleNotMountable(Error):
    """A module's files cannot be sent: not found, or over the limit."""


class NotFoundError(Error):
    """No such app, function, call, container, ..."""


class PermissionDeniedError(Error):
    """The caller's identity may not do that."""


class RemoteError(Error):
    """User code failed in a way that has no exception object here: the process died, was killed, or
    its exception could not be sent.
    """


class RequestSizeError(Error):
    """An argument, result or request is over its limit."""


class ResourceExhaustedError(Error):
    """Not enough of something: the request can never be placed, or a limit was met."""


class SerializationError(Error):
    """An argument or result cannot be pickled."""


class ServiceError(Error):
    """The server refused or failed; try again later."""


class TimeoutError(Error, builtins.TimeoutError):  # noqa: A001 - a name of the public surface
    """Base of all that took too long."""


class FunctionTimeoutError(TimeoutError):
    """An input ran longer than its function's `timeout`."""


class MountUploadTimeoutError(TimeoutError):
    """Source files could not be sent in time."""


class OutputExpiredError(TimeoutError):
    """The result of a call was kept for 7 days and is gone."""


class UnimplementedError(Error):
    """A part of the surface that this version of Squall does not have."""


class VersionError(Error):
    """Client and server speak different protocols; the message says which to upgrade."""
