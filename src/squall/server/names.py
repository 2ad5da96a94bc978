"""What peers may call things. Nothing that arrives is used before it has passed here."""

from __future__ import annotations

import re
import secrets
from typing import NoReturn

from squall.wire import parcels

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FUNCTION = re.compile(r"[A-Za-z_<][A-Za-z0-9_.<>*-]{0,254}")
_CALL = re.compile(r"fc-[A-Za-z0-9_-]{16,64}")
_BLOB = re.compile(r"[0-9a-f]{64}")
_MANIFEST = re.compile(r"mo-[0-9a-f]{32}")
_IMAGE = re.compile(r"im-[0-9a-f]{32}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Refusal(Exception):
    """What is asked cannot be done: a code of `wire.messages.Failure` and one line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def new_id(prefix: str) -> str:
    """An id that nobody can guess."""
    return f"{prefix}-{secrets.token_hex(16)}"


#: Labels of an app.
MAX_TAGS = 50
_TAG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_TAG_VALUE = 255


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise Refusal("invalid", f"{len(tags)} tags: an app has {MAX_TAGS} at most")
    for key, value in tags.items():
        _check(_TAG_KEY, key, "tag", "letters, digits, '.', '_', '/' and '-', 63 at most")
        if len(value) > _TAG_VALUE or not value.isprintable():
            raise Refusal(
                "invalid", f"the value of tag {key} must be one line of {_TAG_VALUE} characters at most"
            )
    return tags


def check_environment(name: str) -> str:
    return _check(_NAME, name, "environment name", "letters, digits, '.', '_' and '-', 64 at most")


def check_workspace(name: str) -> str:
    return _check(_NAME, name, "workspace name", "letters, digits, '.', '_' and '-', 64 at most")


def check_app(name: str) -> str:
    return _check(_NAME, name, "app name", "letters, digits, '.', '_' and '-', 64 at most")


def check_secret(name: str) -> str:
    return _check(_NAME, name, "name of a secret", "letters, digits, '.', '_' and '-', 64 at most")


def check_function(name: str) -> str:
    return _check(_FUNCTION, name, "function name", "a Python name, 255 characters at most")


def check_call(call_id: str) -> str:
    return _check(_CALL, call_id, "call id", "'fc-' and at least 16 letters and digits")


def check_blob(blob: str) -> str:
    return _check(_BLOB, blob, "blob id", "a SHA-256 in lower-case hex")


def check_parcel(parcel: str) -> str:
    if not parcels.is_name(parcel):
        raise Refusal("invalid", f"no parcel's name: {parcel[:80]!r}")
    return parcel


def check_image(image: str) -> str:
    return _check(_IMAGE, image, "image id", "'im-' and 32 hex digits")


def check_node(node: str) -> str:
    return _check(_NODE, node, "node id", "letters, digits, '.', '_' and '-', 128 at most")


def is_manifest(value: object) -> bool:
    return isinstance(value, str) and _MANIFEST.fullmatch(value) is not None


def one_line(text: str, limit: int = 2000) -> str:
    """Text of a peer as a part of a message: no line breaks, bounded."""
    return " ".join(text[: limit + 1].split())[:limit]


def _check(pattern: re.Pattern[str], value: str, what: str, rule: str) -> str:
    if pattern.fullmatch(value) is None:
        _refuse(value, what, rule)
    return value


def _refuse(value: str, what: str, rule: str) -> NoReturn:
    raise Refusal("invalid", f"{one_line(value, 80)!r} is no {what}: use {rule}")
