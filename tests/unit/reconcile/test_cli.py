"""The command without a system, and the metrics of the one that stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from reconcile import cli, run
from reconcile.catalogue import RULES, Finding
from reconcile.run import Report
from reconcile.watch import Metrics
from tests.support import children
from tests.support.waiting import eventually
from tests.unit.mesh.programs import free_port

ROOT = Path(__file__).resolve().parents[3]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
FOUND = Report(
    began_at=7.0,
    orders=1400,
    in_flight=3,
    unsure=1,
    findings=[Finding("ORPHAN", f"o-{n}", "there is no such order") for n in range(25)],
    duration_s=2.0,
)


@pytest.fixture
def reporting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Have the command find *FOUND* or nothing, and keep how it was asked."""
    seen: dict[str, Any] = {"report": FOUND}

    async def reconcile(services: Any, tell: Any, **options: Any) -> Report:
        seen.update(options)
        tell("orders", 1)
        report: Report = seen["report"]
        return report

    monkeypatch.setattr(run, "reconcile", reconcile)
    return seen


def test_findings_are_grouped_with_what_to_do(
    reporting: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--every-line", "--stuck-after-s", "60"]) == 1
    assert reporting["every_line"] is True
    assert reporting["stuck_after_s"] == 60
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ORPHAN (25). {RULES['ORPHAN']}"
    assert lines[1] == "  o-0: there is no such order"
    assert lines[-2] == "  and 5 more: --json has them all"
    assert lines[-1].startswith("1,400 orders in 2.0 s; 3 on their way; 1 seem wrong and did not ")
    assert lines[-1].endswith("; 25 findings")


def test_nothing_found(reporting: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    reporting["report"] = Report(began_at=7.0, orders=2)
    assert cli.main(["--quiet"]) == 0
    assert capsys.readouterr().out == "2 orders in 0.0 s; all agrees\n"


@pytest.mark.parametrize(
    "wrong", [["--every-s", "0"], ["--every-s", "x"], ["--stuck-after-s", "x"], ["file"]]
)
def test_mistakes_are_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(wrong)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_without_a_system_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "FIRST_ANSWER_S", 0.2)
    monkeypatch.setenv("MESH_ADDRESS", f"127.0.0.1:{free_port()}")
    assert cli.main(["--quiet"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("a service does not answer: ")
    assert "`make run` starts it" in said.err


def test_the_metrics_are_the_last_report() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    empty = generate_latest(registry).decode()
    assert all(f'mesh_reconcile_findings{{rule="{rule}"}} 0.0' in empty for rule in RULES)
    metrics.show(cli.to_json(FOUND))
    shown = generate_latest(registry).decode().splitlines()
    assert {
        'mesh_reconcile_findings{rule="ORPHAN"} 25.0',
        'mesh_reconcile_findings{rule="ORDER_LOST"} 0.0',
        "mesh_reconcile_orders 1400.0",
        "mesh_reconcile_in_flight 3.0",
        "mesh_reconcile_unsure 1.0",
        "mesh_reconcile_last_run_timestamp_seconds 7.0",
        "mesh_reconcile_duration_seconds 2.0",
        "mesh_reconcile_failures_total 0.0",
    } <= set(shown)
    metrics.show(cli.to_json(Report(began_at=8.0)))
    assert 'mesh_reconcile_findings{rule="ORPHAN"} 0.0' in generate_latest(registry).decode()


def test_it_stays_whatever_becomes_of_a_run_and_ends_when_told() -> None:
    port = free_port()
    command = ["--every-s", "0.05", "--metrics-port", f"{port}"]
    watch = children.start(
        [sys.executable, "-m", "reconcile", *command],
        cwd=ROOT,
        env={**CLEAN, "MESH_ADDRESS": "not an address"},
        stderr=subprocess.DEVNULL,
    )

    def failures() -> float:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                text = page.read().decode()
        except OSError:
            return 0.0
        (line,) = [ln for ln in text.splitlines() if ln.startswith("mesh_reconcile_failures_total")]
        return float(line.split()[1])

    eventually(failures)
    watch.send_signal(signal.SIGTERM)
    assert watch.wait(30) == 0


def test_a_metrics_port_in_use_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "reconcile", "--every-s", "9", "--metrics-port", f"{port}"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"cannot serve /metrics on 127.0.0.1:{port}: Address already in use\n"


def test_who_stays_holds_nothing_of_what_a_run_needs() -> None:
    script = "import sys, reconcile.cli, reconcile.watch; print('grpc' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"
