"""The alerts: on metrics that there are, explained in their runbooks, and fired by Prometheus."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry

from mesh.runtime.metrics import Metrics
from reconcile import watch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "observability" / "alerts"
FILES = sorted(path.name for path in FOLDER.iterdir())
ALERTS: list[dict[str, Any]] = [
    alert
    for name in FILES
    for group in yaml.safe_load((FOLDER / name).read_text())["groups"]
    for alert in group["rules"]
]
NAMES = [alert["alert"] for alert in ALERTS]


class Case(NamedTuple):
    """What Prometheus has of a series, a sample a minute, and what the alert then says.

    says: its summary so many minutes after the first sample; "" if it does not fire.
    """

    alert: str
    series: str
    samples: str
    minutes: int
    says: str = ""

    def labels(self, expression: str) -> dict[str, str]:
        """The labels of what *expression* makes of the series."""
        labels: dict[str, str] = dict(re.findall(r'(\w+)="([^"]*)"', self.series))
        if by := re.search(r" by \(([^)]*)\)", expression):
            return {name: labels[name] for name in by[1].split(", ")}
        return labels

    def as_promtool_has_it(self) -> dict[str, Any]:
        """One entry of its `tests`."""
        (rule,) = (alert for alert in ALERTS if alert["alert"] == self.alert)
        labels = self.labels(rule["expr"])
        texts = {
            name: re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)
            for name, text in rule["annotations"].items()
        }
        fired = {
            "exp_labels": {**rule["labels"], **labels},
            "exp_annotations": {**texts, "summary": self.says},
        }
        tried = {"eval_time": f"{self.minutes}m", "alertname": self.alert}
        return {
            "interval": "1m",
            "input_series": [{"series": self.series, "values": self.samples}],
            "alert_rule_test": [{**tried, "exp_alerts": [fired] if self.says else []}],
        }


PARKED = 'mesh_sagas{service="s",state="PARKED"}'
OLDEST = 'mesh_saga_oldest_unfinished_seconds{service="s"}'
STEP = 'service="s",rpc_method="a.A/B"'
MISCONFIGURED = f'mesh_saga_misconfigured_total{{{STEP},reason="NO"}}'
UNDOS = f"mesh_saga_undo_failures_total{{{STEP}}}"
FAILING = 'mesh_database_failing{service="s"}'
ORPHANED = 'mesh_effects_orphaned{rpc_method="a.A/B"}'
DEAD = 'mesh_inbox_events{service="s",subscription="notes",state="dead"}'
OUTBOX = 'mesh_outbox_oldest_seconds{service="s"}'
BEHIND = 'mesh_bus_lag_events{subscription="notes"}'
FINDINGS = 'mesh_reconcile_findings{rule="ORPHAN"}'
LAST_RUN = "mesh_reconcile_last_run_timestamp_seconds"
CASES = (
    Case("SagasParked", PARKED, "0x9", 5),
    Case("SagasParked", PARKED.replace("PARKED", "EXECUTING"), "9x9", 5),
    Case("SagasParked", PARKED, "0 0 0 2x5", 5, "2 sagas of s wait for a person"),
    Case("SagaDoesNotEnd", OLDEST, "0+60x50", 20),
    Case("SagaDoesNotEnd", OLDEST, "0+60x50", 40, "s has had a saga for 40m 0s"),
    Case("SagasMisconfigured", MISCONFIGURED, "7x30", 20),
    Case("SagasMisconfigured", MISCONFIGURED, "0 0 0 5x30", 8),
    Case("SagasMisconfigured", MISCONFIGURED, "0+9x30", 20, "a.A/B tells s NO, again and again"),
    Case("UndosFail", UNDOS, "1x200", 150),
    Case(
        "UndosFail", UNDOS, "_x20 1x20", 30, "a.A/B was refused or given up: a step is not undone"
    ),
    Case("UndosFail", UNDOS, "1x80 2x9", 85, "a.A/B was refused or given up: a step is not undone"),
    Case("DatabaseFailing", FAILING, "0 1 0x9", 2),
    Case("DatabaseFailing", FAILING, "0x5 1x5", 9, "The database of s takes no writes"),
    Case("EffectsOrphaned", ORPHANED, "0x9", 5),
    Case("EffectsOrphaned", ORPHANED, "3x9", 5, "3 open effects of a.A/B have no code any more"),
    Case("EventsDead", DEAD.replace("dead", "early"), "5x9", 5),
    Case("EventsDead", DEAD, "5x9", 5, "notes could not apply 5 events"),
    Case("EventsNotPublished", OUTBOX, "0+60x9", 5),
    Case(
        *("EventsNotPublished", OUTBOX, "0+60x9", 6),
        "s has had an event for 6m 0s that the broker does not take",
    ),
    Case("EventsNotTaken", BEHIND, "20000x30", 10),
    Case("EventsNotTaken", BEHIND, "20000x30", 20, "notes is 20000 events behind"),
    Case("BooksDisagree", FINDINGS, "0x9", 5),
    Case("BooksDisagree", FINDINGS, "0 0 0 2x5", 5, "2 findings of ORPHAN"),
    Case("BooksUnsure", "mesh_reconcile_unsure", "4x50", 20),
    Case(
        *("BooksUnsure", "mesh_reconcile_unsure", "4x50", 40),
        "4 orders seem wrong in each run, and never hold still",
    ),
    Case("BooksNotReconciled", LAST_RUN, "0+60x99", 90),
    Case(
        *("BooksNotReconciled", LAST_RUN, "0x99", 90),
        "For an hour nobody has looked whether the services agree",
    ),
    Case(
        *("BooksNotReconciled", LAST_RUN, "_x30", 20),
        "For an hour nobody has looked whether the services agree",
    ),
)


def metrics() -> set[str]:
    """What processes tell, as Prometheus names it."""
    registry = CollectorRegistry()
    watch.Metrics(registry)
    told = [*Metrics().registry.collect(), *registry.collect()]
    return {one.name + ("_total" if one.type == "counter" else "") for one in told}


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_it_is_on_metrics_that_there_are_and_that_its_runbook_explains(
    alert: dict[str, Any],
) -> None:
    runbook = (ROOT / alert["annotations"]["runbook"]).read_text()
    named = set(re.findall(r"mesh_\w+", alert["expr"]))
    assert named
    assert named <= metrics()
    assert [name for name in named if not re.search(rf"`{name}\b", runbook)] == []


def test_each_is_tried_when_it_fires_and_when_it_does_not() -> None:
    assert {(case.alert, bool(case.says)) for case in CASES} == {
        (name, fires) for name in NAMES for fires in (True, False)
    }


def test_prometheus_fires_them(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (Debian: apt-get install prometheus)")
    for name in FILES:
        shutil.copy(FOLDER / name, tmp_path)
    tests = {"rule_files": FILES, "tests": [case.as_promtool_has_it() for case in CASES]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    for command in (["check", "rules", *FILES], ["test", "rules", "tests.yml"]):
        ran = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
