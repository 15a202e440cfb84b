"""The rl stage on two DeepSpeed workers with rewards from Ray Serve."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from diffusers import StableDiffusionPipeline

from tests.small_runs import bits_of
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.gauges import Gauges, metric_name
from vp_ray.errors import SettingsError
from vp_ray.models.reward import VPScore
from vp_ray.records import ASPECTS, PROMPTS
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.running import running_service
from vp_ray.rl.config import RlSettings
from vp_ray.rl.job import run as run_stage
from vp_ray.storage import RunFolder

TEXTS = [
    f"a {size} {colour} circle" for size in ("small", "large") for colour in ("red", "blue", "green", "cyan", "yellow")
]


def settings(generator: str) -> RlSettings:
    """Four epochs of 32 images on two workers, with a checkpoint after each."""
    values = {
        "generator": generator,
        "lora": {"rank": 2, "alpha": 2},
        "reward_weights": {"fidelity": 1.0, "aesthetic": 0.5},
        "epochs": 4,
        "prompts_per_epoch": 4,
        "samples_per_prompt": 8,
        "batch_size": 8,
        "steps": 3,
        "held_out_prompts": 4,
        "evaluate_every": 2,
        "checkpoint_every": 1,
        "early_stop_patience": 0,
        "keep": "last",
        "workers": {"num_workers": 2},
    }
    return RlSettings.load(values)


def prepared(place: Path, backbone: Path) -> RunFolder:
    """A run with prompts and an untrained VP-Score."""
    run = RunFolder.at(place)
    same = {"prompt_raw": "", "source": "test", "category": "", "flags": []}
    rows = [{"prompt_id": text, "prompt": text, "split": "train", **same} for text in TEXTS]
    rows.append({"prompt_id": "other", "prompt": "an orange square", "split": "held_out", **same})
    run.stage("prompts").make().write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    VPScore.from_backbone(str(backbone)).save_pretrained((run.stage("reward") / "checkpoint").uri)
    return run


def rows_of(run: RunFolder) -> list[dict[str, Any]]:
    lines = run.stage("rl").read_bytes("metrics.jsonl").splitlines()
    return [{key: value for key, value in json.loads(line).items() if "seconds" not in key} for line in lines]


def test_two_workers_train_and_the_adapter_loads(tiny_pipeline: Path, tiny_blip: Path, tmp_path: Path) -> None:
    run = prepared(tmp_path, tiny_blip)
    checkpoint = (run.stage("reward") / "checkpoint").uri
    with connect(RaySettings(logical_cpus=8)), running_service(checkpoint, ServiceSettings()) as name:
        outcome = run_stage(settings(str(tiny_pipeline)), run, name)
    assert [row["epoch"] for row in rows_of(run)] == [0, 1, 2, 3, 4]
    assert set(rows_of(run)[1]) >= {f"{aspect}_mean" for aspect in ASPECTS}
    weights = bits_of(run.local_path / "rl/adapter/pytorch_lora_weights.safetensors")
    assert weights
    assert all(any(data) for _, data in weights.values()), "they have left their start, where half of them are zero"
    assert outcome.rows == {"images": 128, "prompts": 6, "held_out_prompts": 4}
    assert outcome.figures["updates"] == 8
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline, local_files_only=True)
    pipe.load_lora_weights((run.stage("rl") / "adapter").local_path)
    assert pipe.get_active_adapters() == ["default_0"]


def test_an_aspect_that_the_reward_model_lacks_is_refused_before_workers_start(tiny_blip: Path, tmp_path: Path) -> None:
    run = prepared(tmp_path, tiny_blip)
    changed = settings("embedded:weak").model_copy(update={"reward_weights": {"beauty": 1.0}})
    with pytest.raises(SettingsError, match="no aspect 'beauty'"):
        run_stage(changed, run, "no-service")


def test_the_numbers_of_an_epoch_are_gauges_that_prometheus_can_read() -> None:
    assert metric_name("rl", "pick.overall_mean") == "vp_ray_rl_pick_overall_mean"
    with connect(RaySettings(logical_cpus=4)):
        Gauges("rl", "some-run").log(3, {"epoch": 3, "reward_mean": 0.25, "held_out_score": None, "note": "text"})
        (node,) = ray.nodes()
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        deadline = time.monotonic() + 120
        told: set[str] = set()
        while not told and time.monotonic() < deadline:
            time.sleep(1)
            lines = urllib.request.urlopen(address, timeout=30).read().decode().splitlines()
            told = {line for line in lines if line.startswith("ray_vp_ray_rl_")}
    assert {line.split("{")[0]: float(line.split()[-1]) for line in told} == {
        "ray_vp_ray_rl_epoch": 3.0, "ray_vp_ray_rl_reward_mean": 0.25,
    }  # fmt: skip
    assert all('run="some-run"' in line for line in told)
