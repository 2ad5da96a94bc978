"""The pure-Python MessagePack is msgspec's, byte for byte and check for check."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squall.wire import msgpack, values
from squall.wire.control import METHODS
from squall.wire.messages import KINDS, NodeInput

CLASSES = sorted(
    {*KINDS.values(), *(c for pair in METHODS.values() for c in pair)}, key=lambda c: str(c.__name__)
)

INTS = st.integers(-(2**63), 2**64 - 1)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | INTS
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=20,
)
PLAIN: dict[object, st.SearchStrategy[Any]] = {
    Any: ANYTHING,
    str: st.text(max_size=40),
    bytes: st.binary(max_size=300),
    int: INTS,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    None: st.none(),
}


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([of(part) for part in parts])
    if origin is list:
        return st.lists(of(parts[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(of(parts[0]), of(parts[1]), max_size=3)
    if origin is tuple:
        return st.tuples(*[of(part) for part in parts])
    return st.builds(kind, **{name: of(t) for name, t in get_type_hints(kind).items()})


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_message_is_the_same_as_with_msgspec(cls: type, data: st.DataObject) -> None:
    value = data.draw(of(cls))
    packed = msgspec.msgpack.encode(value)
    assert msgpack.encode(value) == packed
    assert msgpack.decoder(cls)(packed) == value == msgspec.msgpack.decode(packed, type=cls)


@settings(deadline=None)
@given(ANYTHING)
def test_any_value_survives(value: Any) -> None:
    packed = msgspec.msgpack.encode(value)
    assert msgpack.encode(value) == packed
    assert msgpack.decoder(dict[str, Any])(msgpack.encode({"a": value})) == {"a": value}


@pytest.mark.parametrize("length", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_every_length_has_the_same_head(length: int) -> None:
    for value in ("x" * length, b"x" * length, [0] * length, {str(i): i for i in range(length)}):
        packed = msgspec.msgpack.encode(value)
        assert msgpack.encode(value) == packed
        assert msgpack.decoder(dict[str, Any])(msgpack.encode({"v": value})) == {"v": value}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_or_what_msgspec_reads(data: bytes) -> None:
    try:
        expected = msgspec.msgpack.decode(data, type=NodeInput)
    except ValueError:
        with pytest.raises(ValueError):
            msgpack.decoder(NodeInput)(data)
    else:
        assert msgpack.decoder(NodeInput)(data) == expected


@settings(deadline=None)
@given(ANYTHING, st.sampled_from(CLASSES))
def test_wrong_types_are_refused_as_msgspec_refuses_them(value: Any, cls: type) -> None:
    packed = msgspec.msgpack.encode(value)
    try:
        expected: object = msgspec.msgpack.decode(packed, type=cls)
    except ValueError:
        with pytest.raises(ValueError):
            msgpack.decoder(cls)(packed)
    else:
        assert msgpack.decoder(cls)(packed) == expected


@dataclasses.dataclass
class Sample:
    number: int
    ratio: float = 0.5
    tags: list[str] = dataclasses.field(default_factory=list)


def test_unknown_fields_are_ignored_and_missing_ones_filled_in() -> None:
    packed = msgpack.encode({"number": 3, "ratio": 2, "later": [1, {"x": None}]})
    assert msgpack.decoder(Sample)(packed) == Sample(3, 2.0, [])


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"number": 1.0},
        {"number": True},
        {"number": "1"},
        {"number": 1, "tags": "ab"},
        {"number": 1, "tags": [1]},
        [1],
        {1: 1, "number": 2},
    ],
)
def test_wrong_values_are_value_errors(value: Any) -> None:
    with pytest.raises(ValueError):
        msgpack.decoder(Sample)(msgpack.encode(value))


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_numbers_beyond_64_bits_are_refused(value: int) -> None:
    with pytest.raises(OverflowError):
        msgpack.encode(value)


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        msgpack.encode([object()])


def test_every_cut_of_a_message_is_a_value_error() -> None:
    packed = msgpack.encode(values.OutputItem(1, values.Outcome("ok", values.Payload(b"x" * 300))))
    for end in range(len(packed)):
        with pytest.raises(ValueError):
            msgpack.decoder(values.OutputItem)(packed[:end])
