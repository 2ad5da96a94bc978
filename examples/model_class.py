"""A search engine in a class: a container builds the index once, and then answers many queries.

    squall run examples/model_class.py --query "parse a date"
    squall run examples/model_class.py::Index.find --package json --query "decode a document"

The index is of the documentation inside a package of Python's standard library. Each package is a set of
parameters of its own, and so has containers of its own.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import squall

if TYPE_CHECKING:
    from collections.abc import Iterator

app = squall.App("search")


@app.cls(max_containers=2)
class Index:
    """Documented names of a package, found by the words of their documentation (BM25)."""

    package: str = squall.parameter(default="email")

    @squall.enter()
    def build(self) -> None:
        began = time.perf_counter()
        self.texts = dict(documented(self.package))
        self.words = {name: Counter(words_of(text)) for name, text in self.texts.items()}
        self.lengths = {name: sum(counts.values()) for name, counts in self.words.items()}
        self.rarity = rarity(self.words.values())
        self.queries = 0
        took = (time.perf_counter() - began) * 1000
        print(f"indexed {len(self.texts)} names of {self.package} in {took:.0f} ms")

    @squall.exit()
    def report(self) -> None:
        print(f"answered {self.queries} queries about {self.package}")

    @squall.method()
    def find(self, query: str, count: int = 3) -> list[str]:
        """The names whose documentation fits best, each with its first line."""
        self.queries += 1
        wanted = words_of(query)
        scores = {name: self.score(name, wanted) for name in self.texts}
        best = sorted((name for name in scores if scores[name] > 0), key=lambda n: (-scores[n], n))
        return [f"{name}: {self.texts[name].splitlines()[0]}" for name in best[:count]]

    @squall.method()
    def names(self) -> Iterator[str]:
        """All names, one by one."""
        yield from sorted(self.texts)

    def score(self, name: str, wanted: list[str]) -> float:
        counts = self.words[name]
        average = sum(self.lengths.values()) / len(self.lengths)
        damping = 1.2 * (0.25 + 0.75 * self.lengths[name] / average)
        return sum(
            self.rarity[word] * counts[word] * 2.2 / (counts[word] + damping)
            for word in wanted
            if counts[word]
        )


@app.local_entrypoint()
def main(package: str = "email", query: str = "parse a date") -> None:
    index = Index(package=package)
    queries = [query, *query.split()]
    for asked, found in zip(queries, index.find.map(queries), strict=True):
        print(f"{asked!r}:", *found, sep="\n  ")
    print(f"{sum(1 for _ in index.names.remote_gen())} names in all")


def documented(package: str) -> Iterator[tuple[str, str]]:
    """Functions and classes of a package with their documentation; nothing is imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise SystemExit(f"There is no package {package} with Python source.")
    origin = Path(spec.origin)
    files = sorted(origin.parent.glob("*.py")) if spec.submodule_search_locations else [origin]
    for file in files:
        module = package if file == origin else f"{package}.{file.stem}"
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node)
                if text:
                    yield f"{module}.{node.name}", text


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]{2,}", text.lower())


def rarity(documents: object) -> dict[str, float]:
    """The weight of each word: how few documents have it."""
    every = list(documents)  # type: ignore[call-overload]
    seen = Counter(word for words in every for word in words)
    return {word: math.log(1 + (len(every) - n + 0.5) / (n + 0.5)) for word, n in seen.items()}
