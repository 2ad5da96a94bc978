from __future__ import annotations

from typing import TypeVar

from squall.scheduling import model as m
from tests.scheduling.world import World


def world(cpu: int = 4000, **settings: object) -> World:
    w = World()
    w.node(m.NodeJoined("no-1", cpu, 8192))
    w.function(m.FunctionConfig("fu-1", "default", m.Demand(1000, 512), **settings))  # type: ignore[arg-type]
    return w


A = TypeVar("A", bound=m.Action)


def of(actions: list[m.Action], kind: type[A]) -> list[A]:
    return [a for a in actions if isinstance(a, kind)]


def test_scales_from_zero_and_back() -> None:
    w = world()
    assert not w.boxes
    started = of(w.arrive("fu-1", 1), m.StartContainer)
    assert len(started) == 1
    assert of(w.ready("ct-0"), m.AssignInputs) == [m.AssignInputs("ct-0", "no-1", (("in-0", 1),))]
    assert w.finish("ct-0", "in-0") == [m.Deliver("in-0", 1)]
    assert w.scheduler.next_wakeup() == 60.0
    assert w.tick(60.0) == [m.StopContainer("ct-0", "no-1", "idle")]
    w.exit("ct-0")
    assert w.scheduler.next_wakeup() is None


def test_a_burst_gets_as_many_containers_as_fit() -> None:
    w = world()
    assert len(of(w.arrive("fu-1", 10), m.StartContainer)) == 4


def test_max_containers() -> None:
    w = world(max_containers=2)
    assert len(of(w.arrive("fu-1", 10), m.StartContainer)) == 2


def test_min_and_buffer_containers() -> None:
    w = world(min_containers=1, buffer_containers=1)
    assert len(w.boxes) == 1
    w.arrive("fu-1", 1)
    assert len(w.boxes) == 2
    w.run_to_the_end()
    assert len(w.boxes) == 1


def test_a_warm_container_is_used_first() -> None:
    w = world()
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0")
    actions = w.arrive("fu-1", 1)
    assert actions == [m.AssignInputs("ct-0", "no-1", (("in-1", 1),))]


def test_slow_inputs_do_not_queue_behind_one_container() -> None:
    w = world()
    w.arrive("fu-1", 2)
    w.ready("ct-0")
    assert len(w.boxes["ct-0"].inputs) == 1
    w.ready("ct-1")
    assert len(w.boxes["ct-1"].inputs) == 1


def test_fast_inputs_are_prefetched() -> None:
    w = world(max_containers=1)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0", seconds=0.0001)
    w.arrive("fu-1", 100)
    assert len(w.boxes["ct-0"].inputs) == 50  # 5 ms over 0.1 ms


def test_no_container_for_a_queue_that_is_gone_before_it_starts() -> None:
    w = world()
    w.arrive("fu-1", 1)
    w.now = 1.0
    w.ready("ct-0")  # a start takes a second
    w.finish("ct-0", "in-0", seconds=0.001)
    assert not of(w.arrive("fu-1", 100), m.StartContainer)
    assert of(w.arrive("fu-1", 5000), m.StartContainer)


def test_unplaceable_fails_at_once_and_says_why() -> None:
    w = world(cpu=500)
    (failed,) = w.arrive("fu-1", 1)
    assert isinstance(failed, m.FailInput)
    assert failed.code == "unplaceable"
    assert "cpu=1" in failed.message
    assert "0.5 cores" in failed.message


def test_without_a_node_it_waits_and_says_so_once() -> None:
    w = World()
    w.function(m.FunctionConfig("fu-1", "default"))
    assert w.arrive("fu-1", 1) == [m.Waiting("fu-1", "no node is connected")]
    assert w.arrive("fu-1", 1) == []
    assert of(w.node(m.NodeJoined("no-1", 1000, 1024)), m.StartContainer)


