"""Many small requests, one pass of the model: `squall run examples/batched_model.py`.

A network in NumPy stands for a model that takes a batch in about the time that it takes one input. Each
caller sends one vector; `@squall.batched` calls `score` with up to 64 of them together.
"""

from __future__ import annotations

import time

import squall

app = squall.App("batched-model")
image = squall.Image.debian_slim().pip_install("numpy")

SIZE = 512


@app.function(image=image, max_containers=1)
@squall.batched(max_batch_size=64, wait_ms=50)
def score(vectors: list[list[float]]) -> list[tuple[float, int]]:
    """For each vector its score, and how many were scored together. A wrong one fails alone."""
    import numpy as np

    good = [v for v in vectors if len(v) == SIZE]
    weights = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    scores = iter(np.tanh(np.asarray(good) @ weights).sum(axis=1)) if good else iter(())
    return [
        (float(next(scores)), len(vectors))
        if len(v) == SIZE
        else ValueError(f"{len(v)} numbers: give {SIZE}")
        for v in vectors
    ]  # type: ignore[misc]  # an exception among the results is raised at its caller


@app.local_entrypoint()
def main(count: int = 500) -> None:
    vectors = [[float((i * j) % 7) for j in range(SIZE)] for i in range(count)]
    vectors[3] = [1.0]  # somebody's mistake
    began = time.perf_counter()
    results = list(score.map(vectors, return_exceptions=True))
    seconds = time.perf_counter() - began
    good = [r for r in results if not isinstance(r, Exception)]
    calls = sum(1 / together for _, together in good)
    print(f"{len(good)} scores in {seconds:.2f} s, in about {calls:.0f} calls of the model")
    print("refused:", [r for r in results if isinstance(r, Exception)])
