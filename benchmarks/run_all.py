"""Runs the scripts of this folder, all or those named, and writes their figures into `docs/benchmarks.md`."""

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHARED = ("run_all.py", "runs.py", "judged.py", "reward_models.py")
SCRIPTS = sorted(path for path in HERE.glob("*.py") if path.name not in SHARED)


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def kept(document: Path, chosen: list[Path]) -> dict[str, list[str]]:
    """The rows of scripts that are not run now, by script."""
    rows: dict[str, list[str]] = {path.name: [] for path in SCRIPTS if path not in chosen}
    for line in document.read_text().splitlines() if document.is_file() else ():
        for name, found in rows.items():
            if line.startswith(f"| `python benchmarks/{name}`"):
                found.append(line)
    return rows


chosen = [path for path in SCRIPTS if not sys.argv[1:] or path.stem in sys.argv[1:]]
document = HERE.parent / "docs" / "benchmarks.md"
rows = kept(document, chosen)
made = f"{datetime.date.today().isoformat()}, {processor()}, {os.cpu_count()} cores"
for script in chosen:
    print(f"== {script.name}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    rows[script.name] = []
    if done.returncode:
        failed = f"| `python benchmarks/{script.name}` | failed with exit code {done.returncode} | | | | {made} |"
        rows[script.name].append(failed)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            print(line, flush=True)
            row = json.loads(line)
            extra = {key: value for key, value in row.items() if key not in ("name", "value", "unit", "baseline")}
            value = ", ".join([str(row["value"]), *(f"{key} {number}" for key, number in extra.items())])
            cells = (f"`python benchmarks/{script.name}`", row["name"], value, row["unit"], row["baseline"], made)
            rows[script.name].append(f"| {' | '.join(cells)} |")
    head = [
        "# Benchmarks",
        "",
        "Made by `make bench`: all scripts of `benchmarks/`; `python benchmarks/run_all.py NAME ...` runs some.",
        "",
        "| command | figure | value | unit | baseline | made |",
        "|---|---|---|---|---|---|",
    ]
    lines = [line for name in sorted(rows) for line in rows[name]]
    document.write_text("\n".join([*head, *lines]) + "\n")
