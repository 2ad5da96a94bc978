from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

import pytest

from squall.build import pipconfig
from squall.build.pipconfig import PipSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME = "/home/u"


def read(files: Mapping[str, str], **environ: str) -> PipSettings:
    return pipconfig.read(environ, files.get, HOME)


def test_a_bare_machine_has_no_settings() -> None:
    settings = read({})

    assert settings == PipSettings()
    assert settings.for_uv() == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_later_files_replace_keys_of_earlier_ones() -> None:
    settings = read(
        {
            "/etc/xdg/pip/pip.conf": "[global]\nindex-url = https://xdg/\ntimeout = 7\n",
            "/etc/pip.conf": "[global]\nindex-url = https://etc/\n",
            f"{HOME}/.pip/pip.conf": "[global]\nextra-index-url = https://legacy/\n",
            f"{HOME}/.config/pip/pip.conf": "[global]\nextra_index_url =\n    https://a/\n    https://b/\n",
        }
    )

    assert settings.index_url == "https://etc/"
    assert settings.extra_index_urls == ("https://a/", "https://b/")
    assert settings.timeout == "7"


def test_the_install_section_wins_over_global_and_variables_over_both() -> None:
    files = {
        "/etc/pip.conf": "[install]\nindex-url = https://install/\n[global]\nindex-url = https://global/\n"
    }

    assert read(files).index_url == "https://install/"
    assert read(files, PIP_INDEX_URL="https://env/").index_url == "https://env/"


def test_a_named_file_takes_the_place_of_the_users() -> None:
    files = {
        f"{HOME}/.config/pip/pip.conf": "[global]\nindex-url = https://user/\n",
        "/named": "[global]\ntrusted-host = one two\n",
    }

    settings = read(files, PIP_CONFIG_FILE="/named")

    assert settings.index_url == ""
    assert settings.trusted_hosts == ("one", "two")


def test_dev_null_means_no_files_at_all() -> None:
    files = {"/etc/pip.conf": "[global]\nindex-url = https://etc/\n"}

    assert read(files, PIP_CONFIG_FILE="/dev/null").index_url == ""


def test_a_file_that_makes_no_sense_is_passed_over() -> None:
    files = {"/etc/xdg/pip/pip.conf": "index-url = no section", "/etc/pip.conf": "[global]\ntimeout = 3\n"}

    assert read(files).timeout == "3"


def test_uvs_own_variables_win() -> None:
    files = {"/etc/pip.conf": "[global]\nindex-url = https://pip/\nfind-links = /a /b\n"}

    settings = read(files, UV_DEFAULT_INDEX="https://uv/", UV_FIND_LINKS="/c,/d", UV_HTTP_TIMEOUT="9")

    assert settings.index_url == "https://uv/"
    assert settings.find_links == ("/c", "/d")
    assert settings.timeout == "9"


def test_translation_for_uv() -> None:
    settings = PipSettings(
        index_url="https://i/",
        extra_index_urls=("https://x/", "https://y/"),
        find_links=("/a", "/b"),
        constraints=("/c1", "/c2"),
        trusted_hosts=("h",),
        timeout="5",
        ca_bundle="/ca",
        proxies=(("https_proxy", "http://p"),),
    )

    env = settings.for_uv()

    assert env["UV_INDEX_URL"] == "https://i/"
    assert env["UV_INDEX"] == "https://x/ https://y/"
    assert env["UV_FIND_LINKS"] == "/a,/b"
    assert env["UV_CONSTRAINT"] == "/c1 /c2"
    assert env["UV_INSECURE_HOST"] == "h"
    assert env["UV_HTTP_TIMEOUT"] == "5"
    assert env["SSL_CERT_FILE"] == env["REQUESTS_CA_BUNDLE"] == env["PIP_CERT"] == "/ca"
    assert env["https_proxy"] == "http://p"


def test_the_same_as_a_pip_conf_reads_back() -> None:
    settings = PipSettings(
        index_url="https://i/",
        extra_index_urls=("https://x/", "https://y/"),
        find_links=("/a", "/b"),
        no_index=True,
    )

    assert read({"/etc/pip.conf": settings.for_pip()}) == settings


def test_pip_conf_keeps_percent_signs() -> None:
    settings = PipSettings(index_url="https://user:p%40ss@i/")
    parser = configparser.RawConfigParser()
    parser.read_string(settings.for_pip())

    assert parser["global"]["index-url"] == settings.index_url


def test_the_authorities_are_those_that_pip_trusts_else_the_systems() -> None:
    system = pipconfig.CA_BUNDLES[1]

    assert read({system: "certs"}).ca_bundle == system
    assert read({system: "certs", "/mine": "certs"}, CURL_CA_BUNDLE="/mine").ca_bundle == "/mine"
    assert (
        read({"/pip": "certs", "/mine": "certs"}, SSL_CERT_FILE="/mine", PIP_CERT="/pip").ca_bundle == "/pip"
    )
    assert read({system: "certs"}, SSL_CERT_FILE="/missing").ca_bundle == system


def test_proxies_in_both_spellings_and_pips_own_wins() -> None:
    assert dict(read({}, HTTPS_PROXY="http://p", no_proxy="local").proxies) == {
        "https_proxy": "http://p", "HTTPS_PROXY": "http://p", "no_proxy": "local", "NO_PROXY": "local",
    }  # fmt: skip
    assert dict(read({}, HTTPS_PROXY="http://p", PIP_PROXY="http://q").proxies)["https_proxy"] == "http://q"


@pytest.mark.parametrize(
    ("place", "root"),
    [
        ("https://index/simple", ""),
        ("file:///srv/pypi/simple/", "/srv/pypi"),
        ("file:///srv/my%20pypi/simple", "/srv/my pypi"),
        ("file:///simple", "/simple"),
        ("/srv/wheels", "/srv/wheels"),
        ("file:///srv/wheels/", "/srv/wheels"),
        ("", ""),
    ],
)
def test_which_directory_a_place_needs(place: str, root: str) -> None:
    assert pipconfig.local_root(place) == root


def test_moving_renames_local_places_only() -> None:
    settings = PipSettings(
        extra_index_urls=("file:///srv/pypi/simple", "https://x/simple"),
        find_links=("/srv/wheels",),
        constraints=("/c",),
        ca_bundle="/ca",
    )

    moved = settings.moved(lambda path: "/new" + path)

    assert moved.extra_index_urls == ("file:///new/srv/pypi/simple", "https://x/simple")
    assert (moved.find_links, moved.constraints, moved.ca_bundle) == (
        ("/new/srv/wheels",),
        ("/new/c",),
        "/new/ca",
    )


def test_home_is_expanded_and_missing_places_are_left_out() -> None:
    settings = read({}, PIP_FIND_LINKS="~/wheels /gone https://w/")

    assert settings.find_links == (f"{HOME}/wheels", "/gone", "https://w/")
    assert settings.present(lambda path: path != "/gone").find_links == (f"{HOME}/wheels", "https://w/")
