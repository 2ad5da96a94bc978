"""Inputs that call others and wait for them: they hold no CPU, and what can never go on is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling import model as m
from squall.scheduling.deadlocks import PATIENCE
from tests.scheduling.world import World

if TYPE_CHECKING:
    from collections.abc import Callable


def world(cpu: int = 2000, memory: int = 8192, **settings: object) -> World:
    """A machine of two cores; parents and children want one each."""
    w = World()
    w.node(m.NodeJoined("no-1", cpu, memory))
    for name in ("fu-parent", "fu-child"):
        w.function(m.FunctionConfig(name, "default", m.Demand(1000, 512), **settings))  # type: ignore[arg-type]
    return w


def begin(w: World, function: str = "fu-parent", count: int = 1) -> list[str]:
    """Inputs that have come and begun; each in a container of its own."""
    before = set(w.arrived)
    w.arrive(function, count)
    for name in [name for name, box in w.boxes.items() if not box.ready]:
        w.ready(name)
    return sorted(w.arrived - before)


def play(w: World, calls: Callable[[str], tuple[str, int] | None]) -> None:
    """To the end; each input calls what `calls` says once, waits for it and ends."""
    called: set[str] = set()
    for _ in range(5000):
        active = w.active()
        fresh = [i for _, i in active if i not in called]
        starting = [c for c, b in w.boxes.items() if not b.ready]
        stopped = [c for c in w.boxes if c in w.stopping]
        wake = w.scheduler.next_wakeup()
        if w.recalled:
            w.give_back()
        elif stopped:
            w.exit(stopped[0])
        elif starting:
            w.ready(starting[0])
        elif fresh:
            called.add(fresh[0])
            call = calls(fresh[0])
            if call is not None:
                w.nest(fresh[0], *call)
        elif active:
            w.finish(*active[0], seconds=0.001)
        elif wake is None:
            break
        else:
            w.now = max(w.now, wake)
            w.tick(0.0)
    assert set(w.final) == w.arrived


def failed(w: World) -> list[m.FailInput]:
    return [a for a in w.final.values() if isinstance(a, m.FailInput)]


def test_forty_parents_on_two_cores() -> None:
    w = world()
    w.arrive("fu-parent", 40)
    play(w, lambda i: None if w.depth.get(i) else ("fu-child", 1))
    assert not failed(w)


def test_waiting_parents_make_room_for_children_and_for_no_more_parents() -> None:
    w = world()
    first, second, *_ = begin(w, count=10)
    w.nest(first, "fu-child", 1)
    w.nest(second, "fu-child", 1)
    assert sorted(b.function for b in w.boxes.values()) == ["fu-child"] * 2 + ["fu-parent"] * 2


def test_as_much_cpu_is_lent_as_waits() -> None:
    w = world()
    (parent, _) = begin(w, count=2)
    w.nest(parent, "fu-child", 5)
    assert [b.function for b in w.boxes.values()].count("fu-child") == 1


def test_who_goes_on_has_its_cpu_back_before_anybody_else() -> None:
    w = world()
    parent, other = begin(w, count=2)
    w.nest(parent, "fu-child", 1)
    (child,) = [c for c, b in w.boxes.items() if b.function == "fu-child"]
    w.send(m.InputsCancelled(tuple(w.boxes[child].inputs) or (max(w.arrived),)))
    w.nest(other, "fu-child", 1)
    assert len(w.boxes) == 3, "the first goes on, beside a child's container that ends only later"


def test_recursion_runs_the_deepest_first() -> None:
    w = world(memory=40 * 512)
    w.arrive("fu-parent", 20)
    play(w, lambda i: ("fu-parent", 2) if w.depth.get(i, 0) < 5 else None)
    assert not failed(w)


def test_one_that_waits_gives_back_what_was_sent_after_it() -> None:
    w = world(max_containers=1)
    (first,) = begin(w)
    w.finish("ct-0", first, seconds=0.0001)
    second, third = begin(w, count=2)
    assert list(w.boxes["ct-0"].inputs) == [second, third]
    actions = w.nest(second, "fu-child", 1)
    assert m.RevokeInputs("ct-0", "no-1", ((third, 1),), recall=True) in actions
    w.give_back()
    assert list(w.boxes["ct-0"].inputs) == [second]
    w.run_to_the_end()
    assert w.attempts[third] == 2
    assert not failed(w)


def test_one_that_had_begun_is_not_given_back() -> None:
    w = world(max_containers=1)
    (first,) = begin(w)
    w.finish("ct-0", first, seconds=0.0001)
    second, third = begin(w, count=2)
    w.nest(second, "fu-child", 1)
    w.boxes["ct-0"].started.add(third)
    w.run_to_the_end()
    assert w.attempts[third] == 1
    assert w.final[third] == m.Deliver(third, 1)


def test_recursion_beyond_max_containers_is_named() -> None:
    w = world(max_containers=2)
    (root,) = begin(w)
    w.nest(root, "fu-parent", 1)
    w.ready("ct-1")
    (middle,) = w.boxes["ct-1"].inputs
    w.nest(middle, "fu-parent", 1)
    assert not failed(w)
    w.tick(PATIENCE)
    assert not failed(w), "it may be over in a moment"
    w.tick(PATIENCE)
    (failure,) = failed(w)
    assert failure.code == "deadlock"
    assert "max_containers=2" in failure.message
    w.run_to_the_end()
    assert [w.final[i] for i in (root, middle)] == [m.Deliver(i, 1) for i in (root, middle)]


def test_a_deadlock_for_memory_costs_one_input_and_the_others_go_on() -> None:
    w = world(cpu=16_000, memory=4 * 512)
    begin(w, count=8)
    play(w, lambda i: None if w.depth.get(i) else ("fu-child", 1))
    (failure,) = failed(w)
    assert failure.code == "deadlock"
    assert "memory" in failure.message


def test_it_is_no_deadlock_while_anything_goes_on() -> None:
    w = world(max_containers=1)
    (parent,) = begin(w)
    begin(w, "fu-child")
    w.nest(parent, "fu-child", 2)
    for _ in range(5):
        w.tick(PATIENCE)
    assert not failed(w)


def test_what_nobody_waits_for_any_more_waits_for_ever() -> None:
    w = world(max_containers=1)
    (parent,) = begin(w)
    w.nest(parent, "fu-parent", 1)
    w.exit("ct-0")
    for _ in range(5):
        w.tick(PATIENCE)
    assert not failed(w)
    w.run_to_the_end()
    assert not failed(w)


def test_containers_of_several_inputs_lend_when_all_of_them_wait() -> None:
    w = world(capacity=2, target=2)
    one, two = begin(w, count=2)
    begin(w, "fu-child", 2)
    w.nest(one, "fu-parent", 2)
    assert len(w.boxes) == 2, "the other one works"
    w.nest(two, "fu-child", 2)
    assert len(w.boxes) == 3
    w.run_to_the_end()
    assert not failed(w)
