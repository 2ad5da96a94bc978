"""What the server refuses, as the exceptions that users know."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from squall import exception
from squall.client.api import ServiceRefusal

if TYPE_CHECKING:
    from collections.abc import Iterator

_ERRORS: dict[str, type[exception.Error]] = {
    "auth": exception.AuthError,
    "version": exception.VersionError,
    "invalid": exception.InvalidError,
    "not_found": exception.NotFoundError,
    "expired": exception.OutputExpiredError,
    "exists": exception.AlreadyExistsError,
    "exhausted": exception.ResourceExhaustedError,
    "unplaceable": exception.ResourceExhaustedError,
    "build": exception.ImageBuildError,
    "unavailable": exception.ServiceError,
    "internal": exception.InternalError,
}


def error_of(refusal: ServiceRefusal) -> exception.Error:
    return _ERRORS.get(refusal.code, exception.ServiceError)(refusal.message)


@contextmanager
def translated() -> Iterator[None]:
    """Refusals raised in the block leave it as exceptions of `squall.exception`."""
    try:
        yield
    except ServiceRefusal as refusal:
        raise error_of(refusal) from None
