"""Names that are not there, or not any more: what they say is of use."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import squall
from squall.exception import InvalidError, UnimplementedError
from squall.sdk import unavailable


@pytest.mark.parametrize("name", unavailable.FORMER_NAMES)
def test_a_former_name_says_what_to_use(name: str) -> None:
    with pytest.raises(InvalidError, match=rf"^squall\.{name} is a name of the past: \w.*$"):
        squall.__getattr__(name)  # as for all that is not there; another test may have loaded squall.build


@pytest.mark.parametrize("name", unavailable.NAMES)
def test_a_name_to_come_says_what_to_do(name: str) -> None:
    with pytest.raises(UnimplementedError, match=rf"^squall\.{name} is not in this version of Squall: \w.*$"):
        getattr(squall, name)


def test_an_import_says_it_too() -> None:
    with pytest.raises(InvalidError, match=r'squall\.Stub .*: use squall\.App\("name"\)'):
        exec("from squall import Stub", {})


def test_the_gpus_of_old() -> None:
    past: Any = squall
    with pytest.raises(InvalidError, match='gpu="A100"'):
        past.gpu.A100(count=2)


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        *((squall.Function, *pair) for pair in unavailable.FORMER_OF_FUNCTIONS.items()),
        *((squall.Image, *pair) for pair in unavailable.FORMER_OF_IMAGES.items()),
        (squall.Cls, "lookup", "Cls.from_name(app, name)"),
    ],
)
def test_a_former_method_says_what_to_use(owner: type, name: str, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        getattr(owner, name)("a", b=1)
    assert str(caught.value) == f"{owner.__name__}.{name}() is a name of the past: use {said}"
    assert isinstance(caught.value, AttributeError)


def test_a_misspelt_name_is_met_with_the_nearest() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import squall; squall.Imagee"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Did you mean: 'Image'?" in done.stderr
