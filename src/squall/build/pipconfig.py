"""The machine's pip settings, translated for uv: a build finds the packages that `pip install` here would.

Pure: takes the environment and a way to read files, gives values. pip merges its files from the most general
to the most special (each key of a later one replaces it), and its variables `PIP_<KEY>` win over all files.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

ReadText = Callable[[str], "str | None"]

#: Where distributions keep the bundle of authorities that the machine trusts.
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
#: Who names a bundle of authorities, the most special first, after pip's own settings.
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

#: uv's own variables win over pip's settings.
_UV_VARIABLES = {
    "index_url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra_index_urls": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find_links": ("UV_FIND_LINKS",),
    "constraints": ("UV_CONSTRAINT",),
    "trusted_hosts": ("UV_INSECURE_HOST",),
    "timeout": ("UV_HTTP_TIMEOUT",),
}


@dataclass(frozen=True)
class PipSettings:
    """`constraints` and `ca_bundle` are paths of files; links and indexes are URLs or absolute paths.

    `timeout` is in seconds, as text; an empty text means that nobody set it. `strategy` is uv's: pip takes
    the best version of all indexes, which uv calls `unsafe-best-match`.
    """

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    timeout: str = ""
    no_index: bool = False
    ca_bundle: str = ""
    proxies: tuple[tuple[str, str], ...] = ()
    strategy: str = "unsafe-best-match"

    def for_uv(self) -> dict[str, str]:
        """Environment variables that make uv behave the same."""
        values = {
            "UV_INDEX_URL": self.index_url,  # and not UV_DEFAULT_INDEX: a user's --index-url must win
            "UV_INDEX": " ".join(self.extra_index_urls),
            "UV_FIND_LINKS": ",".join(self.find_links),
            "UV_CONSTRAINT": " ".join(self.constraints),
            "UV_INSECURE_HOST": " ".join(self.trusted_hosts),
            "UV_HTTP_TIMEOUT": self.timeout,
            "UV_INDEX_STRATEGY": self.strategy,
        }
        return {name: value for name, value in values.items() if value} | self.for_network()

    def for_network(self) -> dict[str, str]:
        """Environment variables for any program: whom to trust, and by which proxies to go out."""
        names = (*CA_VARIABLES, "PIP_CERT") if self.ca_bundle else ()
        return {**dict.fromkeys(names, self.ca_bundle), **dict(self.proxies)}

    def for_pip(self) -> str:
        """The same as a pip.conf, for commands of the user's that call pip."""
        values = {
            "index-url": self.index_url,
            "extra-index-url": "\n    ".join(self.extra_index_urls),
            "find-links": "\n    ".join(self.find_links),
            "constraint": "\n    ".join(self.constraints),
            "trusted-host": "\n    ".join(self.trusted_hosts),
            "timeout": self.timeout,
            "no-index": "true" if self.no_index else "",
            "cert": self.ca_bundle,
        }
        return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value)

    def local_paths(self) -> tuple[str, ...]:
        """Directories of this machine that indexes and links are in, each once."""
        places = (self.index_url, *self.extra_index_urls, *self.find_links)
        return tuple(dict.fromkeys(path for place in places if (path := local_root(place))))

    def present(self, exists: Callable[[str], bool]) -> PipSettings:
        """Without local places that are not there: pip goes on without them, uv would stop."""

        def usable(place: str) -> bool:
            path = _local_path(place)
            return not path or exists(path)

        return replace(
            self,
            index_url=self.index_url if usable(self.index_url) else "",
            extra_index_urls=tuple(filter(usable, self.extra_index_urls)),
            find_links=tuple(filter(usable, self.find_links)),
        )

    def moved(self, move: Callable[[str], str]) -> PipSettings:
        """The same settings with every local path given another name."""
        return replace(
            self,
            index_url=_moved(self.index_url, move),
            extra_index_urls=tuple(_moved(url, move) for url in self.extra_index_urls),
            find_links=tuple(_moved(link, move) for link in self.find_links),
            constraints=tuple(move(path) for path in self.constraints),
            ca_bundle=move(self.ca_bundle) if self.ca_bundle else "",
        )


