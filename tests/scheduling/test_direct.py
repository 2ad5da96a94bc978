"""A caller's own line into a container: there while nobody else needs the place, and never begun twice."""

from __future__ import annotations

import pytest

from squall.scheduling import model as m
from tests.scheduling.world import World


@pytest.fixture
def world() -> World:
    """One ready container that idles, of a function that may have more."""
    world = World()
    world.node(m.NodeJoined("no-1", 4000, 4096))
    world.function(m.FunctionConfig("fu-1", "ws-1", m.Demand(1000, 128), min_containers=1))
    world.tick(0)
    (container,) = world.boxes
    world.ready(container)
    return world


def dial(world: World) -> tuple[str, str]:
    """A line, and its container."""
    (action,) = world.dial("fu-1")
    assert isinstance(action, m.AssignInputs)
    return action.inputs[0][0], action.container


def failures(actions: list[m.Action]) -> list[str]:
    return [a.code for a in actions if isinstance(a, m.FailInput)]


def kinds(actions: list[m.Action]) -> list[str]:
    return [type(a).__name__ for a in actions]


def test_a_line_gets_a_container_that_idles(world: World) -> None:
    line, container = dial(world)
    assert world.boxes[container].inputs == {line: 1}


def test_there_is_no_line_where_nothing_idles(world: World) -> None:
    world.arrive("fu-1", 1)
    actions = world.dial("fu-1")
    assert failures(actions) == ["busy"]
    assert kinds(actions) == ["FailInput"], "and nothing is started for it"


def test_an_input_takes_the_place_of_a_line_and_starts_nothing(world: World) -> None:
    _, container = dial(world)
    actions = world.arrive("fu-1", 1)
    assert kinds(actions) == ["AssignInputs"]
    assert len(world.boxes[container].inputs) == 2


def test_two_inputs_want_two_containers_line_or_not(world: World) -> None:
    dial(world)
    assert kinds(world.arrive("fu-1", 2)) == ["AssignInputs", "StartContainer"]


def test_a_container_without_a_line_is_taken_first(world: World) -> None:
    world.arrive("fu-1", 2)
    (new,) = [c for c, b in world.boxes.items() if not b.ready]
    world.ready(new)
    for container, input_id in world.active():
        world.finish(container, input_id)
    _, container = dial(world)
    (action,) = world.arrive("fu-1", 1)
    assert isinstance(action, m.AssignInputs)
    assert action.container != container


def test_behind_a_line_with_a_slow_call_nobody_waits(world: World) -> None:
    line, container = dial(world)
    world.arrive("fu-1", 1)
    (waiting,) = set(world.boxes[container].inputs) - {line}
    actions = world.start_input(container, line)
    assert m.RevokeInputs(container, "no-1", ((waiting, 1),), recall=True) in actions
    assert "StartContainer" in kinds(actions)
    world.give_back()
    assert list(world.boxes[container].inputs) == [line]


def test_a_slow_line_holds_its_container_as_any_input_does(world: World) -> None:
    line, container = dial(world)
    world.start_input(container, line)
    assert kinds(world.arrive("fu-1", 1)) == ["StartContainer"]


def test_a_container_with_a_line_does_not_idle(world: World) -> None:
    line, container = dial(world)
    world.function(m.FunctionConfig("fu-1", "ws-1", m.Demand(1000, 128), scaledown_window=60))
    assert world.tick(1000) == []
    world.finish(container, line, "done")
    assert kinds(world.tick(61)) == ["StopContainer"]


@pytest.mark.parametrize("fault", [False, True])
def test_a_line_is_not_run_again(world: World, fault: bool) -> None:
    line, container = dial(world)
    world.start_input(container, line)
    actions = world.exit(container, fault=fault, reason="oom" if fault else "killed")
    assert failures(actions) == ["oom" if fault else "lost"]


def test_nor_one_that_its_node_has_lost(world: World) -> None:
    dial(world)
    assert failures(world.rejoin("no-1", 1)) == ["lost"]


def test_a_line_says_nothing_of_how_long_inputs_take(world: World) -> None:
    line, container = dial(world)
    world.finish(container, line, "done", 500.0)
    assert world.scheduler._functions["fu-1"].mean is None


def test_a_line_whose_call_waits_for_a_nested_one_blocks_its_container(world: World) -> None:
    """Else the nested one might be put behind it, and both would wait for ever."""
    line, container = dial(world)
    actions = world.nest(line, "fu-1", 1)
    assert len(world.boxes[container].inputs) == 1
    assert "StartContainer" in kinds(actions)
