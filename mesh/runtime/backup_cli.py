"""`mesh backup` and `mesh restore`, on the command line."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .config import Config, ConfigError
from .presence import check_restored


def add_to(commands: Any) -> None:
    """Add the commands to the command line's grammar."""
    backup = commands.add_parser("backup", help="copy all databases as they are now, while it runs")
    backup.add_argument("target", type=Path, help="a new folder for it")
    restore = commands.add_parser("restore", help="put a backup in place; the system must be down")
    restore.add_argument("source", type=Path, help="the folder of a backup")


def run(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status.

    Raises:
        ConfigError: it cannot be done.
    """
    from .backup import BackupError

    if config.database:
        raise ConfigError(
            f"`mesh {options.command}` copies SQLite files; the databases are on PostgreSQL, which"
            " has its own tools for that: docs/postgresql.md"
        )
    try:
        if options.command == "backup":
            _backup(config, options.target)
        else:
            _restore(config, options.source)
    except BackupError as error:
        raise ConfigError(str(error)) from error
    return 0


def _backup(config: Config, target: Path) -> None:
    from .backup import take

    check_restored(config.data_dir)
    databases = {name: config.data_dir / f"{name}.db" for name in config.services}
    made = take(databases, target, _show)
    size_mb = sum(copy.size_bytes for copy in made.copies.values()) / 1e6
    print(
        f"{len(made.copies)} databases, {size_mb:.1f} MB, as they were at {_utc(made.made_at)};"
        f" writes waited for {made.pause_s * 1000:.0f} ms"
    )


def _restore(config: Config, source: Path) -> None:
    from .restore import restore

    found, aside = restore(source, config.data_dir, config.services)
    print(f"{len(found.copies)} databases are as they were at {_utc(found.made_at)}")
    if aside:
        print(f"what was there is in {aside}")
    if missing := sorted(config.services.keys() - found.copies.keys()):
        print(f"not in the backup, and empty now: {', '.join(missing)}")


def _show(name: str, pages: int, of: int) -> None:
    """Show how much of a database is copied, on a terminal."""
    if sys.stderr.isatty():
        end = "\n" if pages == of else ""
        print(f"\r{name:14} {100 * pages // max(1, of):3} %", end=end, file=sys.stderr)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")
