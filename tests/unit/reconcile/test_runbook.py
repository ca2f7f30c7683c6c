"""The runbook of the alerts has every rule and every metric."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from reconcile.catalogue import RULES
from reconcile.watch import Metrics

RUNBOOK = (Path(__file__).resolve().parents[3] / "docs" / "reconcile.md").read_text()


def test_the_page_has_every_rule_and_every_metric() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", RUNBOOK, re.MULTILINE))
    assert table == RULES
    registry = CollectorRegistry()
    Metrics(registry)
    kept = {sample.name for metric in registry.collect() for sample in metric.samples}
    told = set(re.findall(r"mesh_reconcile_\w+", RUNBOOK))
    assert told == {name for name in kept if not name.endswith("_created")}
