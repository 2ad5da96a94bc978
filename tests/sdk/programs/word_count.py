"""Counts words of many texts on many containers: maps, a generator, retries, a result file."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import squall as modal

if TYPE_CHECKING:
    from collections.abc import Iterator

image = modal.Image.debian_slim().env({"STOP_WORDS": "the and"})
app = modal.App("word-count", image=image, tags={"team": "text"})

WORDS = ("the", "cat", "and", "the", "hat", "sat", "on", "a", "mat")


@app.function(cpu=0.25, memory=128, timeout=60, retries=modal.Retries(max_retries=2, initial_delay=0.0))
def count(text: str, *, shortest: int = 1) -> Counter[str]:
    stop = set(os.environ.get("STOP_WORDS", "").split())
    return Counter(word for word in text.split() if word not in stop and len(word) >= shortest)


@app.function(max_containers=1)
def pages(number: int) -> Iterator[str]:
    for page in range(number):
        yield " ".join(WORDS[: page % len(WORDS) + 1])


@app.function()
def total(parts: list[Counter[str]]) -> Counter[str]:
    return sum(parts, Counter())


@app.local_entrypoint()
def main(number: int = 30, top: int = 2) -> str:
    texts = list(pages.remote_gen(number))
    counts = list(count.map(texts, kwargs={"shortest": 2}))
    assert [c["cat"] for c in counts] == [c["cat"] for c in map(count.local, texts)]
    best = total.remote(counts).most_common(top)
    print(f"{number} pages:", ", ".join(f"{word} {times}" for word, times in best))
    assert list(count.starmap([("a b a",), ("c",)])) == [Counter(a=2, b=1), Counter(c=1)]
    count.for_each(["x"] * 3)
    print("tags", app.get_tags())
    return "\n".join(word for word, _ in best)
