"""What callers get for each way an input can end."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
import traceback
import types
from typing import TYPE_CHECKING, Any

import pytest

from squall import exception
from squall.runner import results
from squall.sdk import serialization, splice
from squall.sdk.dual import Dual
from squall.sdk.outcomes import RemoteTraceback, error_of
from squall.wire.values import ErrorInfo, Outcome
from tests.house.source import ROOT, SRC
from tests.sdk.fake_client import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sdk.fake_client import FakeServer


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def inner() -> None:
    raise KeyError("why")


def outer() -> None:
    try:
        inner()
    except KeyError as error:
        raise ValueError("bad", 3) from error


def caught(function: Callable[[], None]) -> Any:
    try:
        function()
    except BaseException as error:
        return error


def from_a_container(function: Callable[[], None]) -> BaseException:
    """What the caller gets for what the function raises."""
    answer = results.of_exception(caught(function))
    info = ErrorInfo(answer.header["type"], answer.header["message"], answer.header["tb"])
    assert isinstance(answer.payload, bytes)
    return error_of(Outcome("exception", error=info), answer.payload)


def test_the_object_with_the_containers_frames_below_ours() -> None:
    error = from_a_container(outer)
    assert type(error) is ValueError
    assert error.args == ("bad", 3)
    assert frames(error)[-1] == "outer"
    assert isinstance(error.__cause__, KeyError)
    assert frames(error.__cause__) == ["outer", "inner"]
    assert error.__cause__.__cause__ is None
    with pytest.raises(ValueError, match="bad") as raised:
        raise error
    told = "".join(traceback.format_exception(raised.value))
    assert told.index("in test_the_object_with") < told.index('raise ValueError("bad", 3) from error')
    assert 'raise KeyError("why")' in told
    assert results.FRAMES not in error.__dict__


def test_what_python_itself_prints(tmp_path: Path) -> None:
    """Without a blank line for carets that nobody drew."""
    program = tmp_path / "program.py"
    program.write_text(
        "from tests.sdk.test_outcomes import from_a_container, outer\nraise from_a_container(outer)\n"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), str(ROOT)])}
    done = subprocess.run([sys.executable, program], env=paths, capture_output=True, text=True, check=False)
    assert '    raise ValueError("bad", 3) from error\nValueError: ' in done.stderr
    assert "\n\n  File" not in done.stderr


def test_context_and_suppression() -> None:
    def handling() -> None:
        try:
            inner()
        except KeyError:
            raise ValueError("bad")  # noqa: B904 - the point of it

    def suppressed() -> None:
        try:
            inner()
        except KeyError:
            raise ValueError("bad") from None

    error = from_a_container(handling)
    assert isinstance(error.__context__, KeyError)
    assert frames(error.__context__)[-1] == "inner"
    assert error.__cause__ is None
    assert from_a_container(suppressed).__suppress_context__


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
def test_notes_and_groups() -> None:
    def grouped() -> None:
        errors = [caught(function) for function in (inner, outer)]
        for error in errors:
            error.add_note("noted")
        made: Any = vars(builtins)["ExceptionGroup"]
        raise made("several", errors)

    error: Any = from_a_container(grouped)
    assert str(error) == "several (2 sub-exceptions)"
    first, second = error.exceptions
    assert (first.__notes__, frames(first)[-1]) == (["noted"], "inner")
    assert (second.__notes__, type(second.__cause__)) == (["noted"], KeyError)


def test_a_file_that_is_not_here_has_its_line_all_the_same() -> None:
    error = ValueError("x")
    setattr(error, splice.FRAMES, [["/nowhere/there.py", "", 7, "far", "do_it(1)", False]])
    assert splice.splice(error)
    (frame,) = traceback.extract_tb(error.__traceback__)
    assert (frame.filename, frame.lineno, frame.name, frame.line) == (
        "/nowhere/there.py",
        7,
        "far",
        "do_it(1)",
    )


def test_the_same_file_here_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("one()\ntwo()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for text, expected in (
        ("two()", str(tmp_path / "package/code.py")),
        ("other()", "/squall/x/package/code.py"),
    ):
        error = ValueError("x")
        sent = ["/squall/x/package/code.py", "package/code.py", 2, "f", text, False]
        setattr(error, splice.FRAMES, [sent])
        splice.splice(error)
        assert traceback.extract_tb(error.__traceback__)[0].filename == expected


def from_inside(error: BaseException) -> list[str]:
    """The frames above the call, when a context manager of ours raises it on the way out of ours."""
    source = (
        "from contextlib import contextmanager\n@contextmanager\ndef translated(error):\n    try:\n"
        "        yield\n    except LookupError:\n        raise error from error.__cause__\n"
        "async def flow(mode, error):\n    with translated(error):\n        raise LookupError\n"
    )
    scope: dict[str, Any] = {}
    exec(compile(source, str(SRC / "squall" / "sdk" / "made_up.py"), "exec"), scope)
    call: Dual[..., None] = Dual(scope["flow"])
    with pytest.raises(type(error)) as caught:
        call(error)
    return [name for name in frames(caught.value) if name != "from_inside"]


def test_our_frames_are_hidden_unless_it_may_be_our_bug() -> None:
    remote = TypeError("f() missing an argument")
    remote.__cause__ = RemoteTraceback("Traceback ...")
    for error in (exception.InvalidError("no"), KeyboardInterrupt(), exception.InputCancellation(), remote):
        assert from_inside(error) == ["__call__"]
    assert from_inside(TypeError("a bug"))[-2:] == ["__exit__", "translated"]


def test_our_frames_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [["/s/runner/calls.py", "", 1, "run", "x", True], ["/u.py", "", 2, "users", "y", False]]
    for wanted, names in (("", ["users"]), ("1", ["run", "users"])):
        monkeypatch.setenv("SQUALL_TRACEBACK", wanted)
        error = ValueError("x")
        setattr(error, splice.FRAMES, sent)
        splice.splice(error)
        assert frames(error) == names


@pytest.mark.parametrize("sent", [None, 3, [], [3], [["f", "", -1, "n", "t", False]], [["f"]], {"a": 1}])
def test_frames_that_make_no_sense(sent: object) -> None:
    error = ValueError("x")
    setattr(error, splice.FRAMES, sent)
    assert not splice.splice(error)


def test_an_endless_recursion_is_shortened() -> None:
    def recurse() -> None:
        recurse()

    error = from_a_container(recurse)
    assert type(error) is RecursionError
    assert len(frames(error)) <= 200


def test_a_class_that_is_not_here_is_told_and_its_cause_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("only_there")
    module.TheirError = type("TheirError", (Exception,), {"__module__": "only_there"})
    monkeypatch.setitem(sys.modules, "only_there", module)

    def theirs() -> None:
        raise module.TheirError("it broke")

    def ours() -> None:
        try:
            theirs()
        except Exception as error:
            raise ValueError("bad") from error

    answers = [results.of_exception(caught(function)) for function in (theirs, ours)]
    monkeypatch.delitem(sys.modules, "only_there")
    infos = [ErrorInfo(a.header["type"], a.header["message"], a.header["tb"]) for a in answers]
    told, object_ = (
        error_of(Outcome("exception", error=info), bytes_of(answer.payload))
        for info, answer in zip(infos, answers, strict=True)
    )
    assert type(told) is exception.RemoteError
    assert str(told) == "TheirError: it broke"
    assert isinstance(told.__cause__, RemoteTraceback)
    assert type(object_) is ValueError
    assert type(object_.__cause__).__name__ == "TheirError"
    assert isinstance(object_.__cause__, exception.RemoteError)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"cno_such_module_x\nThing\n.", "a value needs the module no_such_module_x, which is not installed"),
        (
            b"cclick.no_such_part\nThing\n.",
            r"a value does not fit click \d.*no_such_part.*give the image the same",
        ),
        (b"cclick\nNoSuchThing\n.", r"a value does not fit click \d.*NoSuchThing"),
        (b"nonsense", "a value cannot be unpickled here"),
    ],
)
def test_another_version_here_is_named(data: bytes, said: str) -> None:
    with pytest.raises(exception.DeserializationError, match=said):
        serialization.loads(data)


def test_an_exception_without_object_is_told() -> None:
    info = ErrorInfo("TheirError", "it broke", "Traceback ...")
    error = error_of(Outcome("exception", error=info), b"")
    assert type(error) is exception.RemoteError
    assert str(error) == "TheirError: it broke"
    assert isinstance(error.__cause__, RemoteTraceback)


@pytest.mark.parametrize("data", [b"garbage", pickle.dumps("no exception"), pickle.dumps(SystemExit(1))])
def test_what_is_no_exception_of_ours_to_raise_is_told(data: bytes) -> None:
    error = error_of(Outcome("exception", error=ErrorInfo("X", "y")), data)
    assert type(error) is exception.RemoteError


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("timeout"), exception.FunctionTimeoutError),
        (Outcome("cancelled"), exception.InputCancellation),
        (
            Outcome("failed", error=ErrorInfo("ResourceExhaustedError", "memory")),
            exception.ResourceExhaustedError,
        ),
        (Outcome("failed", error=ErrorInfo("InternalFailure", "lost")), exception.InternalFailure),
        (Outcome("failed", error=ErrorInfo("InputCancellation", "no")), exception.RemoteError),
        (Outcome("failed", error=ErrorInfo("builtins", "no")), exception.RemoteError),
        (Outcome("failed"), exception.RemoteError),
        (Outcome("nonsense"), exception.RemoteError),
    ],
)
def test_what_the_platform_says(outcome: Outcome, expected: type[BaseException]) -> None:
    error: Any = error_of(outcome, b"")
    assert type(error) is expected
    assert str(error)


def test_the_cause_of_a_nested_calls_error_goes_home_through_its_callers_container() -> None:
    answer = results.of_exception(error_of(Outcome("exception", error=ErrorInfo("X", "y", "there")), b""))
    assert isinstance(answer.payload, bytes)
    again = pickle.loads(answer.payload)
    assert isinstance(again.__cause__, RemoteTraceback)
    assert str(again.__cause__) == "in the container\nthere"


@pytest.mark.parametrize("everything", ["", "1"])
def test_the_way_through_squall_is_left_out(
    everything: str, server: FakeServer, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUALL_TRACEBACK", everything)
    example = load("@app.function()\ndef f(x):\n    try:\n        1 / x\n    finally:\n        pass\n")
    with example.app.run(), pytest.raises(ZeroDivisionError) as raised:
        example.f.remote(0)
    files = [os.path.relpath(f.filename, SRC) for f in traceback.extract_tb(raised.value.__traceback__)]
    ours = [file for file in files if file.startswith("squall" + os.sep)]
    assert files[0].endswith("test_outcomes.py")
    assert files[-1].endswith("sdk_example.py")
    assert "squall/sdk/dual.py" in ours
    assert (len(ours) > 3) == bool(everything)
    with example.app.run(), pytest.raises(ZeroDivisionError) as raised:
        list(example.f.map([0]))
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert (names[:2], names[-1]) == (["test_the_way_through_squall_is_left_out", "_told"], "f")
    with pytest.raises(exception.ExecutionError) as told:
        example.f.remote(1)
    assert len(traceback.extract_tb(told.value.__traceback__)) == 2 or everything