def test_gpu_alternatives_in_order() -> None:
    w = World()
    w.node(m.NodeJoined("no-1", 8000, 8192, (("A100", 1), ("H100", 1))))
    w.function(m.FunctionConfig("fu-1", "default", m.Demand(1000, 512, (("H100", 1), ("A100", 1)))))
    started = of(w.arrive("fu-1", 3), m.StartContainer)
    assert [a.gpus for a in started] == [(("H100", 1),), (("A100", 1),)]


def test_idle_containers_make_room_for_somebody_who_has_nothing() -> None:
    w = world(cpu=1000)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0")
    w.function(m.FunctionConfig("fu-2", "other", m.Demand(1000, 512)))
    actions = w.arrive("fu-2", 1)
    assert m.StopContainer("ct-0", "no-1", "its room is needed") in actions
    assert of(w.exit("ct-0"), m.StartContainer)


def test_idle_containers_make_room_for_a_function_that_waits_for_itself() -> None:
    """Its only container is at work, at an input that has called the function again."""
    w = world(cpu=3000)
    w.arrive("fu-1", 2)
    w.ready("ct-0")
    w.ready("ct-1")
    for container in ("ct-0", "ct-1"):
        (input_id,) = w.boxes[container].inputs
        w.finish(container, input_id)
    w.function(m.FunctionConfig("fu-2", "other", m.Demand(1000, 512)))
    w.arrive("fu-2", 1)
    w.ready("ct-2")
    w.start_input("ct-2", "in-2")
    ended = [a.container for a in of(w.arrive("fu-2", 1), m.StopContainer)]
    assert len(ended) == 1
    assert of(w.arrive("fu-1", 1), m.StopContainer) == []
    assert of(w.arrive("fu-2", 1), m.StopContainer) == []  # room is being made already
    assert of(w.exit(ended[0]), m.StartContainer)


def test_who_has_an_idle_container_takes_no_room() -> None:
    w = world(cpu=2000)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0")
    w.function(m.FunctionConfig("fu-2", "other", m.Demand(1000, 512), buffer_containers=1))
    assert of(w.arrive("fu-2", 1), m.StopContainer) == []


def test_a_stale_outcome_is_dropped() -> None:
    w = world()
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.start_input("ct-0", "in-0")
    w.exit("ct-0")
    assert w.send(m.InputFinished("ct-0", "in-0", 1, "ok", 0.1)) == [m.DropStale("in-0", 1)]
    w.run_to_the_end()
    assert w.final["in-0"] == m.Deliver("in-0", 2)


def test_a_victim_runs_three_times_then_fails_with_its_history() -> None:
    w = world()
    w.arrive("fu-1", 1)
    for n in range(3):
        (container,) = w.boxes
        w.ready(container)
        w.start_input(container, "in-0")
        w.exit(container)
        assert ("in-0" in w.final) == (n == 2)
    failed = w.final["in-0"]
    assert isinstance(failed, m.FailInput)
    assert failed.code == "killed"
    assert "3 times" in failed.message


def test_poison_fails_at_once_and_its_prefetched_neighbours_run() -> None:
    w = world(max_containers=1)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0", seconds=0.001)
    w.arrive("fu-1", 3)
    w.start_input("ct-0", "in-1")
    w.exit("ct-0", fault=True, reason="oom")
    assert w.final["in-1"] == m.FailInput("in-1", "oom", "container oom")
    w.run_to_the_end()
    assert {w.final["in-2"], w.final["in-3"]} == {m.Deliver("in-2", 2), m.Deliver("in-3", 2)}


def test_poison_is_retried_where_asked() -> None:
    w = world(max_retries=1, initial_delay=5.0)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.start_input("ct-0", "in-0")
    w.exit("ct-0", fault=True, reason="signal")
    assert w.scheduler.next_wakeup() == 5.0
    assert of(w.tick(5.0), m.StartContainer)


def test_retries_back_off() -> None:
    w = world(max_retries=2, initial_delay=1.0, backoff_coefficient=3.0)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    assert w.finish("ct-0", "in-0", "exception") == [m.Retrying("in-0", 1, 1.0)]
    w.tick(1.0)
    assert w.finish("ct-0", "in-0", "exception") == [m.Retrying("in-0", 2, 3.0)]
    w.tick(3.0)
    assert w.finish("ct-0", "in-0", "exception") == [m.Deliver("in-0", 3)]


