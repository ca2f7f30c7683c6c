"""`python -m gateway.drain`: have Envoy finish what is under way; asked to end, it drops it."""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from typing import Final

_POLL_S: Final = 0.05
#: Requests that Envoy has in hand. `edge` is the listener's prefix; its admin page has another.
_ACTIVE: Final = "http.edge.downstream_rq_active"


def drain(admin_port: int, within_s: float) -> bool:
    """Close the listeners, and wait until every request is answered; False if some are not yet.

    New connections are refused at once, and an answer on an old one says that it is closed.
    (Envoy's `graceful` would go on taking new ones for a while, for load balancers that learn
    slowly. None stands before this one.)

    Raises:
        OSError: no Envoy has its admin page there.
    """
    _ask(admin_port, "POST", "/drain_listeners")
    ends = time.monotonic() + within_s
    while _active(admin_port):
        if time.monotonic() > ends:
            return False
        time.sleep(_POLL_S)
    return True


def _active(admin_port: int) -> int:
    line = _ask(admin_port, "GET", f"/stats?filter=^{_ACTIVE}$")
    return int(line.rpartition(":")[2])


def _ask(admin_port: int, method: str, path: str) -> str:
    admin = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=5)
    try:
        admin.request(method, path)
        return admin.getresponse().read().decode()
    finally:
        admin.close()


def main() -> int:
    """Do it. Exit status: 0 all is answered, 1 not in time, 2 there is no Envoy."""
    cli = argparse.ArgumentParser(prog="python -m gateway.drain", description=__doc__)
    cli.add_argument("--admin-port", type=int, required=True, help="Envoy's admin page")
    cli.add_argument(
        "--within-s", type=float, default=15, metavar="S", help="(default: %(default)s)"
    )
    given = cli.parse_args()
    try:
        if drain(given.admin_port, given.within_s):
            return 0
    except (OSError, http.client.HTTPException) as error:
        print(f"no Envoy answers on port {given.admin_port}: {error}", file=sys.stderr)
        return 2
    print(f"requests are under way after {given.within_s:.0f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
