"""The blocking client against a scripted server."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import pytest

from squall import exception
from squall.client.api import ServiceRefusal, YieldItem
from squall.client.blocking import BlockingClient
from squall.client.core import Credentials
from squall.wire import control
from squall.wire import messages as m
from squall.wire.values import CHUNK, PAYLOAD_LIMIT, InputItem, LogItem, OutputItem, Payload
from tests.client.fake_server import FakeServer, Peer, frame, result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from squall.client.transport import Endpoint

Connect = "Callable[[Endpoint], BlockingClient]"


def item(index: int, data: bytes = b"x") -> InputItem:
    return InputItem(index, Payload(data, size=len(data)))


def echo(client: BlockingClient, data: bytes) -> bytes:
    call = client.open_call("fu-1", "unary")
    call.send([item(0, data)], last=True)
    event = call.next(20)
    call.close()
    assert isinstance(event, OutputItem)
    return event.outcome.payload.data


def until(condition: Callable[[], object], timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def log(text: bytes) -> m.Logs:
    return m.Logs("ap-1", [LogItem("ct-1", "f", 1, text, 0.0)])


# --------------------------------------------------------------------------------- over all transports


def test_everything_works_over_every_transport(
    any_endpoint: Endpoint, server: FakeServer, connect: Callable[[Endpoint], BlockingClient]
) -> None:
    client = connect(any_endpoint)
    assert client.workspace == "default"
    assert client.request("status", control.Empty()).protocol == 1
    for size in (0, 1, 200, 70_000, 2_000_000):
        data = os.urandom(size)
        assert echo(client, data) == data
    data = os.urandom(5 * CHUNK + 17)
    client.upload(hashlib.sha256(data).hexdigest(), data)
    assert client.download(hashlib.sha256(data).hexdigest()) == data
    server.drop_all()
    assert echo(client, b"after") == b"after"


def test_masks_are_random_on_tcp_and_zero_where_nobody_listens(
    any_endpoint: Endpoint, server: FakeServer, connect: Callable[[Endpoint], BlockingClient]
) -> None:
    client = connect(any_endpoint)
    for _ in range(5):
        echo(client, b"x")
    masks = set().union(*[peer.masks for peer in server.peers])
    if any_endpoint.nested:
        return
    zero = {b"\0\0\0\0"}
    assert masks == zero if any_endpoint.path or any_endpoint.tls else len(masks) > 3


# ----------------------------------------------------------------------------------------------- calls


def test_a_map_streams_its_outcomes_and_acknowledges_them(server: FakeServer, client: BlockingClient) -> None:
    call = client.open_call("fu-1", "map")
    for start in range(0, 5000, 500):
        call.send([item(i, b"%d" % i) for i in range(start, start + 500)], last=start == 4500)
    events = [call.next(10) for _ in range(5000)]
    assert {e.index: e.outcome.payload.data for e in events if isinstance(e, OutputItem)} == {
        i: b"%d" % i for i in range(5000)
    }
    until(lambda: sum(len(r.indexes) for r in server.of(m.Received)) == 5000)
    assert [i.last for i in server.of(m.Inputs)].count(True) == 1


def test_big_inputs_travel_in_messages_of_bounded_size(server: FakeServer, client: BlockingClient) -> None:
    call = client.open_call("fu-1", "map")
    call.send([item(i, bytes(700_000)) for i in range(6)], last=True)
    assert sorted(call.next(10).index for _ in range(6)) == list(range(6))
    assert [len(i.items) for i in server.of(m.Inputs)] == [2, 2, 2]
    assert [i.last for i in server.of(m.Inputs)] == [False, False, True]


def test_a_payload_over_the_limit_is_refused_before_it_is_sent(
    server: FakeServer, client: BlockingClient
) -> None:
    call = client.open_call("fu-1", "unary")
    with pytest.raises(exception.RequestSizeError, match="2048 MiB"):
        call.send([InputItem(0, Payload(blob="b" * 64, size=PAYLOAD_LIMIT + 1))], last=True)
    assert server.of(m.Inputs) == []


def test_a_call_without_a_result_times_out_and_goes_on(server: FakeServer, client: BlockingClient) -> None:
    held: list[tuple[Peer, m.Inputs]] = []
    server.answer = lambda peer, inputs: held.append((peer, inputs))
    call = client.open_call("fu-1", "unary")
    call.send([item(0)], last=True)
    with pytest.raises(TimeoutError):
        call.next(0.05)
    with pytest.raises(exception.TimeoutError):
        call.next(0)
    until(lambda: held)
    server.call(held[0][0].send, m.Outputs(call.id, [result(0, b"late")]))
    event = call.next(10)
    assert isinstance(event, OutputItem)
    assert event.outcome.payload.data == b"late"


def test_a_refused_call_raises_its_code(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda peer, inputs: peer.send(
        m.CallFailed(inputs.call, "unplaceable", "Needs 99 cores.")
    )
    call = client.open_call("fu-1", "unary")
    call.send([item(0)], last=True)
    with pytest.raises(ServiceRefusal, match="99 cores") as caught:
        call.next(10)
    assert caught.value.code == "unplaceable"


def test_a_refused_request_raises_its_code(client: BlockingClient) -> None:
    with pytest.raises(ServiceRefusal) as caught:
        client.request("app.list", control.Empty())
    assert caught.value.code == "not_found"


def test_generator_values_come_in_order_and_credit_goes_back(
    server: FakeServer, client: BlockingClient
) -> None:
    def answer(peer: Peer, inputs: m.Inputs) -> None:
        peer.send(m.Yields(inputs.call, 0, 0, [Payload(b"a"), Payload(b"b")]))

    def credit(peer: Peer, message: m.Credit) -> None:
        peer.send(m.Yields(message.call, 0, 1, [Payload(b"b"), Payload(b"c")]))  # one of them again
        peer.send(m.Outputs(message.call, [result(0)]))

    server.answer, server.on[m.Credit] = answer, credit
    call = client.open_call("fu-1", "generator")
    call.send([item(0)], last=True)
    first = [call.next(10), call.next(10)]
    call.credit(0, 66)
    events = [*first, call.next(10), call.next(10)]
    assert [(e.number, e.payload.data) for e in events if isinstance(e, YieldItem)] == [
        (0, b"a"),
        (1, b"b"),
        (2, b"c"),
    ]
    assert isinstance(events[3], OutputItem)
    assert server.of(m.Credit) == [m.Credit(call.id, 0, 66)]


def test_a_gap_in_a_generator_is_an_error(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda peer, inputs: peer.send(m.Yields(inputs.call, 0, 3, [Payload(b"d")]))
    call = client.open_call("fu-1", "generator")
    call.send([item(0)], last=True)
    with pytest.raises(ServiceRefusal, match="lost"):
        call.next(10)


def test_durable_inputs_are_accepted(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda peer, inputs: peer.send(m.Accepted(inputs.call, 2))
    call = client.open_call("fu-1", "map", durable=True, parent="fc-0:0")
    call.send([item(0), item(1)], last=True)
    call.accepted(2, 10)
    with pytest.raises(TimeoutError):
        call.accepted(3, 0.02)
    (sent,) = server.of(m.Inputs)
    assert (sent.durable, sent.parent) == (True, "fc-0:0")


def test_attach_gives_the_outputs_of_another_call(server: FakeServer, client: BlockingClient) -> None:
    server.on[m.Attach] = lambda peer, a: peer.send(m.Outputs(a.call, [result(a.start, b"old")]))
    call = client.attach_call("fc-other", 7)
    event = call.next(10)
    assert event.index == 7


def test_cancel_says_how(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda _peer, _inputs: None
    call = client.open_call("fu-1", "unary")
    call.send([item(0)], last=True)
    call.cancel(terminate=True)
    until(lambda: server.of(m.Cancel) == [m.Cancel(call.id, [], True)])


def test_tracing_marks_both_ends(server: FakeServer, client: BlockingClient) -> None:
    call = client.open_call("fu-1", "unary", trace=True)
    call.send([item(0)], last=True)
    event = call.next(10)
    assert isinstance(event, OutputItem)
    assert event.trace is not None
    names, times = zip(*event.trace, strict=True)
    assert names == ("client.send", "client.receive")
    assert times[0] <= times[1]


# ----------------------------------------------------------------------------------------------- blobs


def test_uploads_travel_in_chunks(server: FakeServer, client: BlockingClient) -> None:
    data = memoryview(os.urandom(3 * CHUNK))
    client.upload(hashlib.sha256(data).hexdigest(), data)
    assert server.largest_chunk == CHUNK
    client.upload(hashlib.sha256(b"").hexdigest(), b"")


def test_a_damaged_blob_is_an_error(server: FakeServer, client: BlockingClient) -> None:
    server.blobs["0" * 64] = b"not what the name says"
    with pytest.raises(exception.DataLossError):
        client.download("0" * 64)


def test_a_missing_blob_is_refused(client: BlockingClient) -> None:
    with pytest.raises(ServiceRefusal, match="No such blob"):
        client.download("1" * 64)


def test_an_upload_can_be_refused_in_the_middle(server: FakeServer, client: BlockingClient) -> None:
    server.on[m.BlobChunk] = lambda peer, c: peer.send(m.Failure(c.id, "exhausted", "The disk is full."))
    with pytest.raises(ServiceRefusal, match="disk is full"):
        client.upload("0" * 64, bytes(20 * CHUNK))


def test_an_upload_begins_anew_after_a_broken_connection(server: FakeServer, client: BlockingClient) -> None:
    broken: list[int] = []

    def chunk(peer: Peer, message: m.BlobChunk) -> None:
        if message.offset == 2 * CHUNK and not broken:
            broken.append(1)
            peer.drop()
        else:
            server.chunk(peer, message)

    server.on[m.BlobChunk] = chunk
    data = os.urandom(6 * CHUNK)
    client.upload(hashlib.sha256(data).hexdigest(), data)
    assert broken
    assert server.blobs[hashlib.sha256(data).hexdigest()] == data


# ------------------------------------------------------------------------------------------ connection


def test_a_broken_connection_is_resumed_and_what_has_no_answer_sent_again(
    server: FakeServer, client: BlockingClient
) -> None:
    reconnected: list[int] = []
    client.watch.reconnected = lambda: reconnected.append(1)
    answered: list[int] = []

    def answer(peer: Peer, inputs: m.Inputs) -> None:
        if server.connections == 1:
            peer.send(m.Outputs(inputs.call, [result(0, b"first")]))
            peer.server._loop.call_later(0.02, peer.drop)
            return
        answered.extend(i.index for i in inputs.items)
        peer.send(m.Outputs(inputs.call, [result(i.index, b"again") for i in inputs.items]))
        peer.send(m.Outputs(inputs.call, [result(0, b"not heard that it came")]))

    server.answer = answer
    call = client.open_call("fu-1", "map")
    call.send([item(i) for i in range(3)], last=True)
    events = [call.next(10) for _ in range(3)]
    assert [e.index for e in events] == [0, 1, 2]
    assert answered == [1, 2]
    with pytest.raises(TimeoutError):
        call.next(0.1)  # delivered once
    hellos = server.of(m.Hello)
    assert [h.session for h in hellos] == ["", "se-1"]
    assert reconnected == [1]
    until(lambda: 0 in [i for r in server.of(m.Received) for i in r.indexes][1:])


def test_requests_are_asked_again_under_the_same_number(server: FakeServer, client: BlockingClient) -> None:
    def request(peer: Peer, message: m.Request) -> None:
        if server.connections == 1:
            peer.drop()
        else:
            server.request(peer, message)

    server.on[m.Request] = request
    client.request("status", control.Empty())
    first, second = server.of(m.Request)
    assert first == second


def test_a_server_that_forgot_the_session_gets_everything_again(
    server: FakeServer, client: BlockingClient
) -> None:
    server.forget_sessions = True
    server.answer = lambda peer, inputs: peer.send(m.Accepted(inputs.call, 1)) if inputs.durable else None
    spawned = client.open_call("fu-1", "unary", durable=True)
    spawned.send([item(0)], last=True)
    spawned.accepted(1, 10)
    waiting = client.open_call("fu-1", "unary")
    waiting.send([item(0)], last=True)
    waiting.cancel()
    until(lambda: server.of(m.Cancel))
    server.got.clear()
    server.drop_all()
    until(lambda: len(server.of(m.Cancel)) == 1)
    assert server.of(m.Attach) == [m.Attach(spawned.id, 0)]
    assert waiting.id in [i.call for i in server.of(m.Inputs) if i.items]


def test_a_begun_generator_is_not_run_twice(server: FakeServer, client: BlockingClient) -> None:
    server.forget_sessions = True
    server.answer = lambda peer, inputs: peer.send(m.Yields(inputs.call, 0, 0, [Payload(b"a")]))
    call = client.open_call("fu-1", "generator")
    call.send([item(0)], last=True)
    assert isinstance(call.next(10), YieldItem)
    server.drop_all()
    event = call.next(10)
    assert isinstance(event, OutputItem)
    assert event.outcome.status == "failed"
    assert event.outcome.error is not None
    assert event.outcome.error.type == "InternalFailure"


def test_credit_is_told_again(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda _peer, _inputs: None
    call = client.open_call("fu-1", "generator")
    call.send([item(0)], last=True)
    call.credit(0, 100)
    until(lambda: server.of(m.Credit))
    server.drop_all()
    until(lambda: server.of(m.Credit) == [m.Credit(call.id, 0, 100)] * 2)


def test_a_server_away_for_a_while_is_waited_for(server: FakeServer, client: BlockingClient) -> None:
    server.stop_listening()
    thread = threading.Timer(0.3, server.listen)
    thread.start()
    assert echo(client, b"x") == b"x"
    thread.join()


def test_a_server_that_stays_away_is_told_in_one_line(
    server: FakeServer, client: BlockingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client._reconnect, "_patience", 0.2)
    server.stop_listening()
    with pytest.raises(exception.ConnectionError, match=r"^Cannot reach the Squall server at .*Start it\.$"):
        echo(client, b"x")
    server.listen()
    assert echo(client, b"x") == b"x"  # and the client is good for another try


def test_a_silent_server_is_noticed(server: FakeServer, endpoint: Endpoint) -> None:
    server.heartbeat, server.answer_pings = 0.05, False
    client = BlockingClient(endpoint, Credentials())
    client.open(10)
    until(lambda: server.connections >= 2)
    client.close()


def test_pings_go_on_while_nobody_calls(server: FakeServer, endpoint: Endpoint) -> None:
    server.heartbeat = 0.05
    client = BlockingClient(endpoint, Credentials())
    client.open(10)
    until(lambda: server.peers[0].pings >= 3)
    assert server.connections == 1
    client.close()


def test_the_server_s_pings_are_answered(server: FakeServer, client: BlockingClient) -> None:
    server.call(server.peers[0].write, frame(b"are you there", 9))
    assert echo(client, b"x") == b"x"


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (m.Failure(0, "auth", "This token is not known here."), exception.AuthError),
        (m.Failure(0, "version", "Upgrade the client."), exception.VersionError),
        (m.Failure(0, "invalid", "No."), exception.ConnectionError),
        (m.Failure(0, "unavailable", "Still starting."), exception.ConnectionError),
    ],
)
def test_a_refused_connection_is_told_as_it_is(
    server: FakeServer, endpoint: Endpoint, failure: m.Failure, error: type[Exception]
) -> None:
    server.refuse = failure
    client = BlockingClient(endpoint, Credentials())
    with pytest.raises(error, match=failure.message[:-1]):
        client.open(10)
    assert server.connections == 1
    server.refuse = None
    client.open(10)
    client.close()


@pytest.mark.parametrize("embedded", [False, True])
def test_who_is_started_again_may_be_away_at_first(
    server: FakeServer, tmp_path: Path, embedded: bool
) -> None:
    """A container's agent, the embedded server."""
    endpoint = server.start(tmp_path / "s.sock", nested=not embedded)
    endpoint = replace(endpoint, prepare=lambda: None) if embedded else endpoint
    server.stop_listening()
    client = BlockingClient(endpoint, Credentials())
    opening = threading.Thread(target=client.open, args=(30,))
    opening.start()
    until(lambda: client._reconnect.active)
    server.listen()
    opening.join(30)
    assert echo(client, b"x") == b"x"
    client.close()


