"""What the pages say of the code: links, knobs, variables, ports, stacks, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from mesh.client import Policy, client_layers
from mesh.discovery import Listed, Reach
from mesh.layers.balance import Endpoints
from mesh.layers.fallback import FallbackConfig
from mesh.layers.throttle import ThrottleConfig
from mesh.node import Node
from mesh.runtime.config import ENVIRONMENT, load
from mesh.server import server_layers
from tests.docs.fences import PAGES, ROOT, fences, read

README = read("README.md")
ARCHITECTURE = read("docs/architecture.md")


def anchor(heading: str) -> str:
    """The fragment that GitHub gives *heading*."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if target.startswith("http"):
            continue
        path, _, fragment = target.partition("#")
        file = ((ROOT / page).parent / path) if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if fragment:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_make_has_the_targets_that_are_named(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = re.findall(r"`(?:\w+=\S+ )?make ([a-z]+)", read(page))
    assert set(named) <= targets, f"{page}: {set(named) - targets}"


def test_the_readme_has_every_knob_of_make() -> None:
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    knobs = set(re.findall(r"^  ([A-Z_]+) ", helped.stdout, re.MULTILINE))
    table = README.partition("Their knobs:")[2].partition("Variables")[0]
    assert set(re.findall(r"`([A-Z_]{4,})`", table)) == knobs


def test_the_readme_has_every_variable() -> None:
    table = README.partition("Variables of every process:")[2].partition("**Platforms")[0]
    named = set(re.findall(r"`(MESH_[A-Z_]+|LOG_LEVEL|STORE)\b", table))
    assert named == set(ENVIRONMENT)


def test_the_ports_are_those_of_mesh_toml() -> None:
    config = load({"MESH_CONFIG": str(ROOT / "mesh.toml")})
    ports = {service.port for service in config.services.values()} | set(config.ports.values())
    said = set(map(int, re.findall(r"\b\d{4,5}\b", ARCHITECTURE.partition("## The client")[0])))
    assert said - {10000} == ports


#: A policy whose stack has all layers that there are.
WHOLE = Policy(fallback=FallbackConfig(), throttle=ThrottleConfig())
NODE = Node()
ENDPOINTS = Endpoints(
    Listed(["a", "b"]), lambda _: Reach.READY, lambda _: None, NODE.runtime.clock.monotonic
)


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_stacks_are_as_described(side: str) -> None:
    table = ARCHITECTURE.partition(f"## The {side} stack")[2].partition("\n## ")[0]
    described = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    client = client_layers(Node(), Node().target(""), WHOLE, ENDPOINTS)
    layers = client if side == "client" else server_layers(Node())
    assert described == [type(layer).__name__ for layer in layers]


def test_a_service_of_three_methods_takes_fewer_than_40_lines() -> None:
    (body,) = (f.body for f in fences("docs/write-a-service.md") if f.path == "wallet/service.py")
    assert len(body.splitlines()[1:]) < 40


@pytest.mark.parametrize("name", ["place_order", "cancel_order"])
def test_a_saga_takes_fewer_than_30_lines(name: str) -> None:
    source = (ROOT / "services/orchestrator" / f"{name}.py").read_text()
    assert lines_of(source, name) < 30


def test_the_tutorials_saga_takes_fewer_than_30_lines() -> None:
    (body,) = (f.body for f in fences("docs/write-a-saga.md") if f.path == "rewards/redeem.py")
    assert lines_of(body, "redeem") < 30


def lines_of(source: str, name: str) -> int:
    """How many lines a function's body has, blank ones and docstring included."""
    (function,) = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name
    )
    assert function.end_lineno is not None
    return function.end_lineno - function.body[0].lineno + 1


def test_an_rpc_takes_few_lines_of_declaration() -> None:
    """Per method, without what it does: decorator, signature, docstring, and the blank lines."""
    for file in sorted((ROOT / "services").glob("*/service.py")):
        for function in methods(file):
            declared = function.body[0].end_lineno or 0
            start = function.decorator_list[0].lineno
            assert declared - start + 1 + 2 <= 8, f"{file.parent.name}.{function.name}"


def methods(file: Path) -> list[ast.AsyncFunctionDef]:
    tree = ast.parse(file.read_text())
    return [n for n in tree.body if isinstance(n, ast.AsyncFunctionDef) and n.decorator_list]
