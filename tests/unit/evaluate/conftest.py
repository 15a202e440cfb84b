"""A run that was trained, as small as it can be: real networks without learning, so that the stage has all it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.ids import content_id
from vp_ray.models.config import LoraSettings
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.reward import VPScore
from vp_ray.records import PROMPTS
from vp_ray.shapeworld.backbone import new_blip, save_blip, write_bert_tokenizer
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import Manifest, RunFolder

TEXTS = ("a red circle", "two blue squares", "a green triangle above a red square", "a small cyan circle")


@pytest.fixture(scope="session")
def judge_url() -> Iterator[str]:
    """The embedded judge, with `shapeworld-oracle` and a noisy `shapeworld-judge` that likes the first place."""
    with running_judge(JudgeSettings(noise=0.3, position_bias=(1.0, -1.0))) as url:
        yield url


@pytest.fixture(scope="session")
def vp_score(tmp_path_factory: pytest.TempPathFactory) -> VPScore:
    """An untrained VP-Score."""
    folder = tmp_path_factory.mktemp("blip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = write_bert_tokenizer(folder / "words")
        save_blip(new_blip(tokenizer), tokenizer, folder / "blip")
    return VPScore.from_backbone(str(folder / "blip"), seed=3)


@pytest.fixture
def trained_run(tmp_path: Path, tiny_pipeline: Path, vp_score: VPScore) -> Callable[..., RunFolder]:
    """Makes a run with prompts, a reward checkpoint and an adapter whose weights are multiplied by `strength`."""

    def make(strength: float = 0.0, name: str = "run") -> RunFolder:
        run = RunFolder.at(tmp_path / name)
        rows = [
            {"prompt_id": content_id("prompt", text), "prompt": text, "prompt_raw": text, "source": "test",
             "category": "", "split": "held_out", "flags": []}
            for text in TEXTS
        ]  # fmt: skip
        run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
        vp_score.save_pretrained((run.stage("reward") / "checkpoint").uri)
        policy = DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(rank=2), "float32", 0, "cpu")
        with torch.no_grad():
            for parameter in policy.denoiser.parameters():
                if parameter.requires_grad:
                    parameter.add_(strength)
        policy.save_adapter((run.stage("rl") / "adapter").local_path)
        for stage in ("prompts", "reward", "rl"):
            run.stage(stage).start({}, {})
            run.stage(stage).finish(Manifest(stage, {"strength": strength}, {}, {}, 1.0))
        return run

    return make


@pytest.fixture
def settings(tiny_pipeline: Path) -> Callable[..., EvaluateSettings]:
    """Settings of a small evaluation with one noise-free judge."""

    def make(**changes: Any) -> EvaluateSettings:
        base = {"name": "tiny", "source": str(tiny_pipeline), "steps": 2, "guidance_scale": 1.0, "batch_size": 2}
        judge = {"name": "oracle", "model": "shapeworld-oracle", "base_url": "embedded", "requests_per_minute": 0}
        values = {"base": base, "judges": [judge], "batches_per_shard": 1, "images_per_prompt": 2}
        return EvaluateSettings.load(values | changes)

    return make
