"""The kinds of image steps. A new one is a module here and one line of registration below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.build.base import BuildError
from squall.build.steps.apt import Apt
from squall.build.steps.env import Env
from squall.build.steps.files import Files
from squall.build.steps.pip import Pip
from squall.build.steps.run import Run
from squall.build.steps.step import Arguments, Bench, ImageConfig, ImageStep
from squall.build.steps.workdir import Workdir

if TYPE_CHECKING:
    from squall.wire.values import Step

STEPS: dict[str, type[ImageStep]] = {
    "pip": Pip,
    "apt": Apt,
    "run": Run,
    "env": Env,
    "workdir": Workdir,
    "files": Files,
}

#: Kinds whose argument `env` has variables for their commands alone.
OWN_ENV = frozenset({"pip", "apt", "run"})

__all__ = ["OWN_ENV", "STEPS", "Bench", "ImageConfig", "ImageStep", "parse"]


def parse(step: Step) -> ImageStep:
    """The step that a tenant asked for. Raises BuildError, one line, for one that makes no sense."""
    kind = STEPS.get(step.kind)
    if kind is None:
        raise BuildError(f"unknown image step {step.kind[:100]!r}; this node knows {', '.join(STEPS)}")
    args = Arguments(step.kind, step.args)
    if step.kind in OWN_ENV and step.args.get("env") is not None:
        # `recipes.Stage.within` gives them to the step's commands; here they are only checked.
        Env.parse(Arguments(step.kind, {"vars": args.mapping("env")}))
    parsed = kind.parse(args)
    args.end()
    return parsed
