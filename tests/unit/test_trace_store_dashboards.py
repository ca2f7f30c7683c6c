"""Prometheus and Grafana files: they load, and name the same things as one another."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parents[2] / "observability"
METRICS = {"rpc_server_call_duration_seconds", "mesh_breaker_state"}
SCRAPES: dict[str, Any] = yaml.safe_load((HERE / "prometheus" / "prometheus.yml").read_text())
DATASOURCES: dict[str, Any] = yaml.safe_load(
    (HERE / "grafana" / "provisioning" / "datasources" / "datasources.yaml").read_text()
)
DASHBOARD: dict[str, Any] = json.loads((HERE / "grafana" / "dashboards" / "red.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_service_is_scraped_at_its_admin_port_under_its_name() -> None:
    (services,) = [job for job in SCRAPES["scrape_configs"] if job["job_name"] == "services"]
    ports = {}
    for group in services["static_configs"]:
        host, port = group["targets"][0].split(":")
        assert group["labels"] == {"service": host}
        ports[host] = int(port) - 10_000
    services_of = tomllib.loads((HERE.parent / "mesh.toml").read_text())["service"]
    assert ports == {name: service["port"] for name, service in services_of.items()}


def test_the_dashboard_uses_known_metrics_and_data_sources() -> None:
    known = {source["uid"] for source in DATASOURCES["datasources"]}
    assert known == {"prometheus", "jaeger"}
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} <= known
    used = {name for query in QUERIES for name in re.findall(r"\b(?:rpc|mesh)_\w+?(?=[{)])", query)}
    bare = {re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
    assert bare - {"rpc_method", "rpc_response_status_code"} == METRICS


def test_prometheus_takes_the_scrapes_and_the_queries(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (Debian: apt-get install prometheus)")
    rules = [
        {"record": f"panel:query{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    for command in (
        ["config", str(HERE / "prometheus" / "prometheus.yml")],
        ["rules", str(path)],
    ):
        checked = subprocess.run(
            [promtool, "check", *command], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
