from __future__ import annotations

import pytest

from squall.build import aptconfig
from squall.build.aptconfig import Source

DEB822 = """\
Types: deb deb-src
# a comment
URIs: http://mirror/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/d.gpg

Enabled: no
Types: deb
URIs: http://disabled/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://inline/debian
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """\
# deb http://commented/ bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main non-free # a comment
deb-src http://mirror/debian bookworm main
deb cdrom:[Debian]/ bookworm main
deb [trusted=yes] http://local/debian bookworm main
deb https://vendor/apt vendor-suite main
"""


def test_deb822() -> None:
    found = aptconfig.parse_sources("debian.sources", DEB822)

    first = Source("http://mirror/debian", "bookworm", ("main", "contrib"), "/usr/share/keyrings/d.gpg")
    assert found[0] == first
    assert [s.suite for s in found] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert found[2].signed_by.splitlines()[0] == "-----BEGIN PGP PUBLIC KEY BLOCK-----"
    assert "\n\nabc\n" in found[2].signed_by


def test_one_line_format() -> None:
    found = aptconfig.parse_sources("sources.list", ONE_LINE)

    assert found[0] == Source("http://mirror/debian", "bookworm", ("main", "non-free"), "/k.gpg")
    assert Source("http://local/debian", "bookworm", ("main",), trusted=True) in found


def test_only_the_release_over_http_counts() -> None:
    settings = aptconfig.settings([("sources.list", ONE_LINE)], "bookworm", "")

    assert settings.suite == "bookworm"
    assert [s.uri for s in settings.sources] == ["http://mirror/debian", "http://local/debian"]


def test_a_machine_without_sources_of_its_release_has_none() -> None:
    assert aptconfig.settings([("sources.list", ONE_LINE)], "noble", "") == aptconfig.AptSettings()


def test_sources_list_names_keys_where_they_will_be() -> None:
    settings = aptconfig.settings([("sources.list", ONE_LINE)], "bookworm", "")

    text = settings.sources_list(lambda key: "/kit/k.gpg" if key else "/kit/trusted.gpg")

    assert text == (
        "deb [signed-by=/kit/k.gpg] http://mirror/debian bookworm main non-free\n"
        "deb [signed-by=/kit/trusted.gpg trusted=yes] http://local/debian bookworm main\n"
    )
    assert settings.sources_list(lambda _: "").splitlines()[0].startswith("deb http://mirror")


def test_only_options_about_reaching_a_mirror_are_kept() -> None:
    dump = """\
Acquire "";
Acquire::http::Proxy "http://proxy:3142";
Acquire::https::Verify-Peer "true";
Acquire::http::Proxy-Auto-Detect "/usr/bin/program";
Acquire::https::CAInfo "/host/only.pem";
Acquire::Check-Date "false";
Acquire::IndexTargets::deb::Packages::MetaKey "x";
Acquire::AllowInsecureRepositories "1";
"""

    settings = aptconfig.settings([("sources.list", ONE_LINE)], "bookworm", dump)

    assert settings.options == (
        'Acquire::http::Proxy "http://proxy:3142";',
        'Acquire::https::Verify-Peer "true";',
        'Acquire::Check-Date "false";',
    )


@pytest.mark.parametrize(
    ("policy", "suite", "python"),
    [
        ("python3:\n  Candidate: 3.11.2-1+b1\n", "bookworm", "3.11"),
        ("python3:\n  Candidate: 3.12.3-0ubuntu2\n", "noble", "3.12"),
        ("python3:\n  Candidate: (none)\n", "trixie", "3.13"),
        ("", "bookworm", "3.11"),
        ("", "somewhere", ""),
    ],
)
def test_the_python_of_the_release(policy: str, suite: str, python: str) -> None:
    assert aptconfig.candidate_python(policy, suite) == python


def test_codename() -> None:
    assert aptconfig.codename('NAME="D"\nVERSION_CODENAME=bookworm\n') == "bookworm"
    assert aptconfig.codename("NAME=Arch\n") == ""
