"""Classes and variants in real containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest

import squall
from squall.exception import InvalidError, NotFoundError
from squall.wire.control import LogsFetch
from tests.e2e.apps import classes
from tests.e2e.kit import until
from tests.house.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: For type checkers, a decorated class is the class.
Model: Any = classes.Model
Recursive: Any = classes.Recursive


@pytest.fixture(scope="module", autouse=True)
def running(here: Daemon) -> Iterator[None]:
    with classes.app.run():
        yield


def logs(here: Daemon) -> str:
    fetched = here.client().request("logs.fetch", LogsFetch(str(classes.app.app_id)))
    return b"".join(piece[3] for piece in fetched.text).decode()


def test_an_object_is_made_once_and_called_often() -> None:
    model = Model(size="large", layers=3, key=b"\0\xff", loud=True)
    first, second = model.predict.remote(1), model.predict.remote(2)
    assert first[:3] == ("large/3/b'\\x00\\xff'/True", 1, 1)
    assert second[:3] == ("large/3/b'\\x00\\xff'/True", 2, 2)
    assert first[3] == second[3]
    assert model.told.remote() == ["base in", "in large"]
    assert model.later.remote(1) == 8
    assert list(model.count.remote_gen(3)) == [0, 1, 2]
    assert list(model.plus.map(range(5))) == [3, 4, 5, 6, 7]
    assert model.plus.spawn(10).get() == 13
    with pytest.raises(ValueError, match="no large"):
        model.fail.remote()


def test_each_set_of_parameters_has_its_own_containers() -> None:
    lasting = Model.with_options(scaledown_window=300)
    containers = {size: lasting(size=size).predict.remote(0)[3] for size in ("a", "b")}
    assert containers["a"] != containers["b"]
    assert lasting(size="a", layers=1).predict.remote(0)[3] == containers["a"]


def test_idle_objects_leave_and_their_last_words_are_logged(here: Daemon) -> None:
    Model(size="brief").predict.remote(0)
    until(lambda: "left brief after 1 calls" in logs(here), "its @exit")


def test_an_object_goes_along_as_an_argument() -> None:
    assert classes.through.remote(Model(size="sent"), 1).startswith("sent/1/")
    assert Recursive(base=40).down.remote(2) == 42


def test_what_fails_on_entering_is_the_callers_exception(here: Daemon) -> None:
    with pytest.raises(ValueError, match="no weights here"):
        classes.Broken().f.remote()
    until(lambda: 'raise ValueError("no weights here")' in logs(here), "the traceback")


def test_options_make_another_pool() -> None:
    other = Model.with_options(env={"MORE": "1"}, timeout=100)
    assert other(size="a").env.remote("MORE") == "1"
    assert Model(size="a").env.remote("MORE") is None
    assert other(size="a").predict.remote(0)[3] != Model(size="a").predict.remote(0)[3]
    assert classes.cores.with_options(env={"CORES": "7"}).remote() == 7
    assert classes.cores.remote() == 0


@pytest.mark.covers("Cls.with_batching", "Cls.with_batching(*)")
def test_inputs_share_an_object() -> None:
    shared, batched = cast("Any", classes.Shared), cast("Any", classes.Batched)
    calls = [shared().meet.spawn() for _ in range(2)]
    assert len({call.get() for call in calls}) == 1
    assert list(batched(factor=3).times.map(range(4))) == [(0, 4), (3, 4), (6, 4), (9, 4)]
    one_by_one = batched.with_batching(max_batch_size=1, wait_ms=0)()
    assert list(one_by_one.times.map([1, 2])) == [(2, 1), (4, 1)]


def test_wrong_calls_are_refused(here: Daemon) -> None:
    with pytest.raises(InvalidError, match="has no parameter colour"):
        Model(colour="red")
    with pytest.raises(InvalidError, match="generator"):
        Model().count.remote(1)
    with pytest.raises(NotFoundError, match="no app"):
        squall.Cls.from_name("nothing", "Model")().predict.remote(1)


def test_the_autoscaler_changes_live(here: Daemon) -> None:
    model = Model(size="kept")
    model.update_autoscaler(min_containers=1)
    until(lambda: here.containers("Model"), "a container without a call")
    model.update_autoscaler(min_containers=0)
    classes.cores.update_autoscaler(max_containers=3)
    assert classes.cores.autoscaler.settings().max_containers == 3


def test_a_new_version_takes_the_calls_of_objects(here: Daemon) -> None:
    deploy = ("deploy", "-m", "tests.e2e.apps.classes", "--name", "e2e-classes-kept")
    here.squall(*deploy, cwd=ROOT)
    try:
        model = squall.Cls.from_name("e2e-classes-kept", "Model")(size="kept")
        first = model.predict.remote(1)
        here.squall(*deploy, cwd=ROOT)
        second = model.predict.remote(2)
        assert (first[0], second[0]) == ("kept/1/b''/False", "kept/1/b''/False")
        assert first[3] != second[3]
        with pytest.raises(InvalidError, match="Model is a class"):
            squall.Function.from_name("e2e-classes-kept", "Model").remote(1)
    finally:
        squall.App.lookup("e2e-classes-kept").stop()


def test_the_example_and_a_method_from_the_command_line(here: Daemon) -> None:
    example = str(ROOT / "examples" / "model_class.py")
    done = here.squall("run", example, "--package", "json", "--query", "decode document")
    assert "json.decoder.raw_decode: Decode a JSON document" in done.stdout
    assert re.search(r"indexed \d+ names of json", done.stdout)
    answered = re.findall(r"answered (\d+) queries about json", done.stdout)
    assert sum(map(int, answered)) == 3, "what @exit prints is not lost"
    done = here.squall(
        "run", f"{example}::Index.find", "--package", "json", "--query", "encoder", "--count", "1"
    )
    assert "json.encoder." in done.stdout
