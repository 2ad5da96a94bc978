"""From an image as declared to what the server needs: local files are read here, and not before.

An image is declared inside containers too, where the files are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squall.sdk.patterns import Ignore
    from squall.sdk.trees import Tree
    from squall.wire.values import Recipe


class Plan(NamedTuple):
    """A step to be. `late` reads local files: arguments that they decide, and a tree that the step copies."""

    kind: str
    args: Mapping[str, Any] = {}
    force: bool = False
    late: Callable[[], tuple[Mapping[str, Any], Tree | None]] | None = None


class Mounted(NamedTuple):
    """A local folder that containers see at `target`, without being part of the image."""

    target: str
    read: Callable[[], Tree]


class PythonSource(NamedTuple):
    """Local modules that containers can import."""

    modules: tuple[str, ...]
    ignore: Ignore


class Resolved(NamedTuple):
    """A recipe, and the files that it and the containers need."""

    recipe: Recipe
    trees: list[Tree]
    mounts: list[tuple[str, Tree]]


def resolve(base: str, python: str, plans: tuple[Plan, ...], mounted: tuple[Mounted, ...]) -> Resolved:
    """Reads all local files. Raises InvalidError for one that is not there."""
    from squall.wire.values import Recipe, Step

    steps, trees = [], []
    for plan in plans:
        late, tree = plan.late() if plan.late else ({}, None)
        steps.append(Step(plan.kind, {**plan.args, **late}, plan.force))
        if tree is not None:
            trees.append(tree)
    return Resolved(Recipe(base, python, steps), trees, [(m.target, m.read()) for m in mounted])


def recipe_without_files(base: str, python: str, plans: tuple[Plan, ...]) -> Recipe | None:
    """The recipe, if no local file has a say in it."""
    from squall.wire.values import Recipe, Step

    if any(plan.late for plan in plans):
        return None
    return Recipe(base, python, [Step(plan.kind, dict(plan.args)) for plan in plans])
