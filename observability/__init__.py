"""Seeing the system: the embedded trace store and its page, a real Jaeger, Prometheus, Grafana."""
