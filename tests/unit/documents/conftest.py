"""The folder that the documents suppose: `jobs/`, a finished `runs/demo`, pictures, tables and prompts of one's own."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.unit.report.conftest import MadeRun
from vp_ray.models.reward import VPScore
from vp_ray.pipeline.running import input_fingerprints, recorded_settings
from vp_ray.pipeline.settings import load_job
from vp_ray.pipeline.stages import STAGES
from vp_ray.records import RATINGS
from vp_ray.storage import MANIFEST, STARTED, RunFolder

ROOT = Path(__file__).parents[3]


def finished_demo(path: Path, job_file: Path, backbone: Path) -> RunFolder:
    """A run that the job takes for its own: every stage finished, with real images, judgements and a VP-Score."""
    run = MadeRun(path, 6).everything()
    _write_ratings(run)
    VPScore.from_backbone(str(backbone), seed=1).save_pretrained((run.stage("reward") / "checkpoint").uri)
    job = load_job(job_file)
    for stage in STAGES:
        if job.stage(stage.name) is None or stage.always_anew:
            continue
        folder = run.stage(stage.name)
        made = folder.finished()
        settings, inputs = recorded_settings(job, stage), input_fingerprints(job, run, stage)
        for name in (MANIFEST, STARTED):
            folder.delete(name)
        folder.start(settings, inputs)
        folder.finish(replace(made, settings=settings, inputs=inputs))
    return run


def _write_ratings(run: RunFolder) -> None:
    levels: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    images = (run.stage("generate") / "images").read_table(".", columns=["image_id", "generator"]).to_pylist()
    generators = {row["image_id"]: row["generator"] for row in images}
    for row in run.stage("annotate").read_table("judgements.parquet").to_pylist():
        for entry in row["levels"]:
            levels[row["prompt_id"], entry["image_id"], entry["aspect"]].append(entry["level"])
    rows = [
        {
            "image_id": image_id,
            "prompt_id": prompt_id,
            "generator": generators[image_id],
            "aspect": aspect,
            "mean": float(np.mean(given)),
            "standard_error": 0.4,
            "count": len(given),
        }
        for (prompt_id, image_id, aspect), given in levels.items()
    ]
    run.stage("annotate").write_table("ratings.parquet", pa.Table.from_pylist(rows, schema=RATINGS))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_blip: Path) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VP_RAY_RUNS", raising=False)
        finished_demo(folder / "runs" / "demo", folder / "jobs" / "demo.yaml", tiny_blip)
    shutil.copytree(folder / "runs" / "demo" / "reward", folder / "runs" / "my_pairs" / "reward")
    for name in ("pictures", "images"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for name in ("image", "a", "b", "pictures/cat", "images/red_1"):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "pictures" / "cat.txt").write_text("a cat\n")
    (folder / "prompts.txt").write_text("a red circle\na blue square\na small green triangle\n")
    (folder / "pairs.csv").write_text("prompt,image_a,image_b,answer\na red circle,red_1.png,red_1.png,tie\n")
    return folder