def test_the_start_of_a_server_has_time_of_its_own(server: FakeServer, tmp_path: Path) -> None:
    """Or the replacement of one that ends its work first."""
    pauses = chain([1.5], repeat(0))  # once it runs, nothing is to be done
    endpoint = replace(server.start(tmp_path / "s.sock"), prepare=lambda: time.sleep(next(pauses)))
    client = BlockingClient(endpoint, Credentials())
    client.open(1)
    client.close()


def test_something_else_that_answers_is_told(server: FakeServer) -> None:
    endpoint = server.start()
    server.http = b"HTTP/1.1 404 Not Found\r\n\r\n"
    client = BlockingClient(endpoint, Credentials())
    with pytest.raises(exception.ConnectionError, match="404 Not Found"):
        client.open(10)
    client.close()


def test_nobody_there_is_told_with_what_to_do(tmp_path: Path, server: FakeServer) -> None:
    endpoint = server.start()
    server.stop_listening()
    with pytest.raises(
        exception.ConnectionError, match=rf"127.0.0.1:{server.port}: Connection refused. Check it"
    ):
        BlockingClient(endpoint, Credentials()).open(10)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.on[m.Hello] = lambda _peer, _hello: None
    client = BlockingClient(endpoint, Credentials())
    with pytest.raises(exception.ConnectionError, match="no answer in time"):
        client.open(0.2)
    client.close()