def test_a_generator_never_runs_again_after_a_yield() -> None:
    w = world(max_retries=5)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.send(m.InputYielded("ct-0", "in-0", 1))
    w.boxes["ct-0"].started.add("in-0")
    w.exit("ct-0")
    failed = w.final["in-0"]
    assert isinstance(failed, m.FailInput)
    assert failed.code == "interrupted"


def test_an_import_error_fails_what_waits() -> None:
    w = world()
    w.arrive("fu-1", 2)
    for container in list(w.boxes):
        del w.boxes[container]
        w.send(m.ContainerFailed(container, "no module named x"))
    assert {f.code for f in w.final.values() if isinstance(f, m.FailInput)} == {"start_failed"}
    assert len(w.final) == 2


def test_a_failed_start_is_tried_again_a_little_later_three_times() -> None:
    w = world(max_containers=1)
    w.arrive("fu-1", 1)
    for n in range(3):
        (container,) = w.boxes
        del w.boxes[container]
        w.send(m.ContainerFailed(container, "no network", retry=True))
        if n < 2:
            wake = w.scheduler.next_wakeup()
            assert wake is not None
            w.tick(wake - w.now)
    assert isinstance(w.final["in-0"], m.FailInput)


def test_a_container_that_comes_to_rest_makes_room_at_once() -> None:
    """Not when it has been idle for its window: somebody waits for its place."""
    w = world(1000)
    w.function(m.FunctionConfig("fu-2", "default", m.Demand(1000, 512)))
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.arrive("fu-2", 1)
    assert m.StopContainer("ct-0", "no-1", "its room is needed") in w.finish("ct-0", "in-0")
    w.exit("ct-0")
    assert [b.function for b in w.boxes.values()] == ["fu-2"]


def test_starts_that_were_under_way_together_fail_as_one() -> None:
    """As those of a zone that was killed."""
    w = world()
    w.arrive("fu-1", 4)
    w.now = 1.0
    for container in list(w.boxes):
        del w.boxes[container]
        w.send(m.ContainerFailed(container, "it was killed", retry=True))
    assert not w.final
    w.run_to_the_end()
    assert all(isinstance(end, m.Deliver) for end in w.final.values())


def test_while_the_node_is_short_of_something_inputs_wait() -> None:
    w = world(max_containers=1)
    w.arrive("fu-1", 1)
    said: list[m.Action] = []
    for _ in range(10):
        (container,) = w.boxes
        del w.boxes[container]
        said += w.send(m.ContainerFailed(container, "the disk is full", shortage=True))
        assert w.final == {}
        assert w.boxes == {}
        wake = w.scheduler.next_wakeup()
        assert wake is not None
        w.tick(wake - w.now)
    assert said.count(m.Waiting("fu-1", "the disk is full")) == 1
    (container,) = w.boxes
    w.ready(container)
    w.finish(container, "in-0")
    assert isinstance(w.final["in-0"], m.Deliver)


def test_cancel_waiting_running_and_delayed() -> None:
    w = world(max_containers=1, max_retries=1, initial_delay=9.0)
    w.arrive("fu-1", 3)
    w.ready("ct-0")
    w.finish("ct-0", "in-0", "exception")  # in-0 waits for its retry, in-1 runs, in-2 waits
    actions = w.send(m.InputsCancelled(("in-0", "in-1", "in-2")))
    assert {a.input for a in of(actions, m.FailInput)} == {"in-0", "in-2"}
    assert of(actions, m.RevokeInputs) == [m.RevokeInputs("ct-0", "no-1", (("in-1", 1),))]
    assert w.finish("ct-0", "in-1", "cancelled") == [m.Deliver("in-1", 1)]


