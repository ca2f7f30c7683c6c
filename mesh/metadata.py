"""The metadata that the mesh speaks: every name in one place.

The gateway removes `mesh-*` from what comes from outside.
"""

CORRELATION_ID = "x-correlation-id"
TRACEPARENT = "traceparent"
#: How the gateway hands on the traceparent it got from outside: to be linked, never a parent.
OUTSIDE_TRACEPARENT = "x-external-traceparent"
#: The idempotency key: between services, and from outside.
KEY = "mesh-key"
OUTSIDE_KEY = "idempotency-key"
#: Which attempt this is, from 1; absent on the first.
ATTEMPT = "mesh-attempt"
#: How servers say when to try again, in milliseconds; "-1": do not. gRFC A6.
PUSHBACK = "grpc-retry-pushback-ms"
#: Of an undo: the path of its do and the do's key, with a space between.
UNDO_OF = "mesh-undo-of"
#: Of a call that only claims its key: unless that has an answer already, it never will.
VOID = "mesh-void"
#: How much it matters that a call is served; absent if it is like most. Believed of peers only.
CRITICALITY = "mesh-criticality"
#: Of an answer, in its initial metadata: what it is made of is not as it should be.
DEGRADED = "mesh-degraded"
#: The caller's token.
TOKEN = "mesh-token"  # noqa: S105
#: gRPC's own place for a `google.rpc.Status`.
STATUS_DETAILS = "grpc-status-details-bin"
