"""Routes: one for each exposed method, nothing for anything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.metadata import CORRELATION_ID, DEGRADED, OUTSIDE_KEY, TOKEN, TRACEPARENT

from .descriptors import Exposed
from .parts import header, type_of
from .settings import Settings

#: Its calls start sagas, and may wait for their end.
SAGA_STARTER = "shop.orchestrator.v1.OrchestratorService"
#: How much longer than the service Envoy waits, in seconds: the service's own answer is better.
GRACE_S = 1


def route_config(methods: Iterable[Exposed], settings: Settings) -> dict[str, Any]:
    """Return the only route table: one virtual host, every exposed method, then 404."""
    host: dict[str, Any] = {
        "name": "edge",
        "domains": ["*"],
        "routes": [*(_route(method, settings) for method in methods), _NOTHING_ELSE],
        "typed_per_filter_config": {"cors": _cors(settings)},
    }
    if settings.token:
        host["request_headers_to_add"] = [header(TOKEN, settings.token)]
    return {"name": "edge", "virtual_hosts": [host]}


#: Also the route that a REST request has until the transcoder knows its method. It leads nowhere,
#: by a header that the outside cannot send, and is no `direct_response`: those know no CORS.
_NOTHING_ELSE = {
    "name": "nothing else",
    "match": {"prefix": "/"},
    "route": {"cluster_header": "mesh-nowhere", "cluster_not_found_response_code": "NOT_FOUND"},
    "decorator": {"operation": "unrouted", "propagate": False},
}


def _route(method: Exposed, settings: Settings) -> dict[str, Any]:
    """Return the route of a method; there is no retry in it: who calls the services retries."""
    route: dict[str, Any] = {
        "name": method.full_name,
        # The transcoder has made gRPC of REST by now; anything else is 404.
        "match": {"path": method.path, "grpc": {}},
        "route": {"cluster": method.service},
        "decorator": {"operation": method.rest, "propagate": False},
        "tracing": {"upstream_operation": method.full_name},
    }
    if method.streams:
        route["route"] |= {"timeout": "0s", "idle_timeout": f"{settings.stream_idle_s}s"}
        route["request_headers_to_remove"] = ["grpc-timeout"]
    else:
        timeout_s = (
            settings.saga_timeout_s if method.grpc_service == SAGA_STARTER else settings.timeout_s
        )
        route["route"]["timeout"] = f"{timeout_s + GRACE_S}s"
        # Overwritten, lest the outside choose a longer one.
        route["request_headers_to_add"] = [header("grpc-timeout", f"{timeout_s}S")]
    return route


def _cors(settings: Settings) -> dict[str, Any]:
    """Return who may call from a browser, with which headers."""
    return {
        "@type": type_of("extensions.filters.http.cors.v3.CorsPolicy"),
        "allow_origin_string_match": [{"exact": origin} for origin in settings.origins],
        "allow_methods": "GET, POST",
        "allow_headers": ", ".join(("content-type", OUTSIDE_KEY, CORRELATION_ID, TRACEPARENT)),
        "expose_headers": ", ".join((CORRELATION_ID, DEGRADED)),
        "max_age": "600",
    }
