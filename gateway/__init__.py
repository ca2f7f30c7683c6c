"""The edge: Envoy, configured from the protos' own `google.api.http` annotations.

`python -m gateway --help` says how to start it. From code: `gateway.config.build(settings)` is the
configuration as plain data, `gateway.launch.write` puts it and the descriptors where Envoy finds
them. What the outside sees of it is in docs/rest.md.
"""
