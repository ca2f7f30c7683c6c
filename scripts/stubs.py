"""Generate the typed Python stubs from `protos/`.

    python scripts/stubs.py            write them
    python scripts/stubs.py --check    only compare; exit 1 if any is stale

The stubs are committed, so that nobody needs a compiler to use them. Both modes
generate into a temporary directory first: what is checked is what is written.

The order system's contracts go to `protos/python`, a wheel of its own. The library's
own contracts go into the library, `mesh/`, which owns every `__init__.py` above them. Examples
have theirs beside their protos.
`google.*` is not generated: it comes from googleapis-common-protos.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
VENDOR = PROTOS / "vendor"
CLIENTS = Path("protos/python")
LIBRARY = Path()

COMMAND = "python scripts/stubs.py"
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
MARKERS = ("__init__.py", "py.typed")


def main() -> int:
    """Write or check the stubs; return the exit status."""
    parser = argparse.ArgumentParser(description="Generate the typed Python stubs from protos/.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if any is stale")
    check: bool = parser.parse_args().check

    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        stale = list(differences(fresh))
        for path in stale:
            outcome = "stale" if check else apply(fresh, path)
            print(f"{outcome}: {path.as_posix()}")

    if stale and check:
        print(f"stubs: not what protos/ says; run: {COMMAND}", file=sys.stderr)
        return 1
    if not stale:
        print("stubs: up to date")
    return 0


def generate(out: Path) -> None:
    """Write every stub, and what makes packages of them, under `out` as it lies in the project."""
    shop = [proto.relative_to(PROTOS) for proto in sorted(PROTOS.glob("shop/**/*.proto"))]
    rules = [proto.relative_to(VENDOR) for proto in sorted(VENDOR.glob("buf/**/*.proto"))]
    own = [proto.relative_to(PROTOS) for proto in sorted(PROTOS.glob("mesh/**/*.proto"))]

    examples = [proto.relative_to(ROOT) for proto in sorted(ROOT.glob("examples/**/*.proto"))]

    compile_protos(shop, out / CLIENTS)
    compile_protos(rules, out / CLIENTS, services=False)
    compile_protos(own, out / LIBRARY)
    compile_protos(examples, out / LIBRARY, root=ROOT)

    for proto in [*shop, *rules]:
        for package in list(proto.parents)[:-1]:
            (out / CLIENTS / package / "__init__.py").touch()
        # PEP 561: one marker in the top package speaks for all below it.
        (out / CLIENTS / proto.parts[0] / "py.typed").touch()
    for proto in own:
        (out / LIBRARY / proto.parent / "__init__.py").touch()


def compile_protos(
    protos: list[Path], out: Path, *, services: bool = True, root: Path = PROTOS
) -> None:
    """Run protoc over `protos`, named relative to their include directory, which is `root`."""
    out.mkdir(parents=True, exist_ok=True)
    includes = (root, VENDOR, files("grpc_tools") / "_proto")
    kinds = ("python", "mypy", "grpc_python", "mypy_grpc") if services else ("python", "mypy")
    status = protoc.main(
        [
            "protoc",
            *(f"--proto_path={include}" for include in includes),
            *(f"--plugin={plugin(name)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")),
            *(f"--{kind}_out={out}" for kind in kinds),
            *(f"--{kind}_opt=quiet" for kind in kinds if kind.startswith("mypy")),
            *(proto.as_posix() for proto in protos),
        ]
    )
    if status != 0:
        raise SystemExit(f"stubs: protoc failed with status {status}")


def plugin(name: str) -> Path:
    """Return this interpreter's own protoc plugin, whatever the PATH holds."""
    suffix = ".exe" if sys.platform == "win32" else ""
    path = Path(sysconfig.get_path("scripts"), name + suffix)
    if not path.exists():
        raise SystemExit(f"stubs: {path} is missing; install mypy-protobuf into this environment")
    return path


def differences(fresh: Path) -> Iterator[Path]:
    """Yield each file that is missing, out of date or left over, relative to the project."""
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    for path in sorted(wanted | set(committed())):
        new, old = fresh / path, ROOT / path
        if not (new.exists() and old.exists() and new.read_bytes() == old.read_bytes()):
            yield path


def committed() -> Iterator[Path]:
    """Yield the generated files the project holds now."""
    for package in ("buf", "shop"):
        for path in (ROOT / CLIENTS / package).rglob("*"):
            if path.name.endswith(GENERATED) or path.name in MARKERS:
                yield path.relative_to(ROOT)
    # The library's packages hold hand-written files too: there, only stubs are ours.
    for package in ("mesh", "examples"):
        for path in (ROOT / LIBRARY / package).rglob("*_pb2*"):
            if path.name.endswith(GENERATED):
                yield path.relative_to(ROOT)


def apply(fresh: Path, path: Path) -> str:
    """Make the project's `path` what it is under `fresh`, be that gone; say which it was."""
    new, old = fresh / path, ROOT / path
    if not new.exists():
        old.unlink()
        return "removed"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(new.read_bytes())
    return "wrote"


if __name__ == "__main__":
    sys.exit(main())