def read(environ: Mapping[str, str], read_text: ReadText, home: str) -> PipSettings:
    """The settings of a process with this environment; `read_text` gives None for a missing file."""
    values = _file_values(environ, read_text, home) | _variables(environ)
    settings = PipSettings(
        index_url=values.get("index-url", ""),
        extra_index_urls=_words(values, "extra-index-url"),
        find_links=tuple(_expanded(link, home) for link in _words(values, "find-links")),
        constraints=tuple(_expanded(path, home) for path in _words(values, "constraint")),
        trusted_hosts=_words(values, "trusted-host"),
        timeout=values.get("timeout") or values.get("default-timeout", ""),
        no_index=values.get("no-index", "").lower() in {"1", "true", "yes", "on"},
        proxies=_proxies(environ, values.get("proxy", "")),
        ca_bundle=_ca_bundle(environ, values.get("cert", ""), read_text),
    )
    return _with_uv(settings, environ)


def local_root(place: str) -> str:
    """The directory to show for an index or a link on this machine; empty for one that is elsewhere.

    The pages of an index `.../simple` link to files beside it (PEP 503), so the directory above comes along.
    """
    path = _local_path(place)
    folder, name = os.path.split(path)
    return folder if name == "simple" and folder != "/" else path


def config_files(environ: Mapping[str, str], home: str) -> list[str]:
    """The files of pip, the most general first."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    system = [f"{d}/pip/pip.conf" for d in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if d]
    user_dir = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    user = [named] if named else [f"{home}/.pip/pip.conf", f"{user_dir}/pip/pip.conf"]
    return [*system, "/etc/pip.conf", *user]


def _file_values(environ: Mapping[str, str], read_text: ReadText, home: str) -> dict[str, str]:
    general: dict[str, str] = {}
    install: dict[str, str] = {}
    for path in config_files(environ, home):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(read_text(path) or "")
        except configparser.Error:
            continue
        for section, values in (("global", general), ("install", install)):
            if parser.has_section(section):
                values.update((_key(k), v) for k, v in parser.items(section) if v)
    return general | install


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {_key(k[4:]): v for k, v in environ.items() if k.startswith("PIP_") and v}


def _key(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _words(values: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(values.get(key, "").split())


def _expanded(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def _proxies(environ: Mapping[str, str], named: str) -> tuple[tuple[str, str], ...]:
    """Both spellings of every variable, since programs differ in which one they read."""
    found = {name: environ.get(name) or environ.get(name.upper(), "") for name in PROXY_VARIABLES}
    if named:
        found |= {"http_proxy": named, "https_proxy": named}
    return tuple((spelling, v) for name, v in found.items() if v for spelling in (name, name.upper()))


def _ca_bundle(environ: Mapping[str, str], named: str, read_text: ReadText) -> str:
    candidates = (named, *(environ.get(name, "") for name in CA_VARIABLES), *CA_BUNDLES)
    return next((path for path in candidates if path and read_text(path) is not None), "")


def _with_uv(settings: PipSettings, environ: Mapping[str, str]) -> PipSettings:
    values = {
        field: value
        for field, names in _UV_VARIABLES.items()
        if (value := next((v for name in names if (v := environ.get(name))), ""))
    }
    lists = {
        f: tuple(v.replace(",", " ").split()) for f, v in values.items() if f not in {"index_url", "timeout"}
    }
    return replace(
        settings,
        index_url=values.get("index_url", settings.index_url),
        timeout=values.get("timeout", settings.timeout),
        strategy=environ.get("UV_INDEX_STRATEGY") or settings.strategy,
        extra_index_urls=lists.get("extra_index_urls", settings.extra_index_urls),
        find_links=lists.get("find_links", settings.find_links),
        constraints=lists.get("constraints", settings.constraints),
        trusted_hosts=lists.get("trusted_hosts", settings.trusted_hosts),
    )


def _local_path(place: str) -> str:
    if place.startswith("file:"):
        return os.path.normpath(unquote(urlsplit(place).path))
    return os.path.normpath(place) if place.startswith("/") else ""


def _moved(place: str, move: Callable[[str], str]) -> str:
    path = _local_path(place)
    if not path:
        return place
    return f"file://{move(path)}" if place.startswith("file:") else move(path)