def test_a_removed_function_ends_all() -> None:
    w = world()
    w.arrive("fu-1", 6)
    w.ready("ct-0")
    w.send(m.FunctionRemoved("fu-1"))
    assert {f.code for f in w.final.values() if isinstance(f, m.FailInput)} == {"removed"}
    assert len(w.final) == 6
    for container in list(w.boxes):
        w.exit(container)
    assert w.scheduler.containers() == {}
    assert of(w.send(m.InputsArrived("fu-1", ("in-x",))), m.FailInput)


def test_a_node_that_comes_back_is_adopted() -> None:
    w = World()
    w.function(m.FunctionConfig("fu-1", "default", m.Demand(1000, 512)))
    w.send(m.InputsArrived("fu-1", ("in-old", "in-new"), attempt=1))
    container = m.KnownContainer(
        "ct-old", "fu-1", ready=True, inputs=(m.RunningAttempt("in-old", 1, started=True),)
    )
    stranger = m.KnownContainer("ct-x", "fu-gone", ready=True)
    actions = w.scheduler.handle(m.NodeJoined("no-1", 1000, 4096, (), (container, stranger)), 0.0)
    assert actions == [m.StopContainer("ct-x", "no-1", "no such function", drain=False)]
    actions = w.scheduler.handle(m.InputFinished("ct-old", "in-old", 1, "ok", 1.0), 0.0)
    assert actions == [m.Deliver("in-old", 1), m.AssignInputs("ct-old", "no-1", (("in-new", 2),))]


def test_an_attempt_that_does_not_count_is_revoked_on_adoption() -> None:
    w = World()
    w.function(m.FunctionConfig("fu-1", "default", m.Demand(1000, 512)))
    running = (m.RunningAttempt("in-unknown", 1, started=True),)
    actions = w.scheduler.handle(
        m.NodeJoined(
            "no-1", 1000, 4096, (), (m.KnownContainer("ct-old", "fu-1", ready=True, inputs=running),)
        ),
        0.0,
    )
    assert actions == [m.RevokeInputs("ct-old", "no-1", (("in-unknown", 1),))]


def test_a_rejoining_node_that_lost_a_container_gives_its_input_back() -> None:
    w = world(cpu=1000)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.boxes.clear()
    actions = w.send(m.NodeJoined("no-1", 1000, 8192))
    assert of(actions, m.StartContainer)


def missing(w: World) -> list[m.Action]:
    """The node is back with ct-0, and without the input that was given to it."""
    w.boxes["ct-0"].inputs.clear()
    known = m.KnownContainer("ct-0", "fu-1", ready=True)
    return w.send(m.NodeJoined("no-1", 1000, 8192, (), (known,)))


def test_an_input_that_never_reached_its_container_is_given_again() -> None:
    w = world(cpu=1000)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    assert missing(w) == [m.AssignInputs("ct-0", "no-1", (("in-0", 2),))]


def test_a_cancelled_input_that_never_reached_its_container_is_over() -> None:
    w = world(cpu=1000)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.send(m.InputsCancelled(("in-0",)))
    assert missing(w) == [m.FailInput("in-0", "cancelled", "the call was cancelled")]


def test_a_generator_that_its_node_lost_after_a_yield_is_not_run_again() -> None:
    w = world(cpu=1000)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.send(m.InputYielded("ct-0", "in-0", 1))
    (failed,) = of(missing(w), m.FailInput)
    assert (failed.input, failed.code) == ("in-0", "interrupted")


def test_cancelling_many_waiting_inputs_is_linear() -> None:
    w = world(max_containers=1)
    w.arrive("fu-1", 20_000)
    w.send(m.InputsCancelled(tuple(w.arrived)))
    assert len(w.final) == 20_000


def test_a_container_gets_as_many_inputs_as_it_works_on_at_once() -> None:
    w = world(capacity=3, target=3)
    assert len(of(w.arrive("fu-1", 7), m.StartContainer)) == 3
    w.ready("ct-0")
    assert len(w.boxes["ct-0"].inputs) == 3
    w.ready("ct-1")
    w.ready("ct-2")
    assert sorted(len(b.inputs) for b in w.boxes.values()) == [1, 3, 3]
    w.arrive("fu-1", 1)
    assert sorted(len(b.inputs) for b in w.boxes.values()) == [2, 3, 3]  # where there is room


