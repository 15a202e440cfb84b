"""Runs the scripts of this folder, all or those named, and writes their figures into `docs/benchmarks.md`.

What follows `--` is passed to each: `python benchmarks/run_all.py rl_gain -- --minutes 8`.
"""

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


def kept(document: Path, script: Path) -> dict[str, list[str]]:
    """The rows of all other scripts, by script."""
    rows: dict[str, list[str]] = {path.name: [] for path in SCRIPTS if path != script}
    for line in document.read_text().splitlines() if document.is_file() else ():
        for name, found in rows.items():
            if line.startswith(f"| `python benchmarks/{name}"):
                found.append(line)
    return rows


words = sys.argv[1:]
names, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
chosen = [path for path in SCRIPTS if not names or path.stem in names]
document = HERE.parent / "docs" / "benchmarks.md"
made = f"{datetime.date.today().isoformat()}, {processor()}, {os.cpu_count()} cores"
for script in chosen:
    print(f"== {script.name}", file=sys.stderr, flush=True)
    command = f"`{' '.join(['python', f'benchmarks/{script.name}', *arguments])}`"
    done = subprocess.run([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    # Read again, since another of these commands may have written meanwhile.
    rows = kept(document, script)
    rows[script.name] = []
    if done.returncode:
        failed = f"| {command} | failed with exit code {done.returncode} | | | | {made} |"
        rows[script.name].append(failed)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            print(line, flush=True)
            row = json.loads(line)
            extra = {key: value for key, value in row.items() if key not in ("name", "value", "unit", "baseline")}
            value = ", ".join([str(row["value"]), *(f"{key} {number}" for key, number in extra.items())])
            cells = (command, row["name"], value, row["unit"], row["baseline"], made)
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
