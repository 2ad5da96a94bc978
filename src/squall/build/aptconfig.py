"""The machine's apt settings: its distribution's mirrors, their keys, and how to reach them.

Pure: parses the texts of sources files (both formats), `apt-config dump` and `apt-cache policy`. Only the
distribution's own releases over HTTP count; a vendor's repository says nothing about a base system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Settings that say how to reach a mirror. Others are about the host, or name programs of it.
_REACH = re.compile(
    r"Acquire::(?:(?:http|https)::(?!Proxy-Auto-Detect|ProxyAutoDetect|SslCert|SslKey|CAInfo|CAPath)[\w:.-]+"
    r"|Retries|ForceIPv4|ForceIPv6|Check-Valid-Until|Check-Date|Max-FutureTime)\b.* \"[^\"]*\";",
    re.IGNORECASE,
)
_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>[^#]*)"
)
_SCHEMES = ("http://", "https://")
_ALIASES = frozenset({"stable", "oldstable", "testing", "unstable", "sid"})

#: Python of the releases, for a machine whose package lists are empty.
RELEASE_PYTHON = {
    "bullseye": "3.9",
    "bookworm": "3.11",
    "trixie": "3.13",
    "focal": "3.8",
    "jammy": "3.10",
    "noble": "3.12",
}


@dataclass(frozen=True)
class Source:
    """One mirror, release and its components. `signed_by` is a path, a key's text, or empty."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False

    def line(self, keys: str) -> str:
        """In the one-line format, with the keyrings (paths, comma between) in place of `signed_by`."""
        options = [*([f"signed-by={keys}"] if keys else []), *(["trusted=yes"] if self.trusted else [])]
        shown = f"[{' '.join(options)}] " if options else ""
        return f"deb {shown}{self.uri} {self.suite} {' '.join(self.components)}\n"


@dataclass(frozen=True)
class AptSettings:
    """Sources of the release `suite` (and its updates), and apt options as lines of an apt.conf.

    `trusted` are the paths of the keyrings that hold for sources that name none.
    """

    suite: str = ""
    sources: tuple[Source, ...] = ()
    options: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()

    def sources_list(self, key_path: Callable[[str], str]) -> str:
        """A sources.list; `key_path` says where a key (path, text, "" for the trusted) is found."""
        return "".join(source.line(key_path(source.signed_by)) for source in self.sources)


def settings(
    files: Iterable[tuple[str, str]], codename: str, dump: str, trusted: Iterable[str] = ()
) -> AptSettings:
    """From the (name, text) of sources files, the release's codename and the output of `apt-config dump`."""
    found = [s for name, text in files for s in parse_sources(name, text) if _is_release(s, codename)]
    suites = [s.suite for s in found if "-" not in s.suite]
    if not suites:
        return AptSettings()
    options = tuple(line for line in dump.splitlines() if _REACH.fullmatch(line))
    return AptSettings(suites[0], tuple(dict.fromkeys(found)), options, tuple(trusted))


def parse_sources(name: str, text: str) -> list[Source]:
    """All binary sources of a file, by its name in the deb822 (`.sources`) or the one-line format."""
    return _stanzas(text) if name.endswith(".sources") else _lines(text)


def codename(os_release: str) -> str:
    """VERSION_CODENAME of an os-release file; empty where it has none."""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?\s*$', os_release, re.MULTILINE)
    return found.group(1) if found else ""


def candidate_python(policy: str, suite: str) -> str:
    """The minor version, as "3.11", by `apt-cache policy python3` or the release's name; else empty."""
    found = re.search(r"Candidate:\s+(?:\d+:)?(\d+\.\d+)", policy)
    return found.group(1) if found else RELEASE_PYTHON.get(suite, "")


def _is_release(source: Source, codename: str) -> bool:
    head = source.suite.partition("-")[0].partition("/")[0]
    return source.uri.startswith(_SCHEMES) and head in {codename, *_ALIASES}


def _lines(text: str) -> list[Source]:
    found = (_ONE_LINE.match(line.strip()) for line in text.splitlines())
    return [_from_line(m) for m in found if m]


def _from_line(match: re.Match[str]) -> Source:
    pairs = (option.partition("=") for option in (match["options"] or "").split())
    options = {name.lower(): value for name, _, value in pairs}
    trusted = options.get("trusted") == "yes"
    components = tuple(match["rest"].split())
    return Source(match["uri"], match["suite"], components, options.get("signed-by", ""), trusted)


def _stanzas(text: str) -> list[Source]:
    blocks = re.split(r"\n\s*\n", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [source for block in blocks for source in _from_stanza(_fields(block))]


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if line[:1].isspace():  # a value goes on; " ." stands for an empty line
            fields[name] = fields.get(name, "") + "\n" + ("" if line.strip() == "." else line.strip())
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.strip()
    return fields


def _from_stanza(fields: dict[str, str]) -> list[Source]:
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return []
    key = fields.get("signed-by", "").strip()
    components = tuple(fields.get("components", "").split())
    trusted = fields.get("trusted", "").lower() == "yes"
    return [
        Source(uri, suite, components, key, trusted)
        for uri in fields.get("uris", "").split()
        for suite in fields.get("suites", "").split()
    ]
