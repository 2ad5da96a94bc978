"""Classes: how they are declared, made into objects, called, sent along, and what is refused."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

import squall
from squall.exception import ExecutionError, InvalidError, NotFoundError, UnimplementedError
from squall.sdk import variants
from squall.wire.hashing import recipe_id
from squall.wire.values import Recipe
from tests.sdk.fake_client import FakeClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sdk.fake_client import FakeServer

    Load = Callable[..., Any]

MODEL = """
import asyncio
entered = []

class Base:
    @squall.enter()
    def first(self):
        entered.append("base")

    @squall.method()
    def shared(self):
        return "shared by " + self.name()

    @squall.method()
    def overridden(self):
        return "base"

@app.cls(cpu=2, max_containers=5)
class Model(Base):
    '''A model.'''
    size: str = squall.parameter(default="small")
    layers: int = squall.parameter(default=1)
    CONSTANT = 7

    @squall.enter()
    def load(self):
        self.weights = self.size * self.layers
        entered.append(self.size)

    @squall.exit()
    def leave(self):
        pass

    @squall.method()
    def predict(self, x, times=1):
        return self.weights + x * times

    @squall.method()
    async def later(self, x):
        await asyncio.sleep(0)
        return self.weights + x

    @squall.method()
    def count(self, n):
        yield from range(n)

    @squall.method()
    def overridden(self):
        return super().overridden() + " and " + self.predict("!") + self.predict.local("?")

    def name(self):
        return "Model " + self.size

    @staticmethod
    def helper(x):
        return 2 * x

@app.function()
def use(obj, x):
    return obj.predict.remote(x)
