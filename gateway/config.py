"""Envoy's whole configuration, as plain data: `json.dumps(build(settings))` is the file."""

from __future__ import annotations

import ipaddress
from typing import Any

from .descriptors import Exposed, exposed
from .filters import connection_manager
from .parts import type_of, typed
from .settings import Endpoint, Problem, Settings

#: What one gateway has open at most; a laptop reaches neither.
MAX_CONNECTIONS = 10_000
MAX_REQUESTS = 4_000


def build(settings: Settings) -> dict[str, Any]:
    """Return Envoy's bootstrap configuration, all of it static.

    Raises:
        Problem: a service that exposes methods has no address.
    """
    methods = exposed()
    names = sorted({method.service for method in methods})
    for name in names:
        if not settings.services.get(name):
            raise Problem(f"where does {name!r} listen? Add {name}=HOST:PORT to --services")
    clusters = [_cluster(name, settings.services[name]) for name in names]
    if settings.otlp:
        clusters.append(_cluster("otlp", (settings.otlp,)))
    return {
        "node": {"id": "gateway", "cluster": "mesh"},
        "admin": {
            # Loopback always: it can show everything and stop the process.
            "address": _address(Endpoint("127.0.0.1", settings.admin_port)),
            "ignore_global_conn_limit": True,
        },
        "static_resources": {
            "listeners": [_listener(methods, settings)],
            "clusters": clusters,
        },
        **_PROCESS,
    }


#: What holds for the process, whatever it serves.
_PROCESS: dict[str, Any] = {
    "layered_runtime": {
        "layers": [
            {
                "name": "static",
                "static_layer": {
                    # Spans within a second, not five: a trace is looked at right away.
                    "tracing.opentelemetry.flush_interval_ms": 500,
                    "tracing.opentelemetry.min_flush_spans": 64,
                },
            }
        ]
    },
    "overload_manager": {
        "resource_monitors": [
            typed(
                "envoy.resource_monitors.global_downstream_max_connections",
                "extensions.resource_monitors.downstream_connections.v3"
                ".DownstreamConnectionsConfig",
                max_active_downstream_connections=MAX_CONNECTIONS,
            )
        ]
    },
    # As every process of the system logs.
    "application_log_config": {
        "log_format": {
            "json_format": {
                "service": "gateway",
                "event": "%j",
                "level": "%l",
                "logger": "%n",
                "timestamp": "%Y-%m-%dT%T.%f%z",
            }
        }
    },
}


def _listener(methods: tuple[Exposed, ...], settings: Settings) -> dict[str, Any]:
    return {
        "name": "edge",
        "address": _address(settings.listen),
        # A second gateway on this port must fail, not share it.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": settings.max_request_bytes,
        "filter_chains": [{"filters": [connection_manager(methods, settings)]}],
    }


def _cluster(name: str, endpoints: tuple[Endpoint, ...]) -> dict[str, Any]:
    """Return a gRPC service: where it is, and how much of it may be in use."""
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC" if all(_is_address(end.host) for end in endpoints) else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": type_of("extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": _PINGED},
            }
        },
        "circuit_breakers": {
            "thresholds": [{"max_requests": MAX_REQUESTS, "max_pending_requests": MAX_REQUESTS}]
        },
        # A machine that is gone: TCP finds out, on connections that nobody uses.
        "upstream_connection_options": {
            "tcp_keepalive": {
                "keepalive_time": 10,
                "keepalive_interval": 5,
                "keepalive_probes": 3,
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(end)}} for end in endpoints]}
            ],
        },
    }
    if len(endpoints) > 1:
        cluster |= _CHECKED
    return cluster


#: Before a request goes out on a connection that has been silent: is there anybody? A black hole
#: would swallow requests for a quarter of an hour, as long as TCP repeats what it sent. No pings at
#: intervals: gRPC servers punish those that come without a request.
_PINGED: dict[str, Any] = {
    "connection_keepalive": {"connection_idle_interval": "10s", "timeout": "10s"}
}
#: Where there is a choice, a replica that drains (NOT_SERVING) gets nothing more.
_CHECKED: dict[str, Any] = {
    "health_checks": [
        {
            "timeout": "1s",
            "interval": "0.25s",
            "no_traffic_interval": "0.25s",
            "unhealthy_threshold": 1,
            "healthy_threshold": 1,
            "grpc_health_check": {},
        }
    ],
    # None healthy is 503 at once, not a guess.
    "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
}


def _address(endpoint: Endpoint) -> dict[str, Any]:
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