def test_the_target_scales_and_the_capacity_holds_what_comes_meanwhile() -> None:
    w = world(capacity=4, target=2)
    w.arrive("fu-1", 8)
    assert len(w.boxes) == 4
    w.ready("ct-0")
    assert len(w.boxes["ct-0"].inputs) == 4


def test_quick_inputs_of_a_shared_container_are_prefetched_for_all_its_places() -> None:
    w = world(max_containers=1, capacity=4, target=4)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0", seconds=0.001)
    w.arrive("fu-1", 100)
    assert len(w.boxes["ct-0"].inputs) == 20  # 4 at once, 1 ms each, in 5 ms


def test_a_batch_gathers_in_one_container() -> None:
    w = world(min_containers=2, max_containers=2, capacity=4, target=4, batch=4)
    w.ready("ct-0")
    w.ready("ct-1")
    for _ in range(4):
        w.arrive("fu-1", 1)
    first = next(b for b in w.boxes.values() if b.inputs)
    assert len(first.inputs) == 4
    w.arrive("fu-1", 5)
    second = next(b for b in w.boxes.values() if b is not first)
    assert len(second.inputs) == 4  # the fifth waits: both are full


def test_a_batch_that_runs_gathers_no_more() -> None:
    w = world(min_containers=2, max_containers=2, capacity=4, target=4, batch=4)
    w.ready("ct-0")
    w.ready("ct-1")
    w.arrive("fu-1", 2)
    name, busy = next((n, b) for n, b in w.boxes.items() if b.inputs)
    for input_id in list(busy.inputs):
        w.start_input(name, input_id)
    w.arrive("fu-1", 2)
    assert [len(b.inputs) for b in w.boxes.values()] == [2, 2]


def test_a_single_use_container_ends_with_its_input() -> None:
    w = world(single_use=True)
    w.arrive("fu-1", 2)
    w.ready("ct-0")
    actions = w.finish("ct-0", "in-0", seconds=0.0001)
    assert m.StopContainer("ct-0", "no-1", "it was for one input") in actions
    w.ready("ct-1")
    w.arrive("fu-1", 3)
    assert len(w.boxes) == 5 - 1  # four fit; each input has its own
    w.run_to_the_end()
    assert len(w.final) == 5


def test_a_retry_of_a_single_use_input_has_another_container() -> None:
    w = world(single_use=True, max_retries=1, initial_delay=0.0)
    w.arrive("fu-1", 1)
    w.ready("ct-0")
    w.finish("ct-0", "in-0", "exception")
    w.exit("ct-0")
    w.tick(0.1)
    w.ready("ct-1")
    assert w.boxes["ct-1"].inputs == {"in-0": 2}


def test_a_single_use_container_of_an_earlier_life_takes_nothing() -> None:
    """Whether it has had its input, nobody knows any more."""
    w = World()
    w.function(m.FunctionConfig("fu-1", "default", m.Demand(1000, 512), single_use=True))
    known = m.KnownContainer("ct-old", "fu-1", ready=True)
    actions = w.scheduler.handle(m.NodeJoined("no-1", 4000, 8192, containers=(known,)), 0.0)
    assert actions == [m.StopContainer("ct-old", "no-1", "it was for one input")]


def test_retries_grow_and_follow_the_input_to_other_containers() -> None:
    w = world(single_use=True, max_retries=3, initial_delay=1.0, backoff_coefficient=3.0, max_delay=5.0)
    w.arrive("fu-1", 1)
    delays = []
    for n in range(4):
        w.ready(f"ct-{n}")
        actions = w.finish(f"ct-{n}", "in-0", "timeout")
        delays += [a.delay for a in of(actions, m.Retrying)]
        w.exit(f"ct-{n}")
        w.tick(10.0)
    assert delays == [1.0, 3.0, 5.0]
    assert isinstance(w.final["in-0"], m.Deliver)
