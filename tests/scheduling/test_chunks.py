"""Chunks: several inputs of the user's that are placed as one."""

from __future__ import annotations

import pytest

from squall.scheduling import model as m
from tests.scheduling.world import World


def world_of(containers: int, **config: object) -> World:
    """Ready containers that idle, of a function that may have no more."""
    world = World()
    world.node(m.NodeJoined("no-1", 64_000, 65_536))
    limits = {"min_containers": containers, "max_containers": containers, **config}
    world.function(m.FunctionConfig("fu-1", "ws-1", m.Demand(1000, 128), **limits))  # type: ignore[arg-type]
    world.tick(0)
    for container in list(world.boxes):
        world.ready(container)
    return world


def assigned(actions: list[m.Action]) -> list[str]:
    return [i for a in actions if isinstance(a, m.AssignInputs) for i, _ in a.inputs]


def test_one_chunk_waits_behind_another_so_that_no_container_waits_for_us() -> None:
    world = world_of(1)
    assert len(assigned(world.arrive_in_chunks("fu-1", (5, 5, 5)))) == 2
    (container,) = world.boxes
    first = next(iter(world.boxes[container].inputs))
    assert len(assigned(world.finish(container, first, seconds=0.05))) == 1


def test_a_single_input_waits_behind_no_chunk() -> None:
    world = world_of(1)
    world.arrive_in_chunks("fu-1", (5,))
    assert assigned(world.arrive("fu-1", 1)) == []


def test_an_idle_container_comes_before_a_place_behind_a_chunk() -> None:
    world = world_of(2)
    world.arrive_in_chunks("fu-1", (5, 5))
    assert [len(box.inputs) for box in world.boxes.values()] == [1, 1]


def test_the_backlog_is_what_the_user_sees() -> None:
    """Chunks hide no inputs from the autoscaler."""
    world = World()
    world.node(m.NodeJoined("no-1", 64_000, 65_536))
    world.function(m.FunctionConfig("fu-1", "ws-1", m.Demand(1000, 128)))
    actions = world.arrive_in_chunks("fu-1", (10, 10))
    assert sum(isinstance(a, m.StartContainer) for a in actions) == 20
    assert world.scheduler.waiting("fu-1") == 20


def test_the_mean_is_that_of_one_input() -> None:
    world = world_of(1)
    world.arrive_in_chunks("fu-1", (100,))
    (container,) = world.boxes
    (chunk,) = world.boxes[container].inputs
    world.finish(container, chunk, seconds=0.1)
    assert len(assigned(world.arrive("fu-1", 10))) == 5, "5 ms of work"


def test_what_a_chunk_gives_back_comes_first() -> None:
    world = world_of(1)
    world.arrive_in_chunks("fu-1", (3, 3, 3, 3))
    (container,) = world.boxes
    chunk = next(iter(world.boxes[container].inputs))
    world.finish(container, chunk, seconds=0.3, done=1)
    there = list(world.boxes[container].inputs)
    then = [i for behind in there for i in assigned(world.finish(container, behind, seconds=0.3))]
    assert then == list(world.parts[chunk][:1])


@pytest.mark.parametrize("fault", [False, True])
def test_a_chunk_whose_container_died_runs_input_by_input(fault: bool) -> None:
    world = world_of(1)
    world.arrive_in_chunks("fu-1", (4,))
    (container,) = world.boxes
    (chunk,) = world.boxes[container].inputs
    world.start_input(container, chunk)
    world.exit(container, fault=fault)
    assert len(world.parts[chunk]) == 4
    world.run_to_the_end(40)
    assert {type(world.final[piece]) for piece in world.parts[chunk]} == {m.Deliver}


def test_each_input_of_it_has_had_one_of_its_runs_and_no_other_ones() -> None:
    world = world_of(1)
    world.arrive_in_chunks("fu-1", (2,))
    (container,) = world.boxes
    (chunk,) = world.boxes[container].inputs
    world.start_input(container, chunk)
    world.exit(container)
    poison, neighbour = world.parts[chunk]
    for _ in range(m.MAX_VICTIM_RUNS - 1):
        (container,) = world.boxes
        world.ready(container)
        assert poison in world.boxes[container].inputs
        world.start_input(container, poison)
        world.exit(container)
    assert isinstance(world.final[poison], m.FailInput)
    world.run_to_the_end(40)
    assert isinstance(world.final[neighbour], m.Deliver)


def test_a_chunk_that_was_not_begun_stays_one() -> None:
    world = world_of(1)
    world.arrive_in_chunks("fu-1", (4,))
    (container,) = world.boxes
    (chunk,) = world.boxes[container].inputs
    world.exit(container)
    assert not world.parts
    (container,) = world.boxes
    assert assigned(world.ready(container)) == [chunk]


def test_how_many_containers_share_the_inputs() -> None:
    world = world_of(3)
    assert world.scheduler.spread("fu-1") == 3
    assert world.scheduler.spread("fu-none") == 0
    world.arrive("fu-1", 1)
    (parent,) = [i for box in world.boxes.values() for i in box.inputs]
    world.nest(parent, "fu-1", 1)
    assert world.scheduler.spread("fu-1") == 0, "their inputs wait for others: nothing may wait behind one"