# -------------------------------------------------------------------------- threads, forks, interrupts


def test_many_threads_call_at_once(server: FakeServer, client: BlockingClient) -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for i in range(200):
            data = b"%d-%d" % (number, i)
            if (got := echo(client, data)) != data:
                wrong.append((data, got))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(t.is_alive() for t in threads)
    assert wrong == []


def test_threads_survive_broken_connections(server: FakeServer, client: BlockingClient) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        for i in range(50):
            assert echo(client, b"%d-%d" % (number, i)) == b"%d-%d" % (number, i)
        done.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        time.sleep(0.03)
        server.drop_all()
    assert sorted(done) == [0, 1, 2, 3]


def test_one_slow_call_does_not_hold_up_another_thread(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda peer, inputs: (
        None if inputs.items[0].payload.data == b"slow" else server_echo(peer, inputs)
    )

    def server_echo(peer: Peer, inputs: m.Inputs) -> None:
        peer.send(m.Outputs(inputs.call, [result(0, b"fast")]))

    slow = client.open_call("fu-1", "unary")
    slow.send([item(0, b"slow")], last=True)
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(slow.next(20)))
    thread.start()
    assert echo(client, b"x") == b"fast"
    assert outcome == []
    server.push(m.Outputs(slow.id, [result(0, b"at last")]))
    thread.join(10)
    assert outcome[0].outcome.payload.data == b"at last"


