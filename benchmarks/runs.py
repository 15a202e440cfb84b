"""Runs jobs as a user does, in a process of their own, and reads what their manifests say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one command took."""

    seconds: float
    peak_gb: float


def run_command(arguments: Sequence[str], timeout_seconds: float) -> Measured:
    """Runs a command to its end, with the peak of its processes' proportional memory; raises where it fails."""
    started = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=sys.stderr)
    peak = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(2.0):
            peak = max(peak, _memory_gb(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        code = process.wait(timeout_seconds)
    finally:
        ended.set()
        if process.poll() is None:
            process.terminate()
    if code != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {code}")
    return Measured(time.monotonic() - started, peak)


def _memory_gb(pid: int) -> float:
    """Proportional memory of a process and all that it started, in GiB."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    except psutil.NoSuchProcess:
        return 0.0
    return total / 2**30


def run_job(
    job: str, folder: Path, settings: Sequence[str] = (), until: str = "report", timeout_seconds: float = 3600
) -> Measured:
    """`vp-ray run JOB` into `folder` with `--set` assignments."""
    assignments = [f"run={folder}", *settings]
    options = [part for assignment in assignments for part in ("--set", assignment)]
    return run_command(
        [sys.executable, "-m", "vp_ray", "run", str(ROOT / job), "--until", until, *options], timeout_seconds
    )


def figures(folder: Path, stage: str) -> dict[str, Any]:
    """The figures in a finished stage's manifest."""
    manifest: dict[str, Any] = json.loads((folder / stage / "manifest.json").read_text())
    found: dict[str, Any] = manifest["figures"]
    return found


def print_figure(name: str, value: float, unit: str, baseline: str, **more: Any) -> None:
    """One figure as a line of JSON; floats have four decimals, or three digits where they are smaller than that."""
    rounded = {key: _rounded(item) if isinstance(item, float) else item for key, item in more.items()}
    told = {"name": name, "value": _rounded(value), "unit": unit, "baseline": baseline, **rounded}
    print(json.dumps(told), flush=True)


def _rounded(value: float) -> float:
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.3g}")
