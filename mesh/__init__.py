"""A proxyless gRPC service mesh for Python."""
