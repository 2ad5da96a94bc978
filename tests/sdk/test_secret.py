"""Secrets as declared: from where, checked without being shown, sent once, never as a part of a function."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall import Secret, exception
from squall.sdk import dotenv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sdk.fake_client import FakeServer


@pytest.mark.covers(
    "App(secrets)",
    "App.function(secrets)",
    "App.cls(secrets)",
    "Secret.from_name",
    "Secret.from_dict",
    "Secret.from_dict(*)",
)
def test_functions_name_them_and_nothing_more(server: FakeServer, load: Callable[..., Any]) -> None:
    server.secrets["db"] = {"PASSWORD": "hunter2"}
    example = load(
        """
app = squall.App("example", secrets=[squall.Secret.from_name("db")])
own = squall.Secret.from_dict({"A": "own-value", "B": None})

@app.function(secrets=[own])
def f(): ...

@app.cls(secrets=[own, squall.Secret.from_name("db", required_keys=["PASSWORD"])])
class C:
    @squall.method()
    def m(self): ...
"""
    )
    with example.app.run():
        pass
    (published,) = server.published
    named = {spec.name: [ref.name for ref in spec.secrets] for spec in published.functions}
    assert named == {"f": ["db", ""], "C": ["db", "", "db"]}
    assert "own-value" not in repr(published)
    assert server.requests.count("secret.put") == 1, "one secret is sent once"


@pytest.mark.covers("Function.with_options(secrets)")
def test_a_variant_has_more(server: FakeServer, load: Callable[..., Any]) -> None:
    example = load("@app.function()\ndef f(x): return x\n")
    more = Secret.from_dict({"TOKEN": "hunter2"})
    variant = example.f.with_options(secrets=[more]).with_options(cpu=2)
    with example.app.run():
        assert variant.remote(3) == 3
    (spec,) = server.variants.values()
    assert len(spec.secrets) == 1
    assert spec.resources.cpu_millis == 2000
    assert "hunter2" not in repr(spec.env)


@pytest.mark.covers("Secret.from_local_environ")
def test_from_the_environment_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "hunter2")
    secret = Secret.from_local_environ(["HERE"])
    assert secret._values == {"HERE": "hunter2"}
    with pytest.raises(exception.InvalidError, match="NOT_SET is not set here"):
        Secret.from_local_environ(["HERE", "NOT_SET"])


@pytest.mark.covers("Secret.from_dotenv", "Secret.from_dotenv(path)", "Secret.from_dotenv(filename)")
def test_from_a_file_above(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "other").write_text("B=2\n")
    assert Secret.from_dotenv(tmp_path / "b" / "c")._values == {"A": "1"}
    assert Secret.from_dotenv(tmp_path / "b" / "c" / "x.py", filename="other")._values == {"B": "2"}
    with pytest.raises(exception.InvalidError, match=r"there is no file \.nothing in"):
        Secret.from_dotenv(tmp_path, filename=".nothing")
    (tmp_path / ".env").write_text("A=1\nhunter2\n")
    with pytest.raises(exception.InvalidError, match=r"\.env: line 2 of the file is not NAME=value") as error:
        Secret.from_dotenv(tmp_path)
    assert "hunter2" not in str(error.value)


def test_in_a_container_declarations_do_nothing(in_container: None) -> None:
    assert Secret.from_local_environ(["NOT_SET"])._values == {}
    assert Secret.from_dotenv("/nowhere")._values == {}
    assert Secret.from_dict({"A": "x"})._values == {}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB = two words \n\n# no\nexport C=3", {"A": "1", "B": "two words", "C": "3"}),
        ("A='a # b'\nB=\"x\\n\\\"y\\\" \" # c\n", {"A": "a # b", "B": 'x\n"y" '}),
        ("C=plain # c\nD=a#b", {"C": "plain", "D": "a#b"}),
        ('A="two\nlines"\nB=${A}!\n', {"A": "two\nlines", "B": "two\nlines!"}),
        ("C=${HOME}\nD=${NONE:-else}", {"C": "/h", "D": "else"}),
        ("A='${HOME}'\r\nB=\r\n", {"A": "${HOME}", "B": ""}),
        ("", {}),
    ],
)  # fmt: skip
def test_dotenv(text: str, values: dict[str, str]) -> None:
    assert dotenv.parse(text, {"HOME": "/h"}) == values


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Secret.from_dict({"1A": "hunter2"}), "'1A' of env_dict= is no name"),
        (lambda: Secret.from_dict({"SQUALL_X": "hunter2"}), "is no name for a variable"),
        (lambda: Secret.from_dict({"A": b"hunter2"}), "A of env_dict= must be a text or None"),  # type: ignore[dict-item]
        (lambda: Secret.from_dict({"A": "hunter2\0"}), "A of env_dict= has a null byte"),
        (lambda: Secret.from_dict("hunter2"), "must be a dictionary of texts, and not a str"),  # type: ignore[arg-type]
        (lambda: Secret.from_name("a b"), "'a b' is no name for a secret"),
    ],
)  # fmt: skip
def test_wrong_ones_are_told_without_their_values(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(exception.InvalidError, match=said) as error:
        make()
    assert "hunter2" not in str(error.value)


def test_one_that_is_not_there(server: FakeServer, load: Callable[..., Any]) -> None:
    example = load("@app.function(secrets=[squall.Secret.from_name('none')])\ndef f(): ...\n")
    with pytest.raises(exception.NotFoundError, match="no secret none"), example.app.run():
        pass


@pytest.mark.covers("Secret.objects.create", "Secret.objects.list", "Secret.objects.delete")
@pytest.mark.covers("Secret.update", "Secret.info", "Secret.name", "Secret.from_name(required_keys)")
def test_objects(server: FakeServer) -> None:
    Secret.objects.create("db", {"A": "1111", "B": "2222"})
    with pytest.raises(exception.AlreadyExistsError):
        Secret.objects.create("db", {"A": "x"})
    Secret.objects.create("db", {"A": "x"}, allow_existing=True)
    assert server.secrets["db"]["A"] == "1111"
    (found,) = Secret.objects.list()
    assert found.name == "db"
    found.update({"B": None, "C": "3333"})
    assert server.secrets["db"] == {"A": "1111", "C": "3333"}
    assert found.info().keys == ["A", "C"]
    Secret.objects.delete("db")
    with pytest.raises(exception.NotFoundError):
        Secret.objects.delete("db")
    Secret.objects.delete("db", allow_missing=True)


def test_values_are_in_no_pickle_and_no_repr() -> None:
    secret = Secret.from_dict({"A": "hunter2"})
    assert "hunter2" not in repr(secret)
    with pytest.raises(exception.SerializationError, match="no argument"):
        pickle.dumps(secret)
    assert pickle.loads(pickle.dumps(Secret.from_name("db"))).name == "db"
    assert squall.Secret is Secret
