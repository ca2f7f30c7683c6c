"""Make .venv ready from nothing but Python and PyPI: an environment, uv, the locked packages.

`make` calls it, with the extras and groups that a target needs:

    python3 scripts/bootstrap.py --extra sqlite --group dev

It only adds: what an earlier target installed stays, so that `make run` after `make test` is quick.
CI starts from an empty environment, so nothing undeclared survives there.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"

# uv must use this .venv and this Python, whatever the caller's shell has active.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
    "NO_COLOR": "1",
    "UV_PROJECT_ENVIRONMENT": str(VENV),
    "UV_PYTHON": str(PYTHON),
    "UV_PYTHON_DOWNLOADS": "never",
}


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"set-up: {text}", flush=True)


def capture(*command: str | Path) -> str:
    """Return what a command prints to both streams, whether it fails or not."""
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.stdout


def run(*command: str | Path) -> None:
    """Run a command in view; leave with its status when it fails."""
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False)
    if done.returncode:
        sys.exit(f"set-up: failed: {' '.join(map(str, command))}")


def make_venv() -> None:
    """Create .venv, or create it anew when its Python is gone or is not this one."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    if PYTHON.exists() and capture(PYTHON, "-c", version).strip() == here:
        return
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"set-up: Python {here} at {sys.executable} has no venv module with pip.\n"
            f"        Debian, Ubuntu: apt install python{here}-venv; or choose another Python:\n"
            "        make PYTHON=/path/to/python3"
        )
    say(f"creating .venv with Python {platform.python_version()}")
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", VENV)


def install_uv() -> None:
    """Install the uv that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["tool"]["uv"]["required-version"].removeprefix("==")
    if UV.exists() and capture(UV, "--version").split()[1:2] == [version]:
        return
    say(f"installing uv {version} with pip, about 18 MB")
    run(
        PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        f"uv=={version}",
    )  # fmt: skip


def missing_packages(selection: list[str]) -> dict[str, str]:
    """Return name -> version of the locked packages that .venv does not have yet."""
    plan = capture(UV, "sync", "--locked", "--inexact", "--dry-run", *selection)
    return dict(re.findall(r"^ \+ ([\w.-]+)==(\S+)$", plan, flags=re.MULTILINE))


def download_bytes(packages: dict[str, str]) -> int:
    """Add up the wheels that this machine would take for these packages, from uv.lock."""
    from_pip = "from pip._vendor.packaging.tags import sys_tags; print(*sys_tags(), sep='\\n')"
    tags = capture(PYTHON, "-c", from_pip).split()
    rank = {tag: position for position, tag in enumerate(tags)}
    total = 0
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        if packages.get(package["name"]) != package["version"]:
            continue
        fitting = [
            (min(places), wheel.get("size", 0))
            for wheel in package.get("wheels", [])
            if (places := [rank[tag] for tag in wheel_tags(wheel["url"]) if tag in rank])
        ]
        total += min(fitting)[1] if fitting else package.get("sdist", {}).get("size", 0)
    return total


def wheel_tags(url: str) -> list[str]:
    """Return the compatibility tags in a wheel's name (`...-cp311.cp312-abi3-linux.whl` has 2)."""
    pythons, abis, platforms = url.rsplit("/", 1)[-1].removesuffix(".whl").split("-")[-3:]
    return [
        f"{python}-{abi}-{platform_}"
        for python in pythons.split(".")
        for abi in abis.split(".")
        for platform_ in platforms.split(".")
    ]


def main(selection: list[str]) -> None:
    """Bring .venv up to what uv.lock says for this selection of extras and groups."""
    began = time.monotonic()
    make_venv()
    install_uv()
    packages = missing_packages(selection)
    if packages:
        megabytes = download_bytes(packages) / 1e6
        say(f"{len(packages)} packages, about {megabytes:.0f} MB unless uv has them cached")
    run(UV, "sync", "--locked", "--inexact", "--quiet", *selection)
    say(f"ready in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
