"""`mesh`, or `python -m mesh`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from . import explain_cli as explaining
from .admin import cli as admin
from .events import cli as events
from .runtime import backup_cli as backups
from .runtime import config as configuration
from .runtime.config import Config, ConfigError
from .saga import cli as sagas

#: Commands that ask a service.
_ASKED = {
    "chaos": admin.run_chaos,
    "dlq": events.run,
    "policies": admin.run_policies,
    "read-model": events.run_read_model,
    "saga": sagas.run,
}


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="mesh",
        description="Run the services that mesh.toml names.",
        epilog="Variables: "
        + "; ".join(f"{name}: {what}" for name, what in configuration.ENVIRONMENT.items()),
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="run the whole system, supervised, until Ctrl-C")
    up.add_argument(
        "--one-process", action="store_true", help="all services in one process: start here"
    )
    up.add_argument(
        "--replicas",
        metavar="SERVICE=COUNT,…",
        help="run several processes of a service, on STORE=postgres; as MESH_REPLICAS",
    )
    up.add_argument("--no-welcome", action="store_true", help="start it and do nothing else")
    run = commands.add_parser("run", help="run one service, or several in one process")
    run.add_argument("service", nargs="+", help="its name in mesh.toml")
    run.add_argument("--replica", type=int, default=1, metavar="N", help="which one; default 1")
    health = commands.add_parser("health", help="exit with 0 if a service serves")
    health.add_argument("service", help="its name in mesh.toml")
    ps = commands.add_parser("ps", help="print the processes of the system that is up")
    ps.add_argument("service", nargs="?", help="print only this one's process id")
    explaining.add_to(commands)
    backups.add_to(commands)
    events.add_to(commands)
    sagas.add_to(commands)
    admin.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = parser().parse_args(arguments)
    if getattr(options, "replicas", None) is not None:
        os.environ["MESH_REPLICAS"] = options.replicas  # the services need it to find one another
    try:
        config = configuration.load()
        sys.path.insert(0, str(config.folder))  # where its modules are
        if options.command == "up":
            return _up(config, options)
        if options.command == "run":
            return _run(config, options.service, options.replica)
        if options.command in _ASKED:
            return asyncio.run(_ASKED[options.command](config, options))
        if options.command == "explain":
            return explaining.run(config, options)
        if options.command in ("backup", "restore"):
            return backups.run(config, options)
        if options.command == "health":
            return _health(config, options.service)
        return _ps(config, options.service)
    except BrokenPipeError:  # who reads us has seen enough; Python would complain at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _up(config: Config, options: argparse.Namespace) -> int:
    from .policies import Policies
    from .runtime.supervisor import up

    Policies(config)  # what is wrong there is to be known before anything starts
    return asyncio.run(up(config, one_process=options.one_process, welcome=not options.no_welcome))


def _run(config: Config, services: Sequence[str], replica: int) -> int:
    import uvloop

    from .runtime.lifecycle import serve, set_environment
    from .storage.port import StorageError

    set_environment(config, services)
    try:
        uvloop.run(serve(config, services, replica))
    except StorageError as error:
        raise ConfigError(str(error)) from error
    return 0


def _health(config: Config, service: str) -> int:
    from .runtime.health import serves

    address = f"127.0.0.1:{config.service(service).port}"
    healthy = asyncio.run(serves(address))
    print(f"{service} at {address} {'serves' if healthy else 'does not serve'}")
    return 0 if healthy else 1


def _ps(config: Config, service: str | None) -> int:
    from .runtime.presence import running

    pids = running(config.data_dir)
    if not pids:
        raise ConfigError(f"nothing is up on {config.data_dir}")
    if service is not None:
        if service not in pids:
            raise ConfigError(f"no process {service!r}; there are {', '.join(pids)}")
        print(pids[service])
        return 0
    for name, pid in pids.items():
        print(f"{name:14} {pid}")
    return 0
