"""A stock sync server for one method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from mesh.call import Method


@contextmanager
def served_by_threads(
    method: Method,
    behaviour: Callable[[Any, Any], Any],
    *interceptors: grpc.ServerInterceptor,
    threads: int = 2,
) -> Iterator[int]:
    """Serve *method*; yield the port."""
    make = getattr(grpc, f"{method.kind.name.lower()}_rpc_method_handler")
    handler = make(behaviour, method.request_type.FromString, method.reply_type.SerializeToString)
    server = grpc.server(ThreadPoolExecutor(threads), interceptors=[*interceptors])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(method.service, {method.name: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0.0).wait()
