"""What happens to a request on its way through: each filter with its reason, in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.metadata import CORRELATION_ID, OUTSIDE_TRACEPARENT, TRACEPARENT

from .descriptors import Exposed
from .parts import header, http_filter, remove_headers, set_header, type_of, typed
from .replies import local_reply_config
from .routes import route_config
from .settings import Settings

HEALTH = "/healthz"
#: gRPC servers refuse metadata over 8 KiB at random; the gateway adds some of its own.
MAX_HEADERS_KIB = 7

_GIVEN = f"request.headers['{CORRELATION_ID}']"
#: The caller's correlation id if it is well formed, else Envoy's own, unforgeable request id.
_CORRELATION = (
    f"%CEL('{CORRELATION_ID}' in request.headers"
    f" && size({_GIVEN}) <= 128 && {_GIVEN}.matches('^[A-Za-z0-9._~:-]+$')"
    f" ? {_GIVEN} : request.headers['x-request-id'])%"
)


def connection_manager(methods: tuple[Exposed, ...], settings: Settings) -> dict[str, Any]:
    """Return the network filter that all of HTTP is under."""
    config: dict[str, Any] = {
        "@type": type_of(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": "edge",
        # The peer is the client: nobody's x-forwarded-for is believed.
        "use_remote_address": True,
        # `%2F` in a SKU stays one; the transcoder decodes it after it has found the method.
        "normalize_path": True,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        # Nothing says which server this is.
        "server_header_transformation": "PASS_THROUGH",
        "max_request_headers_kb": MAX_HEADERS_KIB,
        "request_headers_timeout": "10s",
        "request_timeout": "30s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 * 1024,
            "initial_connection_window_size": 1024 * 1024,
        },
        "early_header_mutation_extensions": [_strip()],
        "local_reply_config": local_reply_config(),
        "route_config": route_config(methods, settings),
        "http_filters": _filters(methods, settings),
    }
    if settings.otlp:
        config["tracing"] = _tracing(settings)
    if settings.access_log:
        config["access_log"] = [_access_log()]
    return {"name": "http", "typed_config": config}


def _strip() -> dict[str, Any]:
    """Remove what the outside must not say, before anything reads it.

    Whoever comes through here begins a new trace; their own is handed on under another name, to
    be linked (without one, Envoy adds no header). Cookies are of no use to any service, and
    browsers send those of every port of localhost.
    """
    return typed(
        "strip",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove": OUTSIDE_TRACEPARENT},
            set_header(OUTSIDE_TRACEPARENT, f"%REQ({TRACEPARENT})%"),
            *(
                {"remove": name}
                for name in (
                    TRACEPARENT,
                    "tracestate",
                    "baggage",
                    "grpc-trace-bin",
                    "x-client-trace-id",
                    "x-request-id",
                    "x-user-id",
                    "cookie",
                )
            ),
            remove_headers("mesh-"),
            remove_headers("x-envoy-"),
        ],
    )


def _filters(methods: Iterable[Exposed], settings: Settings) -> list[dict[str, Any]]:
    """Return the filters in request order."""
    return [
        # First, and untraced: whether the gateway serves, whatever the rate.
        http_filter(
            "health_check",
            "HealthCheck",
            pass_through_mode=False,
            headers=[{"name": ":path", "string_match": {"exact": HEALTH}}],
        ),
        # Before anything that answers by itself: those answers carry the id too.
        http_filter(
            "header_mutation",
            "HeaderMutation",
            mutations={
                "request_mutations": [set_header(CORRELATION_ID, _CORRELATION)],
                "response_mutations": [
                    set_header(CORRELATION_ID, f"%REQ({CORRELATION_ID})%"),
                    remove_headers("x-envoy-"),
                ],
            },
        ),
        # Before the limit, lest a browser take its 429 for a refusal of its origin.
        http_filter("cors", "Cors"),
        _rate_limit(settings),
        # The transcoder alone would let a body of any size through, piece by piece.
        http_filter("buffer", "Buffer", max_request_bytes=settings.max_request_bytes),
        _transcoder(methods, settings),
        http_filter("router", "Router", suppress_envoy_headers=True),
    ]


def _rate_limit(settings: Settings) -> dict[str, Any]:
    """Protect the services from more than they can take; over all clients."""
    always = {"default_value": {"numerator": 100}}
    return http_filter(
        "local_ratelimit",
        "LocalRateLimit",
        stat_prefix="edge",
        token_bucket={
            "max_tokens": settings.rate_limit_per_s,
            "tokens_per_fill": settings.rate_limit_per_s,
            "fill_interval": "1s",
        },
        filter_enabled=always,
        filter_enforced=always,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=[header("retry-after", "1")],
    )


def _transcoder(methods: Iterable[Exposed], settings: Settings) -> dict[str, Any]:
    """Make gRPC of REST, and REST of the answers: JSON, or SSE where it is a stream."""
    return http_filter(
        "grpc_json_transcoder",
        "GrpcJsonTranscoder",
        proto_descriptor=str(settings.descriptors),
        services=sorted({method.grpc_service for method in methods}),
        # Errors: the google.rpc.Status with its details, as the body.
        convert_grpc_status=True,
        # Zero, "" and false are said, so that clients find every field.
        print_options={
            "always_print_primitive_fields": True,
            "stream_newline_delimited": True,
            "stream_sse_style_delimited": True,
        },
        query_param_unescape_plus=True,
        request_validation_options={
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        max_response_body_size=settings.max_response_bytes,
    )


def _tracing(settings: Settings) -> dict[str, Any]:
    """A SERVER span for the client's request, and a CLIENT span for the call to the service."""
    return {
        "random_sampling": {"value": settings.sampling_percent},
        "spawn_upstream_span": True,
        "custom_tags": [
            {"tag": "mesh.correlation_id", "request_header": {"name": CORRELATION_ID}},
            # Envoy's own `http.method` is POST for all: it looks after the transcoder did.
            {"tag": "http.request.method", "request_header": {"name": "x-envoy-original-method"}},
        ],
        "provider": typed(
            "otlp",
            "config.trace.v3.OpenTelemetryConfig",
            grpc_service={"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "1s"},
            service_name="gateway",
        ),
    }


def _access_log() -> dict[str, Any]:
    """One line of JSON a request, on stderr: no query strings, no bodies, no tokens."""
    return typed(
        "stderr",
        "extensions.access_loggers.stream.v3.StderrAccessLog",
        log_format={
            "json_format": {
                "service": "gateway",
                "event": "request",
                "timestamp": "%START_TIME%",
                "verb": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
                "path": "%PATH(NQ:ORIG_OR_PATH)%",
                "method": "%ROUTE_NAME%",
                "http_status": "%RESPONSE_CODE%",
                "grpc_status": "%GRPC_STATUS%",
                "duration_ms": "%DURATION%",
                "bytes_in": "%BYTES_RECEIVED%",
                "bytes_out": "%BYTES_SENT%",
                "flags": "%RESPONSE_FLAGS%",
                "correlation_id": f"%REQ({CORRELATION_ID})%",
                "trace_id": "%TRACE_ID%",
            }
        },
    )
