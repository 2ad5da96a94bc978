"""A queue of jobs that outlives its clients: deploys itself, spawns, polls, gathers, cancels, looks in."""

from __future__ import annotations

import time

import squall as modal

app = modal.App("job-queue")


@app.function()
def step(number: int) -> int:
    return number + 1


@app.function(timeout=600)
def job(number: int) -> int:
    print(f"job {number} in {modal.current_function_call_id()}")
    return sum(step.map(range(number)))


@app.function()
def forever() -> None:
    while True:
        time.sleep(0.05)


def submit() -> str:
    """What a web server would do with a request: the id goes to the client, which asks later."""
    return modal.Function.from_name("job-queue", "job").spawn(3).object_id


def poll(call_id: str) -> int:
    call = modal.FunctionCall.from_id(call_id)
    while True:
        try:
            result: int = call.get(timeout=0)
        except TimeoutError:
            time.sleep(0.02)
        else:
            return result


def main() -> None:
    app.deploy(tag="first")
    call_id = submit()
    print("polled", poll(call_id))
    call = modal.FunctionCall.from_id(call_id)
    (root,) = call.get_call_graph()
    print("graph", root.function_name, root.status.name, [child.function_name for child in root.children])
    print("gathered", modal.FunctionCall.gather(*(job.spawn(n) for n in range(3))))
    batch = step.spawn_map(range(2000))
    print("batch", batch.num_inputs(), sum(batch.iter()), list(batch.iter(5, 8)), batch.get(index=1999))
    endless = forever.spawn()
    try:
        endless.get(timeout=0.2)
    except TimeoutError:
        endless.cancel(terminate_containers=True)
    try:
        endless.get(timeout=60)
    except modal.exception.InputCancellation:
        print("cancelled")
    print("info", app.info().tag, app.stats().cancelled, step.get_current_stats().backlog)
    print("logged", any(line.text == f"job 3 in {call_id}" for line in call.logs.fetch(source="stdout")))
    app.stop()


if __name__ == "__main__":
    main()
