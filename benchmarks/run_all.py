"""Runs the scripts of this folder, all or those named, and writes their figures into `docs/benchmarks.md`.

Those of `gpu/` are named (`gpu/rl`), or run with all others where there is an NVIDIA GPU. What follows `--` is passed
to each: `python benchmarks/run_all.py rl_gain -- --minutes 8`.
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
GPU_SCRIPTS = sorted(path for path in HERE.glob("gpu/*.py") if path.name != "architectures.py")


def name_of(script: Path) -> str:
    return script.relative_to(HERE).as_posix()


def gpu() -> str | None:
    """The name of the first NVIDIA GPU, where there is one."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0].strip() if found else None


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def kept(document: Path, script: Path) -> dict[str, list[str]]:
    """The rows of all other scripts, by script."""
    rows: dict[str, list[str]] = {name_of(path): [] for path in (*SCRIPTS, *GPU_SCRIPTS) if path != script}
    for line in document.read_text().splitlines() if document.is_file() else ():
        for name, found in rows.items():
            if line.startswith(f"| `python benchmarks/{name}"):
                found.append(line)
    return rows


words = sys.argv[1:]
names, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
found_gpu = gpu()
of_this_machine = [*SCRIPTS, *(GPU_SCRIPTS if found_gpu else ())]
named = [path for path in (*SCRIPTS, *GPU_SCRIPTS) if name_of(path).removesuffix(".py") in names]
document = HERE.parent / "docs" / "benchmarks.md"
today = datetime.date.today().isoformat()
for script in named if names else of_this_machine:
    name = name_of(script)
    print(f"== {name}", file=sys.stderr, flush=True)
    made = f"{today}, {found_gpu}" if script in GPU_SCRIPTS else f"{today}, {processor()}, {os.cpu_count()} cores"
    command = f"`{' '.join(['python', f'benchmarks/{name}', *arguments])}`"
    done = subprocess.run([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    # Read again, since another of these commands may have written meanwhile.
    rows = kept(document, script)
    rows[name] = []
    if done.returncode:
        failed = f"| {command} | failed with exit code {done.returncode} | | | | {made} |"
        rows[name].append(failed)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            print(line, flush=True)
            row = json.loads(line)
            extra = {key: value for key, value in row.items() if key not in ("name", "value", "unit", "baseline")}
            value = ", ".join([str(row["value"]), *(f"{key} {number}" for key, number in extra.items())])
            cells = (command, row["name"], value, row["unit"], row["baseline"], made)
            rows[name].append(f"| {' | '.join(cells)} |")
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
