"""Sync calls that nobody waits for: they rest without a thread, and go on in one of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import mesh
from mesh.errors import Unavailable
from mesh.layers.backoff import Backoff
from mesh.layers.budget import BudgetConfig
from mesh.metadata import ATTEMPT
from tests.support.echo import READ, EchoReply, EchoRequest, EchoStub
from tests.support.threads import served_by_threads

#: Longer than any machine takes: only a failure waits for it.
PATIENCE_S = 30.0
#: How long the server asks those to wait that it is asked to refuse; nobody does.
PUSHBACK_S = 3600.0
MANY = 20
POLICY = mesh.Policy(
    timeout_s=10.0 * PUSHBACK_S,
    retry=mesh.RetryPolicy(backoff=Backoff(base_s=0.0), budget=BudgetConfig(burst=2.0 * MANY)),
    circuit=mesh.CircuitConfig(failures=100),
)


@pytest.fixture
def port() -> Iterator[int]:
    def read(request: Any, context: Any) -> Any:
        first = ATTEMPT not in dict(context.invocation_metadata())
        if first and request.text:
            raise Unavailable(retry_after_s=PUSHBACK_S if request.text == "later" else None)
        return EchoReply(number=request.number)

    with served_by_threads(READ, read, *mesh.sync.server_interceptors()) as port:
        yield port


@contextmanager
def opened(port: int, *inside: Any) -> Iterator[EchoStub]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        layers = mesh.sync.interceptors("echo", policy=POLICY)
        yield EchoStub(grpc.intercept_channel(plain, *layers, *inside))


class Sent(grpc.UnaryUnaryClientInterceptor):
    """Gives each attempt back when it has ended; knows in which threads they began."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.refused = threading.Semaphore(0)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, req: Any) -> Any:
        self.threads.append(threading.current_thread())
        rpc = continuation(client_call_details, req)
        if rpc.exception():
            self.refused.release()
        return rpc


def test_calls_that_rest_keep_nobody_waiting(port: int) -> None:
    """More of them than there are threads to go on with calls."""
    sent = Sent()
    with opened(port, sent) as stub:
        resting = [stub.Read.future(EchoRequest(text="later")) for _ in range(MANY)]
        for _ in resting:
            assert sent.refused.acquire(timeout=PATIENCE_S)
        assert stub.Read.future(EchoRequest(number=7)).result(PATIENCE_S).number == 7
        assert not any(call.done() for call in resting)
        for call in resting:
            assert call.cancel()
            with pytest.raises(grpc.FutureCancelledError):
                call.result(PATIENCE_S)


def test_another_attempt_is_not_the_callers_work(port: int) -> None:
    """Also if the first one has failed before there was a call to give to the caller."""
    sent = Sent()
    with opened(port, sent) as stub:
        assert stub.Read.future(EchoRequest(text="again", number=7)).result(PATIENCE_S).number == 7
    first, second = sent.threads
    assert first is threading.current_thread()
    assert second is not first


def test_who_waits_does_the_work_itself(port: int) -> None:
    sent = Sent()
    with opened(port, sent) as stub:
        assert stub.Read(EchoRequest(text="again", number=7)).number == 7
    assert sent.threads == [threading.current_thread()] * 2
