"""The rl stage on two DeepSpeed workers with rewards from Ray Serve, killed in the middle and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from diffusers import StableDiffusionPipeline

from tests.ray.rl_process import run as run_stage
from tests.ray.rl_process import settings
from tests.small_runs import bits_of
from vp_ray.checkpoints import newest_checkpoint
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.gauges import Gauges, metric_name
from vp_ray.errors import SettingsError
from vp_ray.models.reward import VPScore
from vp_ray.records import ASPECTS, PROMPTS
from vp_ray.rl.job import run as run_without_service
from vp_ray.storage import RunFolder

ROOT = Path(__file__).parents[2]
TEXTS = [
    f"a {size} {colour} circle" for size in ("small", "large") for colour in ("red", "blue", "green", "cyan", "yellow")
]


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


@pytest.fixture(scope="module")
def killed(tiny_pipeline: Path, tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose driver, with all it started, was killed after its second epoch."""
    run = prepared(tmp_path_factory.mktemp("killed"), tiny_blip)
    command = [sys.executable, str(Path(__file__).with_name("rl_process.py")), run.uri, str(tiny_pipeline)]
    started = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    checkpoints = run.stage("rl") / "checkpoints"
    deadline = time.monotonic() + 300
    while (newest := newest_checkpoint(checkpoints)) is None or newest.state()["epoch"] < 2:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    return run


def test_after_kill_9_it_ends_as_an_undisturbed_run_bitwise_and_its_adapter_loads(
    killed: RunFolder, tiny_pipeline: Path, tiny_blip: Path, tmp_path: Path
) -> None:
    undisturbed = prepared(tmp_path, tiny_blip)
    before = [row["epoch"] for row in rows_of(killed)]
    assert before in ([0, 1, 2], [0, 1, 2, 3])
    with connect(RaySettings(logical_cpus=8)):
        outcomes = [run_stage(run, str(tiny_pipeline)) for run in (killed, undisturbed)]
    assert rows_of(killed) == rows_of(undisturbed)
    assert [row["epoch"] for row in rows_of(killed)] == [0, 1, 2, 3, 4]
    assert set(rows_of(killed)[1]) >= {f"{aspect}_mean" for aspect in ASPECTS}
    file = "rl/adapter/pytorch_lora_weights.safetensors"
    assert bits_of(killed.local_path / file) == bits_of(undisturbed.local_path / file)
    assert outcomes[0].rows == {"images": 128, "prompts": 6, "held_out_prompts": 4}
    assert outcomes[0].figures["updates"] == 8
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline, local_files_only=True)
    pipe.load_lora_weights((killed.stage("rl") / "adapter").local_path)
    assert pipe.get_active_adapters() == ["default_0"]


def test_an_aspect_that_the_reward_model_lacks_is_refused_before_workers_start(tiny_blip: Path, tmp_path: Path) -> None:
    run = prepared(tmp_path, tiny_blip)
    changed = settings("embedded:weak").model_copy(update={"reward_weights": {"beauty": 1.0}})
    with pytest.raises(SettingsError, match="no aspect 'beauty'"):
        run_without_service(changed, run, "no-service")


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
