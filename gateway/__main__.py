"""`python -m gateway`: write Envoy's configuration, then become Envoy."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mesh.layers.identity import make_token

from .launch import DESCRIPTORS, check_ports, envoy_binary, exec_envoy, render, write
from .settings import (
    ADMIN_OFFSET,
    PORT,
    Endpoint,
    Problem,
    Settings,
    parse_services,
    services_of,
)

OTLP_PORT = 4317
MESH_TOML = Path("mesh.toml")
#: Where docker-compose.yml mounts what `--compose` writes.
COMPOSE_DATA = Path("/config")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m gateway",
        description="The edge: REST and SSE of the services' gRPC, by Envoy. "
        "Without --config-only or --compose: write its files into --data, and become Envoy.",
        epilog="MESH_TOKEN, if set, is the gateway's own token; Envoy reads it from its "
        "environment, so that no file holds it. With --compose it is made from MESH_TOKEN_SECRET, "
        "if that is set, and stands in the file.",
    )
    _add_addresses(cli)
    _add_policy(cli)
    cli.add_argument(
        "--data",
        type=Path,
        default=Path(".data/gateway"),
        metavar="DIR",
        help="where Envoy's files are written (default: %(default)s)",
    )
    cli.add_argument(
        "--drain-time-s", type=int, default=5, metavar="S", help="Envoy's (default: %(default)s)"
    )
    modes = cli.add_mutually_exclusive_group()
    modes.add_argument(
        "--config-only", "--print", action="store_true", help="print the configuration, and end"
    )
    modes.add_argument(
        "--compose",
        action="store_true",
        help="write the files for docker-compose.yml's network, and end",
    )
    return cli


def _add_addresses(cli: argparse.ArgumentParser) -> None:
    cli.add_argument(
        "--services",
        metavar="NAME=HOST:PORT,...",
        help=f"where the services listen; a name may stand twice (default: as in {MESH_TOML})",
    )
    cli.add_argument("--host", default="127.0.0.1", help="listen here (default: %(default)s)")
    cli.add_argument(
        "--port", type=int, default=PORT, metavar="PORT", help="and here (default: %(default)s)"
    )
    cli.add_argument(
        "--admin-port",
        type=int,
        metavar="PORT",
        help=f"Envoy's admin page, on loopback (default: --port + {ADMIN_OFFSET})",
    )
    cli.add_argument(
        "--otlp-port",
        type=int,
        default=OTLP_PORT,
        metavar="PORT",
        help="send spans to this port of this machine; 0: no tracing (default: %(default)s)",
    )


def _add_policy(cli: argparse.ArgumentParser) -> None:
    cli.add_argument(
        "--sampling",
        type=float,
        default=100,
        metavar="PERCENT",
        help="of requests, how many are traced (default: all)",
    )
    cli.add_argument(
        "--rate-limit",
        type=int,
        default=Settings.rate_limit_per_s,
        metavar="N",
        help="requests a second before 429, over all clients (default: %(default)s)",
    )
    cli.add_argument(
        "--origin",
        action="append",
        help="may call from a browser; repeatable (default: the console's)",
    )
    cli.add_argument("--access-log", action="store_true", help="a line of JSON a request, stderr")


def settings_from(args: argparse.Namespace) -> Settings:
    """Return what the command line asks for.

    Raises:
        Problem: it contradicts itself.
    """
    otlp: Endpoint | None
    if args.compose:
        services = services_of(MESH_TOML, host="{name}")
        listen, otlp, seen = "0.0.0.0", Endpoint("jaeger", OTLP_PORT), COMPOSE_DATA  # noqa: S104
        secret = os.environ.get("MESH_TOKEN_SECRET")
        token = make_token(secret, "gateway") if secret else ""
    else:
        services = (
            parse_services(args.services.split(",")) if args.services else services_of(MESH_TOML)
        )
        listen, seen = args.host, args.data.resolve()
        otlp = Endpoint("127.0.0.1", args.otlp_port) if args.otlp_port else None
        token = "%ENVIRONMENT(MESH_TOKEN)%" if os.environ.get("MESH_TOKEN") else ""
    admin_port = args.port + ADMIN_OFFSET if args.admin_port is None else args.admin_port
    for port in (args.port, admin_port):
        if not 0 < port < 65_536:
            raise Problem(f"{port} is no port: choose with --port and --admin-port")
    return Settings(
        services=services,
        descriptors=seen / DESCRIPTORS,
        listen=Endpoint(listen, args.port),
        admin_port=admin_port,
        otlp=otlp,
        token=token,
        sampling_percent=args.sampling,
        rate_limit_per_s=args.rate_limit,
        origins=tuple(args.origin) if args.origin else Settings.origins,
        access_log=args.access_log,
    )


def main() -> None:
    """Do what the command line says.

    Raises:
        SystemExit: it cannot be done; or it is done, and Envoy was not to be started.
    """
    args = parser().parse_args()
    try:
        settings = settings_from(args)
        if args.config_only:
            sys.stdout.write(render(settings))
        elif args.compose:
            write(settings, args.data)
        else:
            envoy_binary()
            check_ports(settings)
            exec_envoy(write(settings, args.data), drain_s=args.drain_time_s)
    except Problem as problem:
        raise SystemExit(f"gateway: {problem}") from None


if __name__ == "__main__":
    main()
