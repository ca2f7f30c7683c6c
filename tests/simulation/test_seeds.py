"""The order system under everything that can go wrong, many times over."""

import os
import subprocess
import sys

import pytest

from mesh.testing.campaign import Report, simulate
from mesh.testing.report import explain
from mesh.testing.shrink import shrink
from tests.simulation.shop import Shop

#: How many seeds: more than each mutant is found in. `make simulate` runs any number.
SEEDS = int(os.environ.get("SIMULATE_SEEDS", "2000"))
#: What each fault must have met: any one of these, and of these, and so on.
MOMENTS = (
    *(("GetUser",), ("QuoteOrder",), ("CreateOrder",), ("ReserveStock",), ("ChargePayment",)),
    *(("CreateShipment",), ("ConfirmOrder",), ("CommitReservation",), ("ReleaseShipment",)),
    ("CancelOrder", "ReleaseStock", "RefundPayment", "CancelShipment"),
    ("Charge", "Refund"),
    ("OrderEvent", "PaymentEvent", "ShipmentEvent"),
)
FAULTS = (
    *("lost request", "lost reply", "repeat", "delayed request", "delayed reply"),
    *("kill", "kill of caller"),
)
#: What is seldom called must have met one of these, and of these, and so on.
SELDOM = ("ReleaseStock", "RefundPayment", "CancelShipment", "ReturnStock")
KINDS = (
    ("lost request", "lost reply", "delayed request", "delayed reply"),
    ("repeat", "late repeat"),
    ("kill", "kill of caller", "stop", "stop of caller"),
)

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def report() -> Report:
    return simulate(Shop, range(SEEDS))


def test_no_order_money_goods_or_event_is_lost(report: Report) -> None:
    for failed in report.failures[:1]:
        pytest.fail(explain(Shop, failed, shrink(Shop, failed)))
    assert report.seeds == SEEDS


def test_each_fault_met_each_step(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{report.seeds} seeds, {report.seeds_per_cpu_s:.1f} a second and core")
    missed = [
        f"{fault} never met {' or '.join(methods)}"
        for fault in FAULTS
        for methods in MOMENTS
        if not any(report.met[fault, method] for method in methods)
    ]
    missed += [
        f"{' or '.join(faults)} never met {method}"
        for faults in KINDS
        for method in SELDOM
        if not any(report.met[fault, method] for fault in faults)
    ]
    assert missed == []


RUN = "from mesh.testing.simulation import run_seed; from tests.simulation.shop import Shop\n"
TELL = "for seed in {}: print(seed, run_seed(Shop, seed).fingerprint)"


def test_a_seed_is_the_same_run_in_every_process_and_whatever_ran_before_it() -> None:
    first, second = (
        subprocess.run(
            [sys.executable, "-c", RUN + TELL.format(seeds)],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.splitlines()
        for seeds in ((3, 7, 11, 14), (14, 0, 11, 7, 31, 3))
    )
    assert len(first) == len({told.split()[1] for told in first}) == 4
    assert set(first) < set(second)