"""


@pytest.fixture
def model(load: Load, server: FakeServer) -> Any:
    return load(MODEL)


def specs(server: FakeServer) -> dict[str, Any]:
    return next(iter(server.apps.values())).specs


# ------------------------------------------------------------------------------------------------- calling


@pytest.mark.covers("App.cls", "method", "parameter(default)", "enter")
def test_an_object_has_methods_in_containers(model: Any, server: FakeServer) -> None:
    with model.app.run():
        obj = model.Model()
        assert obj.predict.remote("x", times=2) == "smallxx"
        assert obj.later.remote("y") == "smally"
        assert obj.shared.remote() == "shared by Model small"
        assert obj.overridden.remote() == "base and small!small?"
        assert list(obj.count.remote_gen(3)) == [0, 1, 2]
        assert list(obj.predict.map("ab")) == ["smalla", "smallb"]
        assert list(obj.predict.starmap([("a", 2), ("b", 1)])) == ["smallaa", "smallb"]
        obj.predict.for_each("ab")
        assert obj.predict.spawn("z").get() == "smallz"
    assert model.entered == ["base", "small"]
    assert {i.method for c in server.calls.values() for i in c.inputs.values()} == {
        "predict", "later", "shared", "overridden", "count",
    }  # fmt: skip
    assert "function.variant" not in server.requests, "what has no values of its own needs no variant"


def test_the_same_on_asyncio(model: Any, server: FakeServer) -> None:
    async def calls() -> None:
        async with model.app.run():
            obj = model.Model(size="m")
            assert await obj.predict.remote.aio("x") == "mx"
            assert [v async for v in obj.count.remote_gen.aio(2)] == [0, 1]
            assert [v async for v in obj.later.map.aio("ab")] == ["ma", "mb"]
            call = await obj.predict.spawn.aio("z")
            assert await call.get.aio() == "mz"

    asyncio.run(calls())


@pytest.mark.covers("exit", "App.cls(cpu)", "App.cls(max_containers)")
def test_what_the_server_is_told(model: Any, server: FakeServer) -> None:
    with model.app.run():
        spec = specs(server)["Model"]
    assert (spec.name, spec.module, spec.qualname) == ("Model", "sdk_example", "Model")
    assert spec.resources.cpu_millis == 2000
    assert spec.autoscaler.max_containers == 5
    assert {n: m.is_generator for n, m in spec.class_.methods.items()} == {
        "shared": False, "overridden": False, "predict": False, "later": False, "count": True,
    }  # fmt: skip
    assert {n: (p.kind, p.default) for n, p in spec.class_.parameters.items()} == {
        "size": ("str", "small"), "layers": ("int", 1),
    }  # fmt: skip
    assert spec.class_.exits
    assert specs(server)["use"].class_ is None


@pytest.mark.covers(
    "App.cls(image)",
    "App.cls(env)",
    "App.cls(gpu)",
    "App.cls(ephemeral_disk)",
    "App.cls(memory)",
    "App.cls(min_containers)",
    "App.cls(buffer_containers)",
    "App.cls(scaledown_window)",
    "App.cls(retries)",
    "App.cls(timeout)",
    "App.cls(startup_timeout)",
    "App.cls(cloud)",
    "App.cls(region)",
    "App.cls(routing_region)",
    "App.cls(nonpreemptible)",
    "App.cls(block_network)",
    "App.cls(single_use_containers)",
    "App.cls(include_source)",
)
def test_every_option_of_a_class(load: Load, server: FakeServer) -> None:
    module = load(
        "image = squall.Image.debian_slim('3.11')\n"
        "@app.cls(image=image, env={'A': '1'}, gpu='T4', serialized=False, cpu=(1, 2), memory=64,\n"
        "    ephemeral_disk=9, min_containers=1, max_containers=3, buffer_containers=2, scaledown_window=7,\n"
        "    retries=4, timeout=5, startup_timeout=6, cloud='auto', region='eu', routing_region='eu',\n"
        "    nonpreemptible=True, block_network=True, single_use_containers=True, include_source=False)\n"
        "class M:\n    @squall.method()\n    def f(self): pass\n"
    )
    with module.app.run():
        spec = specs(server)["M"]
    resources, scale = spec.resources, spec.autoscaler
    assert (resources.cpu_millis, resources.cpu_limit_millis, resources.memory_mib) == (1000, 2000, 64)
    assert (resources.ephemeral_disk_mib, resources.gpus[0].type) == (9, "T4")
    assert (scale.min_containers, scale.max_containers) == (1, 3)
    assert (scale.buffer_containers, scale.scaledown_window) == (2, 7.0)
    assert (spec.retries.max_retries, spec.timeout, spec.startup_timeout) == (4, 5.0, 6.0)
    assert (spec.env, spec.block_network, spec.single_use, spec.mounts) == ({"A": "1"}, True, True, [])
    assert spec.image == recipe_id(Recipe("debian_slim", "3.11"))


@pytest.mark.covers("parameter")
def test_each_set_of_parameters_is_asked_for_once(model: Any, server: FakeServer) -> None:
    with model.app.run():
        large = model.Model(size="large", layers=2)
        assert [large.predict.remote("x"), large.predict.remote("y")] == ["largelargex", "largelargey"]
        assert model.Model(size="m").predict.remote("x") == "mx"
    assert server.requests.count("function.variant") == 2
    assert len(server.objects) == 2


def test_an_id_is_asked_for_again_before_the_server_forgets_it(
    model: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model.app.run():
        monkeypatch.setattr(variants, "FRESH_S", -1.0)
        large = model.Model(size="large")
        large.predict.remote("x")
        server.variants.clear()
        assert large.predict.remote("x") == "largex"
    assert server.requests.count("function.variant") == 2


def test_an_app_that_runs_again_has_new_ids(model: Any, server: FakeServer) -> None:
    large = model.Model(size="large")
    for _ in range(2):
        with model.app.run():
            assert large.predict.remote("x") == "largex"
    assert len({c.function for c in server.calls.values()}) == 2


def test_an_app_includes_another_ones_classes(load: Load, server: FakeServer) -> None:
    module = load(MODEL + "\nouter = squall.App('outer')\nouter.include(app)\n")
    assert list(module.outer.registered_classes) == ["Model"]
    assert list(module.outer.registered_functions) == ["use"]
    with module.outer.run():
        assert module.Model(size="m").predict.remote("x") == "mx"


@pytest.mark.covers("enter(snap)", "method(is_generator)")
def test_what_is_said_of_members_counts(load: Load, server: FakeServer) -> None:
    module = load(
        "order = []\ndef wraps(f): return lambda *a: f(*a)\n@app.cls()\nclass M:\n"
        "    @squall.enter()\n    def late(self): order.append('late')\n"
        "    @squall.enter(snap=True)\n    def early(self): order.append('early')\n"
        "    @squall.method(is_generator=True)\n    @wraps\n    def f(self, n): yield from range(n)\n"
    )
    with module.app.run():
        assert list(module.M().f.remote_gen(2)) == [0, 1]
    assert module.order == ["early", "late"]


def test_many_inputs_are_spawned(model: Any, server: FakeServer) -> None:
    with model.app.run():
        call = model.Model(size="m").predict.spawn_map("ab")
        assert list(call.iter()) == ["ma", "mb"]
        assert model.Model(size="m").predict.info().name == "Model"


def test_a_generator_is_not_called_as_a_function(model: Any, server: FakeServer) -> None:
    with model.app.run():
        with pytest.raises(InvalidError, match=r"Model\.count is a generator function"):
            model.Model().count.remote(1)
        with pytest.raises(InvalidError, match=r"Model\.predict is no generator function"):
            next(model.Model().predict.remote_gen(1))


def test_an_app_that_does_not_run(model: Any, server: FakeServer) -> None:
    with pytest.raises(ExecutionError, match="Model is not on the server"):
        model.Model().predict.remote(1)


# --------------------------------------------------------------------------------------------------- local


def test_local_enters_once(model: Any) -> None:
    obj = model.Model(size="m", layers=2)
    assert obj.size == "m"
    assert model.entered == []
    assert obj.predict.local("x") == "mmx"
    assert list(obj.count.local(2)) == [0, 1]
    assert obj.overridden.local() == "base and mm!mm?"
    assert asyncio.run(obj.later.local.aio("x")) == "mmx"
    assert obj.weights == "mm"
    assert model.entered == ["base", "m"]
    assert obj.name() == "Model m"
    assert obj.helper(2) == 4


def test_local_with_an_async_enter(load: Load) -> None:
    module = load(
        "@app.cls()\nclass M:\n    n = 0\n"
        "    @squall.enter()\n    async def load(self):\n        self.n += 1\n"
        "    @squall.method()\n    def f(self):\n        return self.n\n"
    )
    assert module.M().f.local() == 1
    obj = module.M()

    async def both() -> list[int]:
        with pytest.raises(InvalidError, match=r"M has async @enter methods: call \.local\.aio"):
            obj.f.local()
        return [await obj.f.local.aio(), obj.f.local()]

    assert asyncio.run(both()) == [1, 1]


def test_the_class_still_has_its_attributes(model: Any) -> None:
    assert model.Model.CONSTANT == 7
    assert model.Model.helper(4) == 8
    assert model.Model.__doc__ == "A model."
    assert not hasattr(model.Model, "predict")
    with pytest.raises(InvalidError, match=r"make an object first: Model\(\.\.\.\)\.predict"):
        model.Model.predict.remote(1)
    with pytest.raises(AttributeError):
        _ = model.Model.nonsense
    with pytest.raises(AttributeError):
        _ = model.Model().nonsense
    assert repr(model.Model) == "<Cls Model>"
    assert repr(model.Model(size="m")) == "<Model(size='m')>"
    assert repr(model.Model().predict) == "<Function Model.predict>"


def test_a_class_inherits_from_a_decorated_one(load: Load, server: FakeServer) -> None:
    module = load(
        MODEL + "\n@app.cls()\nclass Larger(Model):\n    @squall.method()\n    def predict(self, x):\n"
        "        return 'larger ' + super().predict(x)\n"
    )
    with module.app.run():
        assert module.Larger(size="m").predict.remote("x") == "larger mx"
        assert module.Model(size="m").predict.remote("x") == "mx"
        assert module.Larger().shared.remote() == "shared by Model small"


def test_an_object_of_a_plain_class_is_a_plain_object(load: Load) -> None:
    module = load("class M:\n    @squall.method()\n    def f(self, x):\n        return x\n")
    assert module.M().f(1) == module.M().f.local(2) - 1 == 1
    with pytest.raises(ExecutionError, match=r"M is not declared with @app\.cls"):
        module.M().f.remote(1)


# ---------------------------------------------------------------------------------------------- sent along


def test_objects_and_methods_go_along_as_arguments(model: Any, server: FakeServer) -> None:
    with model.app.run() as app:
        server.container_app = app.app_id
        assert model.use.remote(model.Model(size="m"), "x") == "mx"
        obj = pickle.loads(pickle.dumps(model.Model(size="m")))
        assert repr(obj) == "<Model(size='m')>"
        assert obj.predict.remote("x") == "mx"
        assert list(pickle.loads(pickle.dumps(obj.count)).remote_gen(2)) == [0, 1]
        cls = pickle.loads(cloudpickle.dumps(model.Model.with_options(timeout=7)))
        assert cls(size="m").predict.remote("x") == "mx"
        assert {v.timeout for v in server.variants.values()} == {300.0, 7.0}
        with pytest.raises(ExecutionError, match="Model has no code here"):
            obj.predict.local("x")


def test_own_methods_from_inside_a_container(
    load: Load, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(
        "@app.cls()\nclass M:\n    n: int = squall.parameter()\n"
        "    @squall.method()\n    def outer(self, x):\n        return self.inner.remote(x) + self.inner(x)\n"
        "    @squall.method()\n    def inner(self, x):\n        return self.n * x\n"
    )
    with module.app.run():
        obj = module.M(n=10)
        assert obj.inner.remote(1) == 10
        (own,) = server.variants
        monkeypatch.setattr("squall.runner.context.function_id", own)
        server.objects.clear()
        assert obj.outer.remote(2) == 40
        assert obj.outer.local(2) == 40
    assert {c.function for c in server.calls.values()} == {own}


@pytest.mark.covers("App.cls(serialized)")
def test_a_serialized_class(load: Load, server: FakeServer) -> None:
    module = load(
        "def make(factor):\n    @app.cls(serialized=True)\n    class M:\n"
        "        n: int = squall.parameter()\n"
        "        @squall.enter()\n        def load(self):\n            self.product = self.n * factor\n"
        "        @squall.method()\n        def f(self):\n            return self.product\n    return M\n"
    )
    cls = module.make(7)
    with module.app.run():
        assert cls(n=6).f.remote() == 42
        assert specs(server)["M"].serialized is not None


# ------------------------------------------------------------------------------------------- looked up


@pytest.mark.covers("Cls.from_name")
def test_a_class_of_a_deployed_app(model: Any, server: FakeServer) -> None:
    model.app.deploy()
    cls = squall.Cls.from_name("example", "Model")
    assert cls().predict.remote("x") == "smallx"
    obj = cls(size="m")
    assert obj.predict.remote("x") == "mx"
    assert list(obj.count.remote_gen(2)) == [0, 1]
    assert pickle.loads(pickle.dumps(obj)).predict.remote("x") == "mx"
    with pytest.raises(InvalidError, match="is a generator function"):
        obj.count.remote(1)
    with pytest.raises(NotFoundError, match="no method nonsense; it has: shared, overridden"):
        obj.nonsense.remote()
    with pytest.raises(InvalidError, match="no parameter other"):
        cls(other=1).predict.remote("x")
    with pytest.raises(ExecutionError, match="no code here"):
        obj.predict.local("x")


@pytest.mark.covers("Cls.from_name(environment_name)", "Cls.from_name(client)")
def test_a_class_elsewhere(model: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    model.app.deploy()
    client = FakeClient(server)
    own = squall.Cls.from_name("example", "Model", client=client)(size="m")
    assert own.predict.remote("x") == "mx"
    assert len(client.opened) == 1
    with pytest.raises(TypeError, match="looked up with client="):
        pickle.dumps(own)
    asked: list[str] = []

    def connect(*, environment: str) -> FakeClient:
        asked.append(environment)
        return FakeClient(server)

    monkeypatch.setattr("squall.client.connect.connect", connect)
    there = squall.Cls.from_name("example", "Model", environment_name="there")(size="m")
    assert pickle.loads(pickle.dumps(there)).predict.remote("x") == "mx"
    assert asked == ["there"]


def test_classes_and_functions_are_not_mistaken(model: Any, server: FakeServer) -> None:
    model.app.deploy()
    with pytest.raises(InvalidError, match=r"Model is a class: look it up by squall\.Cls\.from_name"):
        squall.Function.from_name("example", "Model").remote(1)
    with pytest.raises(InvalidError, match=r"called on a function: look it up by squall\.Function"):
        squall.Cls.from_name("example", "use")().predict.remote(1)
    with pytest.raises(NotFoundError):
        squall.Cls.from_name("example", "Nothing")().f.remote()


# ------------------------------------------------------------------------------------------------ options


@pytest.mark.covers("Cls.with_options")
def test_options_of_a_class(model: Any, server: FakeServer) -> None:
    with model.app.run():
        other = model.Model.with_options(cpu=(1, 2), env={"A": "1"}).with_options(env={"B": "2"}, timeout=9)
        assert other(size="m").predict.remote("x") == "mx"
        assert model.Model(size="m").predict.remote("x") == "mx"
    changed, plain = server.variants.values()
    assert (changed.resources.cpu_millis, changed.resources.cpu_limit_millis) == (1000, 2000)
    assert (changed.env, changed.timeout, changed.parameters) == (
        {"A": "1", "B": "2"}, 9.0, {"size": "m", "layers": 1},
    )  # fmt: skip
    assert (plain.resources.cpu_millis, plain.env, plain.timeout) == (2000, {}, 300.0)


@pytest.mark.covers(
    "Cls.with_options(cpu)",
    "Cls.with_options(memory)",
    "Cls.with_options(gpu)",
    "Cls.with_options(env)",
    "Cls.with_options(secrets)",
    "Cls.with_options(retries)",
    "Cls.with_options(max_containers)",
    "Cls.with_options(buffer_containers)",
    "Cls.with_options(scaledown_window)",
    "Cls.with_options(timeout)",
    "Cls.with_options(region)",
    "Cls.with_options(routing_region)",
    "Cls.with_options(cloud)",
)
def test_every_option_of_a_variant_of_a_class(model: Any, server: FakeServer) -> None:
    secret = squall.Secret.from_dict({"KEY": "value"})
    other = model.Model.with_options(
        cpu=3, memory=512, gpu="h100:2", env={"A": "1"}, secrets=[secret], retries=2, max_containers=4,
        buffer_containers=1, scaledown_window=7, timeout=9, region="eu", cloud="auto",
        routing_region="eu",
    )  # fmt: skip
    with model.app.run():
        assert other(size="m").predict.remote("x") == "mx"
    (changed,) = server.variants.values()
    assert (changed.resources.cpu_millis, changed.resources.memory_mib) == (3000, 512)
    assert [(g.type, g.count) for g in changed.resources.gpus] == [("H100", 2)]
    assert (changed.env, len(changed.secrets), changed.retries.max_retries) == ({"A": "1"}, 1, 2)
    scale = changed.autoscaler
    assert (scale.max_containers, scale.buffer_containers, scale.scaledown_window) == (4, 1, 7.0)
    assert changed.timeout == 9.0


@pytest.mark.covers(
    "Function.with_options",
    "Function.with_options(cpu)",
    "Function.with_options(env)",
    "Function.with_options(timeout)",
    "Function.with_options(memory)",
    "Function.with_options(retries)",
    "Function.with_options(gpu)",
    "Function.with_options(scaledown_window)",
    "Function.with_options(region)",
    "Function.with_options(routing_region)",
    "Function.with_options(cloud)",
    "Function.with_options(buffer_containers)",
    "Function.with_options(max_containers)",
)
def test_options_of_a_function(load: Load, server: FakeServer) -> None:
    module = load("@app.function(timeout=5)\ndef f(x):\n    return x\n")
    more = module.f.with_options(cpu=2, env={"A": "1"}, timeout=9)
    other = module.f.with_options(memory=512, retries=2, gpu="h100:2").with_options(
        memory=1024,
        scaledown_window=7,
        region="eu",
        routing_region="eu",
        cloud="auto",
        buffer_containers=1,
        max_containers=4,
    )
    with module.app.run() as app:
        server.container_app = app.app_id
        assert [other.remote(1), module.f.remote(1)] == [1, 1]
        assert list(other.map([1, 2])) == [1, 2]
        assert other.local(3) == 3
        assert pickle.loads(pickle.dumps(other)).remote(4) == 4
        assert more.remote(5) == 5
    spec, changed = server.variants.values()
    assert (changed.resources.cpu_millis, changed.env, changed.timeout) == (2000, {"A": "1"}, 9.0)
    assert (spec.resources.memory_mib, spec.timeout, spec.retries.max_retries) == (1024, 5.0, 2)
    assert [(g.type, g.count) for g in spec.resources.gpus] == [("H100", 2)]
    scale = spec.autoscaler
    assert (scale.scaledown_window, scale.buffer_containers, scale.max_containers) == (7.0, 1, 4)
    assert other.app is module.app


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpus": 1}, r"with_options has no parameter cpus=: did you mean cpu=\?"),
        ({"cpu": -1}, "cpu=-1 is not possible"),
        ({"timeout": 0}, "timeout=0 is not possible"),
        ({"min_containers": 1}, "has no parameter min_containers="),
        ({"cloud": "moon"}, "cloud='moon' is not possible"),
        ({"volumes": {"/v": 1}}, "volumes= is not in this version"),
        ({"secrets": [1]}, r"secrets=\[1\] is not possible"),
    ],
)
def test_wrong_options(model: Any, options: dict[str, Any], said: str) -> None:
    for each in (model.Model, model.use):
        with pytest.raises((InvalidError, UnimplementedError), match=said):
            each.with_options(**options)
    with pytest.raises(InvalidError, match="options of its class"):
        model.Model().predict.with_options(timeout=1)


@pytest.mark.covers(
    "Obj.update_autoscaler",
    "Obj.update_autoscaler(*)",
    "Function.update_autoscaler",
    "Function.update_autoscaler(*)",
    "Function.autoscaler.*",
)
def test_the_autoscaler(model: Any, server: FakeServer) -> None:
    with model.app.run():
        obj = model.Model(size="m")
        obj.update_autoscaler(min_containers=1, scaledown_window=9)
        model.use.update_autoscaler(max_containers=3)
        assert model.use.autoscaler.settings() == (0, 3, 0, 60.0)
        model.use.autoscaler.update(buffer_containers=2)
        assert model.use.autoscaler.settings() == (0, 3, 2, 60.0)
        assert server.autoscalers[next(iter(server.variants))].min_containers == 1
        obj.update_autoscaler(max_containers=5, buffer_containers=1)
        model.use.update_autoscaler(min_containers=1, buffer_containers=3, scaledown_window=8)
        assert model.use.autoscaler.settings() == (1, 3, 3, 8.0)
        changed = server.autoscalers[next(iter(server.variants))]
        assert (changed.max_containers, changed.buffer_containers) == (5, 1)
        for wrong in ({"min_containers": -1}, {"scaledown_window": 1}, {"max_containers": 0}):
            with pytest.raises(InvalidError, match="is not possible"):
                model.use.update_autoscaler(**wrong)

    async def there() -> Any:
        async with model.app.run():
            await model.Model().update_autoscaler.aio(min_containers=2)
            return await model.use.autoscaler.settings.aio()

    assert asyncio.run(there()).scaledown_window == 60.0


# ----------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sizes": "m"}, "Model has no parameter sizes; it has size, layers"),
        ({"size": 1}, r"size=1 is not possible for Model: give a str, and not an int"),
        ({"layers": True}, "give an int, and not a bool"),
        ({"layers": 1 << 64}, "over 64 bits"),
        ({"size": None}, "give a str, and not a NoneType"),
    ],
)
def test_wrong_parameters(model: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        model.Model(**given)
    with pytest.raises(InvalidError, match="takes its parameters by name"):
        model.Model("m")


METHOD = "    @squall.method()\n    def f(self): pass\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("@app.cls()\nclass M: pass", "M has no methods to call"),
        ("@app.cls\nclass M: pass", r"write @app\.cls\(\) with parentheses"),
        ("@app.cls()\ndef f(): pass", r"@app\.cls\(\) is for classes"),
        ("@app.cls()\n@app.cls()\nclass M:\n" + METHOD, r"@app\.cls\(\) is for classes"),
        ("@app.function()\nclass M: pass", r"write @app\.cls\(\)"),
        ("@app.cls(schedule=1)\nclass M:\n" + METHOD, r"@app\.cls has no parameter schedule="),
        ("@app.cls(name='x')\nclass M:\n" + METHOD, r"@app\.cls has no parameter name="),
        ("@app.cls(cpu=-1)\nclass M:\n" + METHOD, "cpu=-1 is not possible"),
        ("@app.cls(volumes={'/v': 1})\nclass M:\n" + METHOD, r"@app\.cls: volumes= is not in this version"),
        ("@app.function()\n@squall.method()\ndef f(): pass", r"@squall\.method\(\) is for a class"),
        (
            "@app.cls()\nclass M:\n    @app.function()\n    def g(self): pass\n" + METHOD,
            r"M\.g is an @app\.function",
        ),
        (
            "@app.cls()\nclass M:\n    @squall.method\n    def g(self): pass",
            r"write @squall\.method\(\) with",
        ),
        ("@app.cls()\nclass M:\n    @squall.enter\n    def g(self): pass", r"write @squall\.enter\(\) with"),
        ("@app.cls()\nclass M:\n    @squall.exit\n    def g(self): pass", r"write @squall\.exit\(\) with"),
        (
            "@app.cls()\nclass M:\n    @squall.enter()\n    def g(self, x): pass",
            "must take self and nothing else",
        ),
        ("@app.cls()\nclass M:\n    @squall.enter()\n    def g(self): yield", "wants a plain method"),
        ("class M:\n    @squall.method()\n    @staticmethod\n    def g(): pass", "not for a staticmethod"),
        ("class M:\n    @squall.method()\n    @squall.enter()\n    def g(self): pass", "marked twice"),
        ("class M:\n    @squall.method(is_generator=1)\n    def g(self): pass", "is_generator=1"),
        ("class M:\n    @squall.enter(snap=1)\n    def g(self): pass", "snap=1"),
        (
            "@app.cls()\nclass M:\n    def __init__(self, size, n=1): pass\n" + METHOD,
            r"M\.__init__ takes size, n: declare each in the class, as size: str = squall\.parameter\(\)",
        ),
        (
            "@app.cls()\nclass M:\n    @squall.method()\n    @squall.batched(max_batch_size=2, wait_ms=1)\n"
            "    def g(self, x): pass\n" + METHOD,
            r"M\.g is batched: it must be the only method",
        ),
        (
            "@squall.concurrent(max_inputs=2)\n@app.cls()\nclass M:\n" + METHOD,
            r"put it below @app\.function\(\) or @app\.cls",
        ),
        ("@app.cls()\nclass M:\n    a = squall.parameter()\n" + METHOD, "parameter a of M has no type"),
        ("@app.cls()\nclass M:\n    a: float = squall.parameter()\n" + METHOD, "a of M is of type float"),
        ("@app.cls()\nclass M:\n    a: int = squall.parameter(default='1')\n" + METHOD, "give an int"),
        ("@app.cls()\nclass M:\n" + METHOD + "@app.function()\ndef M(): pass", "two functions M"),
        (
            "def g():\n    @app.cls()\n    class M:\n        @squall.method()\n        def f(self): 1\ng()",
            "defined inside a function",
        ),
    ],
)
def test_wrong_declarations(load: Load, source: str, said: str) -> None:
    with pytest.raises((InvalidError, UnimplementedError), match=said) as caught:
        load(source + "\n")
    assert "\n" not in str(caught.value)


@pytest.mark.covers("App.cls(max_inputs)")
def test_a_class_that_takes_one_input(load: Load, server: FakeServer) -> None:
    with pytest.warns(DeprecationWarning, match="single_use_containers=True"):
        module = load("@app.cls(max_inputs=1)\nclass M:\n" + METHOD)
    with module.app.run():
        assert specs(server)["M"].single_use


def test_a_required_parameter(load: Load) -> None:
    module = load("@app.cls()\nclass M:\n    n: int = squall.parameter()\n" + METHOD)
    with pytest.raises(InvalidError, match=r"M needs the parameter n: M\(n=\.\.\.\)"):
        module.M()


@pytest.mark.covers("parameter(init)")
def test_an_attribute_with_a_type_is_no_parameter(load: Load) -> None:
    module = load(
        "@app.cls()\nclass M:\n    n: list = squall.parameter(init=False)\n"
        "    k: list = squall.parameter(init=False, default=3)\n" + METHOD
    )
    assert module.M().k == 3
    with pytest.raises(AttributeError, match="no attribute 'n' yet"):
        _ = module.M().n
    with pytest.raises(InvalidError, match="no parameter k"):
        module.M(k=1)


def test_inside_a_container_nothing_is_checked_again(load: Load, in_container: None) -> None:
    module = load("@app.cls(nonsense=1)\nclass M:\n" + METHOD)
    assert module.M.blueprint.user_cls.__name__ == "M"


@pytest.mark.covers(
    "Cls.with_concurrency",
    "Cls.with_concurrency(*)",
    "Function.with_batching",
    "Function.with_batching(*)",
    "Function.with_concurrency",
    "Function.with_concurrency(*)",
)
def test_sharing_a_container(load: Load, server: FakeServer) -> None:
    module = load(
        "@app.cls()\n@squall.concurrent(max_inputs=8, target_inputs=4)\nclass Many:\n" + METHOD +
        "@app.cls()\nclass Batched:\n    @squall.method()\n"
        "    @squall.batched(max_batch_size=3, wait_ms=50)\n    def f(self, x): return x\n"
        "@app.function()\ndef g(x): return x\n"
    )  # fmt: skip
    with module.app.run():
        module.Many.with_concurrency(max_inputs=5, target_inputs=4)().f.remote()
        batches = module.g.with_batching(max_batch_size=2, wait_ms=10)
        batches.with_concurrency(max_inputs=3, target_inputs=2).remote(1)
    many, batched, plain = (specs(server)[n] for n in ("Many", "Batched", "g"))
    assert (many.concurrency.max_inputs, many.concurrency.target_inputs) == (8, 4)
    assert (batched.batching.max_batch_size, batched.batching.wait) == (3, 0.05)
    assert plain.batching.max_batch_size == 0
    fewer, both = server.variants.values()
    assert (fewer.concurrency.max_inputs, fewer.concurrency.target_inputs) == (5, 4)
    assert both.concurrency.target_inputs == 2
    assert (both.concurrency.max_inputs, both.batching.max_batch_size, both.batching.wait) == (3, 2, 0.01)


@pytest.mark.parametrize("which", ["Model", "use"])
def test_wrong_sharing(model: Any, which: str) -> None:
    target = getattr(model, which)
    with pytest.raises(InvalidError, match="max_inputs=0 is not possible"):
        target.with_concurrency(max_inputs=0)
    with pytest.raises(InvalidError, match="max_inputs=1 is less"):
        target.with_concurrency(max_inputs=1, target_inputs=2)
    with pytest.raises(InvalidError, match="wait_ms=-1 is not possible"):
        target.with_batching(max_batch_size=2, wait_ms=-1)
    with pytest.raises(InvalidError, match="options of its class"):
        model.Model().predict.with_concurrency(max_inputs=2)


@pytest.mark.covers("Cls.from_name(version)", "Function.from_name(version)")
def test_a_version_is_asked_for(model: Any, server: FakeServer) -> None:
    model.app.deploy()
    assert squall.Cls.from_name("example", "Model", version=1)().predict.remote("x") == "smallx"
    function = squall.Function.from_name("example", "use", version=1)
    assert pickle.loads(pickle.dumps(function._handle))._version == 1
    with pytest.raises(TypeError, match="missing 2"):
        function.remote()
    assert [lookup.version for lookup in server.lookups] == [1, 1]
    with pytest.raises(InvalidError, match="version=0 is not possible"):
        squall.Function.from_name("example", "use", version=0)