def test_logs_arrive_while_nobody_waits(server: FakeServer, client: BlockingClient) -> None:
    got: list[bytes] = []
    client.watch.logs = lambda logs: got.extend(i.data for i in logs.items)
    for i in range(50):
        server.push(log(b"%d" % i))
    until(lambda: len(got) == 50)
    assert got == [b"%d" % i for i in range(50)]


def test_logs_before_a_result_are_shown_before_it(server: FakeServer, client: BlockingClient) -> None:
    order: list[str] = []
    client.watch.logs = lambda _logs: order.append("log")
    server.answer = lambda peer, inputs: peer.send(log(b"x"), m.Outputs(inputs.call, [result(0)]))
    for _ in range(20):
        order.clear()
        echo(client, b"x")
        order.append("result")
        assert order == ["log", "result"]


def test_a_callback_may_use_the_client(server: FakeServer, client: BlockingClient) -> None:
    got: list[bytes] = []
    client.watch.logs = lambda _logs: got.append(echo(client, b"from the callback"))
    server.push(log(b"one"), log(b"two"))
    until(lambda: len(got) == 2)


def test_a_failing_callback_harms_nobody(
    server: FakeServer, client: BlockingClient, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_notice: m.Notice) -> None:
        raise ValueError("on purpose")

    client.watch.notice = fail
    server.push(m.Notice("ap-1", "no room"))
    until(lambda: "on purpose" in caplog.text)
    assert echo(client, b"x") == b"x"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_session_of_its_own(server: FakeServer, client: BlockingClient) -> None:
    call = client.open_call("fu-1", "unary")
    gc.collect()
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            assert echo(client, b"child") == b"child"
            try:
                call.next(1)
            except exception.ConnectionError:
                code = 0
        os._exit(code)
    assert echo(client, b"parent") == b"parent"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [h.session for h in server.of(m.Hello)] == ["", ""]
    assert echo(client, b"parent") == b"parent"
    assert server.connections == 2


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
def test_ctrl_c_interrupts_a_wait_and_the_client_goes_on(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda _peer, _inputs: None
    call = client.open_call("fu-1", "unary")
    call.send([item(0)], last=True)
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call.next(20)
    timer.join()
    call.cancel()
    server.answer = None
    assert echo(client, b"after") == b"after"
    assert server.connections == 1  # nothing was lost, so nothing had to be resumed


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
def test_ctrl_c_at_any_moment_leaves_a_working_client(server: FakeServer, client: BlockingClient) -> None:
    """Interrupts rain on a thread that calls, while another thread's calls must all succeed.

    Python itself drops what a signal's handler raises in a finalizer or in a weak reference's callback, and
    the collector runs those of earlier tests' garbage between any two instructions: so it pauses.
    """
    done: list[int] = []
    armed, stop = threading.Event(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            assert echo(client, b"other") == b"other"
            done.append(1)

    def rain() -> None:
        for i in range(150):
            armed.wait()
            armed.clear()
            time.sleep(0.0005 + (i % 17) * 0.0002)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    threads = [threading.Thread(target=work), threading.Thread(target=rain)]
    before = signal.signal(signal.SIGUSR1, interrupt)
    gc.disable()
    try:
        for thread in threads:
            thread.start()
        for _ in range(150):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - at any moment
                armed.set()
                while True:
                    echo(client, b"x" * 1000)
    finally:
        gc.enable()
        signal.signal(signal.SIGUSR1, before)
    count = len(done)
    until(lambda: len(done) > count + 20, 20)
    assert echo(client, b"x") == b"x"
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not any(t.is_alive() for t in threads)


# --------------------------------------------------------------------------------------------- closing


def test_close_ends_the_session_and_whoever_waits(server: FakeServer, client: BlockingClient) -> None:
    server.answer = lambda _peer, _inputs: None
    call = client.open_call("fu-1", "unary")
    call.send([item(0)], last=True)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            call.next(20)
        except exception.Error as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    client.close()
    thread.join(10)
    assert [type(e) for e in errors] == [exception.ClientClosed]
    assert [r.method for r in server.of(m.Request)] == ["session.close"]
    with pytest.raises(exception.ClientClosed):
        client.request("status", control.Empty())
    client.close()


def test_a_closed_client_leaves_no_thread(
    connect: Callable[[Endpoint], BlockingClient], endpoint: Endpoint
) -> None:
    client = connect(endpoint)
    echo(client, b"x")
    idle = client._idle
    assert idle is not None
    client.close()
    idle.join(10)
    assert not idle.is_alive()
