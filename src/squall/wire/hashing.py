"""Ids of things by their content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squall.wire.values import Manifest, Recipe, Step


def blob_id(data: bytes | memoryview) -> str:
    """SHA-256, hex: the id of a blob."""
    return hashlib.sha256(data).hexdigest()


def manifest_id(manifest: Manifest) -> str:
    """`mo-` and the hash of the sorted entries."""
    rows = sorted([e.path, e.sha256, e.size, e.mode] for e in manifest.entries)
    return "mo-" + _digest(rows)


def recipe_id(recipe: Recipe) -> str:
    """`im-` and the hash of all that decides the result; `force` of a step does not."""
    return "im-" + _digest([recipe.base, recipe.python, [[s.kind, s.args] for s in recipe.steps]])


def step_id(parent: str, step: Step) -> str:
    """The id of the layer that a step makes on top of the layer `parent`."""
    return "la-" + _digest([parent, step.kind, asdict(step)["args"]])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
