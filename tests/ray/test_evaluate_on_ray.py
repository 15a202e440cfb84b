"""The evaluate stage on Ray Data's actors: killed in the middle, it goes on, and equals one process to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.ray.evaluate_process import settings
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
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

SCRIPT = Path(__file__).with_name("evaluate_process.py")
TEXTS = [f"a {size} {colour} circle" for size in ("small", "large") for colour in ("red", "blue", "green", "cyan")]


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with running_judge(JudgeSettings()) as url:
        yield url


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


def _start(run: RunFolder, judge_url: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="vpe", dir="/tmp"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, str(SCRIPT), run.uri, judge_url], env=environment, start_new_session=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_after_kill_9_it_goes_on_and_equals_one_process_to_the_bit(tmp_path: Path, judge_url: str) -> None:
    run = _trained(tmp_path / "killed")
    images = run.stage("evaluate") / "images"
    process = _start(run, judge_url)
    try:
        deadline = time.monotonic() + 240
        while len(images.names()) < 3 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
    finally:
        _end(process)
    before = {name: (images.local_path / name).stat().st_mtime_ns for name in images.names()}
    assert 3 <= len(before) < 8, "it was killed in the middle"

    alone = _trained(tmp_path / "alone")
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
    after = {name: (images.local_path / name).stat().st_mtime_ns for name in images.names()}
    assert len(after) == 8
    assert before.items() <= after.items(), "what was drawn before the kill is not drawn again"
    for name in ("scores.parquet", "comparison.parquet"):
        assert run.stage("evaluate").read_bytes(name) == alone.stage("evaluate").read_bytes(name)
