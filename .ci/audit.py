"""Looks the pinned packages up among known advisories: fails on found ones, and says out loud where it cannot look.

`pip-audit` asks the package index for its advisories. One package is asked about first, so that a machine without a
network, or behind an index that has none, is known at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
SECONDS: Final = 600


def audited(requirements: Path) -> tuple[list[dict[str, Any]], str]:
    """What is said of each package, and the last words of an audit that said nothing."""
    words = ["--requirement", str(requirements), "--no-deps", "--disable-pip", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", *words, "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
        return json.loads(done.stdout)["dependencies"], ""
    except subprocess.TimeoutExpired:
        return [], f"no answer within {SECONDS} s"
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def verdict(packages: list[dict[str, Any]], problem: str) -> tuple[int, list[str]]:
    """The exit code and what to print."""
    seen = [package for package in packages if "skip_reason" not in package]
    if not seen:
        reason = problem or packages[0]["skip_reason"] if packages or problem else "nothing to look up"
        return 0, [f"AUDIT NOT DONE: no advisories can be reached from here ({reason}). Run `make audit` elsewhere."]
    found = [_sentence(package, hole) for package in seen for hole in package["vulns"]]
    lines = [f"{len(seen)} packages looked up, {len(found)} advisories", *found]
    missed = [package["name"] for package in packages if "skip_reason" in package]
    if missed:
        lines.append(f"NOT LOOKED UP: {', '.join(missed)}")
    return (1 if found else 0), lines


def _sentence(package: dict[str, Any], hole: dict[str, Any]) -> str:
    remedy = ", ".join(hole["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {hole['id']}, mended in {remedy}"


def main(requirements: Path) -> int:
    """The exit code: 1 for found advisories alone."""
    pinned = [line for line in requirements.read_text().splitlines() if "==" in line]
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.txt"
        first.write_text(f"{pinned[0]}\n")
        packages, problem = audited(first)
    if any("skip_reason" not in package for package in packages):
        packages, problem = audited(requirements)
    code, lines = verdict(packages, problem)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "constraints.txt"))
