"""Parameters of functions: what they become, and the one line for what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import InvalidError, UnimplementedError
from squall.sdk.declaration import declare
from squall.sdk.options import DEFAULTS, FunctionOptions
from squall.wire.values import AutoscalerSettings, GpuRequest, ResourceRequest, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable


def test_bounds_are_written_in_full() -> None:
    with pytest.raises(InvalidError, match=r"give a number of MiB from 1 to 1073741824$"):
        declare({"memory": 0})
    with pytest.raises(InvalidError, match=r"give a number of cores from 0\.001 to 1000$"):
        declare({"cpu": 0})


def test_defaults() -> None:
    declared = declare({})
    assert declared.resources == ResourceRequest(125, None, 128, None, None, [])
    assert declared.autoscaler == AutoscalerSettings(0, None, 0, 60.0)
    assert declared.retries == RetryPolicy(0)
    assert (declared.timeout, declared.startup_timeout) == (300.0, None)
    assert declared.env == {}
    assert DEFAULTS.keys() == FunctionOptions.__annotations__.keys()


@pytest.mark.covers(
    "App.function(env)",
    "App.function(gpu)",
    "App.function(cpu)",
    "App.function(memory)",
    "App.function(ephemeral_disk)",
    "App.function(min_containers)",
    "App.function(max_containers)",
    "App.function(buffer_containers)",
    "App.function(scaledown_window)",
    "App.function(retries)",
    "App.function(timeout)",
    "App.function(startup_timeout)",
    "App.function(cloud)",
    "App.function(region)",
    "App.function(routing_region)",
    "App.function(nonpreemptible)",
    "App.function(block_network)",
    "Retries(max_retries)",
    "Retries(backoff_coefficient)",
    "Retries(initial_delay)",
    "Retries(max_delay)",
)
def test_every_value() -> None:
    declared = declare(
        {
            "cpu": (0.5, 2),
            "memory": (256, 512),
            "ephemeral_disk": 1024,
            "gpu": ["h100:2", "A100-80GB"],
            "min_containers": 1,
            "max_containers": 4,
            "buffer_containers": 2,
            "scaledown_window": 2,
            "retries": squall.Retries(max_retries=2, initial_delay=0.5),
            "timeout": 86_400,
            "startup_timeout": 30,
            "env": {"A": "1", "B": None},
            "block_network": True,
            "region": ["eu-west", "us-east"],
            "routing_region": "us-east",
            "cloud": "auto",
            "nonpreemptible": True,
            "include_source": False,
        }
    )
    assert declared.resources == ResourceRequest(
        500, 2000, 256, 512, 1024, [GpuRequest("H100", 2), GpuRequest("A100-80GB")]
    )
    assert declared.autoscaler == AutoscalerSettings(1, 4, 2, 2.0)
    assert declared.retries == RetryPolicy(2, 2.0, 0.5, 60.0)
    assert (declared.timeout, declared.startup_timeout) == (86_400.0, 30.0)
    assert declared.env == {"A": "1"}
    assert declared.block_network
    assert declared.include_source is False


def test_a_number_of_retries_is_one_second_apart() -> None:
    assert declare({"retries": 3}).retries == RetryPolicy(3, 1.0, 1.0)


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("T4", [GpuRequest("T4")]),
        ("H100!", [GpuRequest("H100")]),
        ("B200+:4", [GpuRequest("B200", 4), GpuRequest("B300", 4)]),
        ("rtx-pro-6000", [GpuRequest("RTX-PRO-6000")]),
    ],
)
def test_gpus(gpu: str, expected: list[GpuRequest]) -> None:
    assert declare({"gpu": gpu}).resources.gpus == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu": 0}, "cpu=0 is not possible: give a number of cores from 0.001 to 1000"),
        ({"cpu": "2"}, "cpu='2' is not possible"),
        ({"routing_region": 1}, "routing_region=1 is not possible: give a text"),
        ({"cpu": (2, 1)}, "the limit is below the request"),
        ({"cpu": (1, 2, 3)}, r"give a request, or \(request, limit\)"),
        ({"memory": 1.5}, "memory=1.5 is not possible: give a whole number of MiB"),
        ({"ephemeral_disk": 0}, "ephemeral_disk=0"),
        ({"gpu": "H100:9"}, "can have 1 to 8 of H100"),
        ({"gpu": "A10:5"}, "can have 1 to 4 of A10"),
        ({"gpu": "H100:0"}, "1 to 8"),
        ({"gpu": "two of them"}, 'such as "H100:2"'),
        ({"gpu": 3}, "gpu=3 is not possible: give a text, or a list of texts"),
        ({"min_containers": -1}, "min_containers=-1"),
        ({"min_containers": True}, "min_containers=True"),
        ({"max_containers": 0}, "max_containers=0 is not possible"),
        (
            {"min_containers": 3, "max_containers": 2},
            "max_containers=2 is not possible: min_containers=3 is more",
        ),
        (
            {"scaledown_window": 1},
            "scaledown_window=1 is not possible: give a whole number of seconds from 2 to 3600",
        ),
        ({"scaledown_window": 3601}, "scaledown_window=3601"),
        ({"retries": 11}, "retries=11 is not possible"),
        ({"retries": "3"}, r"squall.Retries\(...\)"),
        ({"timeout": "5m"}, "timeout='5m' is not possible: give a whole number of seconds from 1 to 86400"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": 86_401}, "timeout=86401"),
        ({"startup_timeout": 0}, "startup_timeout=0"),
        ({"env": {"A": 1}}, "env={'A': 1} is not possible: give names and texts"),
        ({"env": {"SQUALL_TASK_ID": "x"}}, "are Squall's own"),
        ({"env": ["A=1"]}, "give a dictionary"),
        ({"name": "two words"}, "is no name for a function"),
        ({"image": "python:3.11"}, "give a squall.Image"),
        ({"cloud": "moon"}, "give one of aws, gcp, oci, auto"),
        ({"block_network": "yes"}, "give True or False"),
        ({"serialized": 1}, "give True or False"),
        ({"single_use_containers": 1}, "give True or False"),
        ({"max_inputs": 2}, "give 1, or better single_use_containers=True"),
    ],
)
def test_a_wrong_value_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        declare(options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", object()),
        ("network_file_systems", {"/x": object()}),
        ("volumes", {"/x": object()}),
        ("proxy", object()),
        ("enable_memory_snapshot", True),
        ("restrict_modal_access", True),
        ("i6pn", True),
        ("experimental_options", {"x": 1}),
        ("_experimental_restrict_output", True),
    ],
)
def test_what_is_not_there_yet_is_never_ignored(name: str, value: object) -> None:
    with pytest.raises(UnimplementedError, match=f"{name}= is not in this version"):
        declare({name: value})
    declare({name: DEFAULTS[name]})


@pytest.mark.covers("App.function(single_use_containers)", "App.function(max_inputs)")
def test_containers_for_a_single_use() -> None:
    assert not declare({}).single_use
    assert declare({"single_use_containers": True}).single_use
    with pytest.warns(DeprecationWarning, match="write single_use_containers=True"):
        assert declare({"max_inputs": 1}).single_use


def test_an_unknown_parameter_names_the_right_ones() -> None:
    app = squall.App("x")
    with pytest.raises(InvalidError, match=r"no parameter gpus=: did you mean gpu=\?$"):
        app.function(gpus="H100")  # type: ignore[call-arg]
    with pytest.raises(InvalidError, match=r"no parameter nonsense=: it takes image, ") as caught:
        app.function(nonsense=1)  # type: ignore[call-arg]
    assert "scaledown_window" in str(caught.value)
    assert "_experimental" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"max_retries": -1}, {"max_retries": 1, "max_delay": 0.5}])
def test_retries_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        squall.Retries(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "two words"}, "is no name for an app"),
        ({"name": ""}, "is no name for an app"),
        ({"image": 3}, "give a squall.Image"),
        ({"include_source": None}, "give True or False"),
    ],
)
def test_apps_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        squall.App(**options)


@pytest.mark.parametrize("options", [{"volumes": {"/a": 1}}])
def test_apps_have_nothing_that_is_ignored(options: dict[str, Any]) -> None:
    with pytest.raises(UnimplementedError):
        squall.App(**options)


def test_decorating_what_is_no_function() -> None:
    app = squall.App("x")
    with pytest.raises(InvalidError, match="with parentheses"):
        app.function(_plain)
    with pytest.raises(InvalidError, match="is for functions"):
        app.function()(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="with parentheses"):
        app.local_entrypoint(_plain)


def test_functions_that_no_container_could_load() -> None:
    app = squall.App("x")

    def inside() -> None:
        pass

    with pytest.raises(InvalidError, match="is defined inside a function"):
        app.function()(inside)
    with pytest.raises(InvalidError, match="a lambda has no name"):
        app.function(serialized=True)(lambda: None)
    assert app.function(serialized=True)(inside).name == "inside"
    assert app.function(serialized=True, name="nameless")(lambda: None).name == "nameless"


def test_two_functions_of_one_name(load: Callable[..., Any]) -> None:
    with pytest.raises(InvalidError, match="two functions f"):
        load("@app.function()\ndef f(): pass\n@app.function(name='f')\ndef g(): pass\n")


def _plain() -> None:
    pass
