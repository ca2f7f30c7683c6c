"""The alerts, their runbook and the metrics speak of the same things."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from reconcile.catalogue import RULES
from reconcile.watch import Metrics

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "observability" / "alerts" / "reconcile.yml"
RUNBOOK = (ROOT / "docs" / "reconcile.md").read_text()
((ALERTS),) = [group["rules"] for group in yaml.safe_load(FILE.read_text())["groups"]]


def metrics() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry)
    return {sample.name for metric in registry.collect() for sample in metric.samples}


def test_alerts_are_on_metrics_that_there_are_and_have_a_runbook() -> None:
    for alert in ALERTS:
        named = set(re.findall(r"mesh_\w+", alert["expr"]))
        assert named
        assert named <= metrics()
        assert (ROOT / alert["annotations"]["runbook"]).exists()


def test_the_page_has_every_rule_and_every_metric() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", RUNBOOK, re.MULTILINE))
    assert table == RULES
    told = set(re.findall(r"mesh_reconcile_\w+", RUNBOOK))
    assert told == {name for name in metrics() if not name.endswith("_created")}


def series(name: str, values: str) -> dict[str, str]:
    return {"series": name, "values": values}


def test_prometheus_fires_them(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (Debian: apt-get install prometheus)")

    def case(minutes: int, alert: str, fires: bool, *given: dict[str, str]) -> dict[str, Any]:
        (rule,) = [one for one in ALERTS if one["alert"] == alert]
        found = 'mesh_reconcile_findings{rule="ORPHAN"}'
        labels = {**rule["labels"], **({"rule": "ORPHAN"} if found in str(given) else {})}
        expected = [{"exp_labels": labels}] if fires else []
        return {
            "interval": "1m",
            "input_series": list(given),
            "alert_rule_test": [
                {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": expected}
            ],
        }

    orphans = 'mesh_reconcile_findings{rule="ORPHAN"}'
    last_run = "mesh_reconcile_last_run_timestamp_seconds"
    cases = [
        case(5, "BooksDisagree", False, series(orphans, "0x10")),
        case(5, "BooksDisagree", True, series(orphans, "0 0 0 2x5")),
        case(20, "BooksUnsure", False, series("mesh_reconcile_unsure", "1x40")),
        case(40, "BooksUnsure", True, series("mesh_reconcile_unsure", "1x40")),
        case(90, "BooksNotReconciled", False, series(last_run, "0+60x100")),
        case(90, "BooksNotReconciled", True, series(last_run, "0x100")),
        case(20, "BooksNotReconciled", True),
    ]
    for one in cases:  # what they say is not what is tested
        for test in one["alert_rule_test"]:
            for alert in test["exp_alerts"]:
                alert["exp_annotations"] = {}
    rules = yaml.safe_load(FILE.read_text())
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "tests": cases})
    )
    for command in (["check", "rules", str(FILE)], ["test", "rules", str(tmp_path / "tests.yml")]):
        ran = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
