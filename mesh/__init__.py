"""A proxyless gRPC service mesh for Python.

On gRPC code that you have::

    channel = grpc.aio.insecure_channel(address, interceptors=mesh.interceptors("order"))

For the stubs of new code::

    stub = OrderServiceStub(mesh.channel("order", "127.0.0.1:50052"))

For services and sagas see `mesh.service` and `mesh.saga`.
"""

from . import sync
from .api import channel, interceptors, server_interceptors
from .call import Criticality
from .client import Policy
from .errors import CircuitOpenError, MeshError, Refused
from .layers.breaker import circuit_breaker
from .layers.budget import BudgetConfig
from .layers.bulkhead import BulkheadConfig, BulkheadFull
from .layers.circuit import CircuitConfig
from .layers.fallback import FallbackConfig
from .layers.hedge import HedgeConfig
from .layers.retry import RetryPolicy
from .layers.throttle import ThrottleConfig
from .node import Node

__all__ = [
    "BudgetConfig",
    "BulkheadConfig",
    "BulkheadFull",
    "CircuitConfig",
    "CircuitOpenError",
    "Criticality",
    "FallbackConfig",
    "HedgeConfig",
    "MeshError",
    "Node",
    "Policy",
    "Refused",
    "RetryPolicy",
    "ThrottleConfig",
    "channel",
    "circuit_breaker",
    "interceptors",
    "server_interceptors",
    "sync",
]
