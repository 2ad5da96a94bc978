"""Settings, profiles, and the file that keeps them."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import squall.cli
from squall import config
from squall.cli.config import with_setting
from squall.exception import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """# my settings
server_url = "http://top:1"

[profiles.work]
server_url = "http://work:8400"  # ours
token = "sq-work"
[profiles.home]
environment = "dev"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(TEXT)
    for name in list(os.environ):
        if name.startswith("SQUALL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SQUALL_CONFIG", str(path))
    monkeypatch.setenv("SQUALL_PROFILE", "")  # and not deleted: commands set it for their process
    return path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(squall.cli.main, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.mark.usefixtures("file")
def test_a_profile_lies_over_the_top() -> None:
    assert config.load() == config.Config("http://top:1")
    chosen = config.load({**os.environ, "SQUALL_PROFILE": "work"})
    assert chosen == config.Config("http://work:8400", "sq-work", "main", "work")
    both = config.load({**os.environ, "SQUALL_PROFILE": "home", "SQUALL_ENVIRONMENT": "test"})
    assert both == config.Config("http://top:1", "", "test", "home")
    with pytest.raises(InvalidError, match=r"no profile 'away'.*it has: home, work"):
        config.load({**os.environ, "SQUALL_PROFILE": "away"})


@pytest.mark.usefixtures("file")
def test_show_hides_the_token() -> None:
    assert "sq-work" not in run("--profile", "work", "config", "show")
    assert json.loads(run("config", "show", "--json", "--no-redact"))["token"] == "sq-work"


def test_profiles_are_listed_and_activated(file: Path) -> None:
    assert run("profile", "current") == "none\n"
    assert run("profile", "activate", "work") == "The profile is work now.\n"
    assert run("profile", "current") == "work\n"
    listed = json.loads(run("profile", "list", "--json"))
    assert listed == [{"name": "home", "active": False}, {"name": "work", "active": True}]
    assert file.read_text() == f'profile = "work"\n{TEXT}'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "no profile 'away'" in run("profile", "activate", "away", code=1)


def test_a_profile_is_left_again(file: Path) -> None:
    run("profile", "activate", "work")
    assert run("profile", "activate", "none") == "No profile is active now.\n"
    assert run("profile", "current") == "none\n"
    assert config.load().server_url == "http://top:1"
    file.write_text('server_ulr = "http://typo:1"')
    assert "has 'server_ulr', which is no setting" in run("status", code=1)


def test_the_environment_is_set_in_the_active_profile(file: Path) -> None:
    run("config", "set-environment", "staging")
    assert config.load().environment == "staging"
    run("profile", "activate", "home")
    run("config", "set-environment", "prod")
    assert config.load().environment == "prod"
    assert config.read_file().settings["environment"] == "staging"
    assert "# my settings" in file.read_text()
    assert "cannot name an environment" in run("config", "set-environment", "a b", code=1)


def test_a_first_file_is_made(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUALL_CONFIG", str(file.parent / "new" / "config.toml"))
    run("config", "set-environment", "dev")
    assert config.load().environment == "dev"
    monkeypatch.setenv("SQUALL_CONFIG", "/proc/nowhere/config.toml")
    assert run("config", "set-environment", "dev", code=1).startswith("squall: Cannot write /proc/nowhere")


@pytest.mark.parametrize(
    "text", ["profiles = 3", "[profiles]\nwork = 3", "[profiles.work]\ntoken = 3", "token = 3"]
)
def test_what_makes_no_sense(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidError, match=str(file)):
        config.load()


@pytest.mark.parametrize(
    ("text", "section", "wanted"),
    [
        ("", "", 'a = "v"\n'),
        ('a = "u"\n', "", 'a = "v"\n'),
        ('b = "u"\n[t]\na = "u"\n', "", 'a = "v"\nb = "u"\n[t]\na = "u"\n'),
        ('a = "u"\n[t]\na = "u"\n', "t", 'a = "u"\n[t]\na = "v"\n'),
        ("[t]\n[u]\n", "t", '[t]\na = "v"\n[u]\n'),
        ('b = "u"\n', "t", 'b = "u"\n\n[t]\na = "v"\n'),
        ("", "t", '[t]\na = "v"\n'),
    ],
)
def test_one_line_of_the_file_changes(text: str, section: str, wanted: str) -> None:
    assert with_setting(text, section, "a", "v") == wanted
