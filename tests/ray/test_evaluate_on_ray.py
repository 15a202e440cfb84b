"""The evaluate stage on Ray Data's actors equals one process to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.evaluate.drawing import ModelShardMaker
from vp_ray.evaluate.job import run as evaluate
from vp_ray.evaluate.planning import choose_prompts, plan_drawings
from vp_ray.ids import content_id
from vp_ray.models.config import LoraSettings
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.records import PROMPTS
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import Manifest, RunFolder

JUDGE = {"name": "oracle", "model": "shapeworld-oracle", "base_url": "embedded", "requests_per_minute": 0}
BASE = {"name": "weak", "source": "embedded:weak", "steps": 6, "guidance_scale": 1.0, "batch_size": 4}
TEXTS = [f"a {size} {colour} circle" for size in ("small", "large") for colour in ("red", "blue", "green", "cyan")]


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with running_judge(JudgeSettings()) as url:
        yield url


def settings() -> EvaluateSettings:
    """Eight shards of 8 images each."""
    values: dict[str, Any] = {"base": BASE, "judges": [JUDGE], "vp_score": False}
    return EvaluateSettings.load(values | {"images_per_prompt": 4, "batches_per_shard": 2})


def _trained(place: Path) -> RunFolder:
    run = RunFolder.at(place)
    empty = {"prompt_raw": "", "source": "test", "category": "", "split": "held_out", "flags": []}
    rows = [{"prompt_id": content_id("prompt", text), "prompt": text} | empty for text in TEXTS]
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    policy = DiffusionPolicy.from_pretrained("embedded:weak", LoraSettings(rank=2), "float32", 0, "cpu")
    with torch.no_grad():
        for parameter in policy.denoiser.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02)
    policy.save_adapter((run.stage("rl") / "adapter").local_path)
    for stage in ("prompts", "rl"):
        run.stage(stage).start({}, {})
        run.stage(stage).finish(Manifest(stage, {}, {}, {}, 1.0))
    return run


def test_actors_draw_what_one_process_draws_to_the_bit(tmp_path: Path, judge_url: str) -> None:
    run, alone = _trained(tmp_path / "actors"), _trained(tmp_path / "alone")
    prompts = choose_prompts(alone.stage("prompts").read_table("prompts.parquet").to_pylist(), settings())
    adapter = str((alone.stage("rl") / "adapter").local_path)
    drawings = plan_drawings(prompts, settings(), adapter, alone.stage("rl").finished().fingerprint)
    folder = (alone.stage("evaluate") / "images").make()
    make = ModelShardMaker({one.model.name: one.model.model_dump(mode="json") for one in drawings}, folder.uri)
    for drawing in drawings:
        for shard in drawing.shards:
            make(shard | {"model": drawing.model.name})
    with connect(RaySettings(logical_cpus=8)):
        for one in (run, alone):
            evaluate(settings(), one, judge_url)
    for name in ("scores.parquet", "comparison.parquet"):
        assert run.stage("evaluate").read_bytes(name) == alone.stage("evaluate").read_bytes(name)
