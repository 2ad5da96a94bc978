"""requirements.txt files, as far as an image's packages go. Pure but for reading the files."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field

from squall.exception import InvalidError
from squall.sdk.trees import read

#: Options with a value, by the name that `Requirements` has for them.
_WITH_VALUE = {
    "-i": "index_url",
    "--index-url": "index_url",
    "--extra-index-url": "extra_index_url",
    "-f": "find_links",
    "--find-links": "find_links",
}
_MAX_DEPTH = 10


@dataclass
class Requirements:
    packages: list[str] = field(default_factory=list)
    index_url: str | None = None
    extra_index_url: str | None = None
    find_links: str | None = None
    pre: bool = False


def parse(path: str) -> Requirements:
    """Raises InvalidError for a file that is not there, and for lines that an image cannot have."""
    found = Requirements()
    _parse(path, found, 0)
    return found


def _parse(path: str, found: Requirements, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidError(f"{path}: requirements files include one another too deeply")
    text = read(path).decode("utf-8-sig", "replace").replace("\\\n", " ")
    for number, line in enumerate(text.splitlines(), 1):
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        if content.startswith("-"):
            _option(f"{path}:{number}", path, content, found, depth)
        elif content:
            # Hashes belong to files of an index that the machine may not use.
            found.packages.append(re.sub(r"\s+--hash[= ]\S+", "", content))


def _option(where: str, path: str, content: str, found: Requirements, depth: int) -> None:
    first, *others = shlex.split(content)
    name, equals, joined = first.partition("=")
    values = [joined, *others] if equals else others
    value = values[0] if len(values) == 1 else ""
    if name in {"-r", "--requirement"} and value:
        _parse(os.path.join(os.path.dirname(path), value), found, depth + 1)
    elif name in _WITH_VALUE and value:
        setattr(found, _WITH_VALUE[name], value)
    elif name == "--pre":
        found.pre = True
    else:
        raise InvalidError(
            f"{where}: an image cannot have {content!r}: only packages, -r, indexes and --pre are understood"
        )
