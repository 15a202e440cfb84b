"""Predicted over measured seconds of whole runs of three sizes, by the model behind `vp-ray scale`.

Two runs of the demo tell the model each stage's start and cost, the second four times as large as the first; the sizes
that are reported lie between them and at twice and four times the larger one.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from runs import ROOT, print_figure, run_job
from vp_ray.pipeline.scale import forecast, speeds_of
from vp_ray.pipeline.scale_report import trial_of
from vp_ray.pipeline.settings import JobSettings, load_job

JOB = "jobs/demo.yaml"
TOLD_BY = (24, 96)
SIZES = (48, 192, 384)
IMAGES = 4


def settings_of(prompts: int) -> list[str]:
    """The demo with so many prompts in each split; every stage's work grows with them."""
    rl = {"held_out_prompts": 4, "prompts_per_epoch": 4, "samples_per_prompt": 32, "batch_size": 32}
    return [
        f"prompts.sources.0.counts.train={prompts}",
        f"prompts.sources.0.counts.held_out={prompts}",
        "reward.epochs=3",
        f"rl.epochs={prompts // 8}",
        "rl.evaluate_every=1000",
        *(f"rl.{key}={value}" for key, value in rl.items()),
    ]


def job_of(folder: Path, prompts: int) -> JobSettings:
    return load_job(ROOT / JOB, [f"run={folder / str(prompts)}", *settings_of(prompts)])


def bytes_in(folder: Path) -> int:
    """Of the images that a run has stored."""
    return sum(path.stat().st_size for path in (folder / "generate" / "images").iterdir())


def ratio(predicted: float, measured: float) -> float:
    """How many times one is the other, at least 1."""
    return max(predicted / measured, measured / predicted)


def measure(folder: Path) -> None:
    """Runs all sizes, those that are there already aside."""
    for prompts in (*TOLD_BY, *SIZES):
        run_job(JOB, folder / str(prompts), settings_of(prompts))


def tell(folder: Path) -> None:
    """Prints the worst ratio of whole runs, and those of each size by stage."""
    told = [trial_of(job_of(folder, prompts)) for prompts in TOLD_BY]
    speeds = speeds_of(told)
    image_bytes = bytes_in(folder / str(TOLD_BY[1])) / (IMAGES * TOLD_BY[1])
    rows: list[dict[str, Any]] = []
    for prompts in SIZES:
        trial = trial_of(job_of(folder, prompts))
        predicted = {name: seconds or 0.0 for name, seconds in forecast(trial.works, speeds).items()}
        stages = {name: round(predicted[name] / trial.seconds[name], 3) for name in predicted}
        row = {
            "prompts": prompts,
            "predicted": sum(predicted.values()),
            "measured": sum(trial.seconds[name] for name in predicted),
            "stages": stages,
            "bytes": ratio(image_bytes * IMAGES * prompts, bytes_in(folder / str(prompts))),
        }
        rows.append(row)
    worst = max(ratio(row["predicted"], row["measured"]) for row in rows)
    baseline = f"measured; the model saw runs of {TOLD_BY[0]} and {TOLD_BY[1]} prompts alone"
    print_figure("scale_model_worst_ratio", worst, "ratio", baseline, sizes=list(SIZES))
    for row in rows:
        name = f"scale_model_{row['prompts']}"
        more = {f"{stage}_predicted_over_measured": value for stage, value in row["stages"].items()}
        seconds = {"predicted_seconds": row["predicted"], "measured_seconds": row["measured"]}
        print_figure(
            name, row["predicted"] / row["measured"], "ratio", baseline, **seconds, image_bytes=row["bytes"], **more
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # A folder that keeps its runs, so that a measurement that was cut off goes on.
        measure(Path(sys.argv[1]))
        tell(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="vp-scale-") as place:
            measure(Path(place))
            tell(Path(place))
