"""Ray, started for this run on this machine: actors without isolation, as its documentation advises."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.util import ActorPool

from benchmarks.calls.peer import AT_ONCE, CHUNK, WORKERS, Peer, seconds_of, spin


class Worker:
    def noop(self, value: object) -> object:
        return value

    def noops(self, values: list[object]) -> list[object]:
        return list(values)

    def spin(self, _value: object) -> None:
        spin(0.01)

    def sleep(self, _value: object) -> None:
        time.sleep(0.01)


class AsyncWorker:
    async def noop(self, value: object) -> object:
        return value


class RayPeer(Peer):
    name = "ray"

    def start(self, folder: str) -> None:
        ray.init(
            num_cpus=WORKERS + 1,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
            object_store_memory=2 << 30,
        )
        make: Any = ray.remote(num_cpus=1)(Worker)
        self._actors = [make.remote() for _ in range(WORKERS)]
        many: Any = ray.remote(num_cpus=1, max_concurrency=AT_ONCE)(AsyncWorker)
        self._async = many.remote()
        ray.get([a.noop.remote(0) for a in [*self._actors, self._async]])

    def stop(self) -> None:
        ray.shutdown()

    def remote(self, count: int) -> list[float]:
        noop = self._actors[0].noop
        return [seconds_of(lambda: ray.get(noop.remote(1))) for _ in range(count)]

    def map_noop(self, count: int) -> list[float]:
        pool = ActorPool(self._actors)
        return [seconds_of(lambda: list(pool.map(lambda a, v: a.noop.remote(v), range(count))))]

    def map_chunks(self, count: int) -> list[float]:
        pool = ActorPool(self._actors)
        chunks = [list(range(i, min(i + CHUNK, count))) for i in range(0, count, CHUNK)]
        return [seconds_of(lambda: list(pool.map(lambda a, v: a.noops.remote(v), chunks)))]

    def map_spin(self, count: int) -> list[float]:
        pool = ActorPool(self._actors)
        return [seconds_of(lambda: list(pool.map(lambda a, v: a.spin.remote(v), range(count))))]

    def map_sleep(self, count: int) -> list[float]:
        pool = ActorPool(self._actors)
        return [seconds_of(lambda: list(pool.map(lambda a, v: a.sleep.remote(v), range(count))))]

    def spawn_many(self, count: int) -> list[float]:
        return [seconds_of(lambda: ray.get([self._async.noop.remote(i) for i in range(count)]))]

    def spawn_map(self, count: int) -> list[float]:
        return self.spawn_many(count)

    def spawn_each(self, count: int) -> list[float]:
        return self.remote(count)

    def echo(self, count: int, size: int) -> list[float]:
        data, noop = bytes(size), self._actors[0].noop
        return [seconds_of(lambda: ray.get(noop.remote(data))) for _ in range(count)]
