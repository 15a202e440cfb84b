"""Three seeds of the whole loop: what the noise-free judge gives the tuned model over its base on held-out prompts."""

import math
import statistics
import tempfile
from pathlib import Path

from runs import figures, print_figure, run_job

SEEDS = (0, 1, 2)
STUDENT_95 = 4.303  # two degrees of freedom
ASPECTS = ("overall", "prompt_following", "aesthetic", "fidelity", "harmlessness")

gains: dict[str, list[float]] = {aspect: [] for aspect in ASPECTS}
lows: dict[str, list[float]] = {aspect: [] for aspect in ASPECTS}
highs: dict[str, list[float]] = {aspect: [] for aspect in ASPECTS}
for seed in SEEDS:
    settings = [
        f"{key}={seed}"
        for key in ("prompts.sources.0.seed", "generate.seed", "judge.seed", "reward.seed", "rl.seed", "evaluate.seed")
    ]
    with tempfile.TemporaryDirectory(prefix="vp-gain-") as folder:
        run_job("jobs/demo.yaml", Path(folder) / "run", settings)
        rows = [row for row in figures(Path(folder) / "run", "evaluate")["comparison"] if row["scorer"] == "oracle"]
    for row in rows:
        gains[row["aspect"]].append(row["gain"])
        lows[row["aspect"]].append(row["low"])
        highs[row["aspect"]].append(row["high"])
    print_figure(
        f"loop_gain_seed_{seed}",
        gains["overall"][-1],
        "levels",
        "base model, same prompts and seeds",
        low=lows["overall"][-1],
        high=highs["overall"][-1],
    )

for aspect in ASPECTS:
    mean = statistics.fmean(gains[aspect])
    # Between seeds: Student's t over the three runs. Within a seed: the bootstrap's half-widths, as errors of one run.
    between = STUDENT_95 * statistics.stdev(gains[aspect]) / math.sqrt(len(SEEDS))
    within = statistics.fmean(
        (high - low) / 2 for low, high in zip(lows[aspect], highs[aspect], strict=True)
    ) / math.sqrt(len(SEEDS))
    half = max(between, within)
    name = "loop_gain" if aspect == "overall" else f"loop_gain_{aspect}"
    print_figure(f"{name}_mean", mean, "levels", "base model, same prompts and seeds")
    print_figure(f"{name}_low", mean - half, "levels", "base model, same prompts and seeds")
