"""The reward stage on two DeepSpeed workers, killed and resumed; then its checkpoint under Ray Serve."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray import serve
from safetensors.torch import load_file

from tests.local_service import ask_json, base64_of, scores_of
from tests.ray.reward_process import settings
from tests.unit.reward.conftest import write_run
from vp_ray.checkpoints import newest_checkpoint
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.rewards import ServeRewards
from vp_ray.errors import CheckpointError, InputError, RewardError
from vp_ray.models.reward import VPScore
from vp_ray.records import ASPECTS
from vp_ray.reward.config import RewardSettings, ServiceSettings
from vp_ray.reward.job import run as run_stage
from vp_ray.reward.running import running_service
from vp_ray.storage import RunFolder, StageOutcome

PROMPTS = 24
ROOT = Path(__file__).parents[2]


def process(run: RunFolder, backbone: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(__file__).with_name("reward_process.py")), run.uri, str(backbone)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)


@pytest.fixture(scope="module")
def killed(tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose driver, with all it started, was killed after the first checkpoint of the stage."""
    run = write_run(tmp_path_factory.mktemp("killed"), PROMPTS)
    started = process(run, tiny_blip)
    deadline = time.monotonic() + 300
    while newest_checkpoint(run.stage("reward") / "checkpoints") is None:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    shutil.copytree(run.local_path, tmp_path_factory.mktemp("elastic") / "run")
    return run


@pytest.fixture(scope="module")
def outcomes(
    killed: RunFolder, tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[tuple[RunFolder, StageOutcome]]]:
    """The killed run, gone on with, and one that nobody disturbed; the cluster stays up for the tests."""
    undisturbed = write_run(tmp_path_factory.mktemp("undisturbed"), PROMPTS)
    with connect(RaySettings(logical_cpus=8)):
        yield [(run, run_stage(settings(str(tiny_blip)), run)) for run in (killed, undisturbed)]


def curve(run: RunFolder) -> list[dict[str, Any]]:
    lines = run.stage("reward").read_bytes("metrics.jsonl").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_a_killed_stage_ends_as_an_undisturbed_one_bitwise(outcomes: list[tuple[RunFolder, StageOutcome]]) -> None:
    (resumed, ours), (undisturbed, theirs) = outcomes
    assert ours == theirs
    assert curve(resumed) == curve(undisturbed)
    weights = [run.stage("reward").read_bytes("checkpoint/model.safetensors") for run in (resumed, undisturbed)]
    assert weights[0] == weights[1]


def test_a_killed_stage_goes_on_with_another_number_of_workers_and_another_stage_and_compares_variants(
    outcomes: list[tuple[RunFolder, StageOutcome]],
    tiny_blip: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = RunFolder.at(tmp_path_factory.getbasetemp() / "elastic0" / "run")
    whole = settings(str(tiny_blip))
    changes = {"workers": {"num_workers": 1, "zero_stage": 2}, "micro_batches": 1}
    same = RewardSettings.model_validate({**whole.model_dump(), **changes})
    assert same.recorded() == whole.recorded()
    varied = {"brief": {"train_share": 0.5, "frozen_share": 0.5, "aspects": ["fidelity"]}}
    outcome = run_stage(RewardSettings.model_validate({**same.model_dump(), "variants": varied}), run)
    assert [row["update"] for row in curve(run)] == [row["update"] for row in curve(outcomes[1][0])]
    files = [each.stage("reward").local_path / "checkpoint/model.safetensors" for each in (run, outcomes[1][0])]
    ours, theirs = map(load_file, files)
    assert max((ours[name] - theirs[name]).abs().max() for name in theirs) < 1e-4
    every, brief = outcome.figures["variants"]
    assert (every["variant"], brief["variant"], brief["aspects"]) == ("all", "brief", ["fidelity"])
    assert brief["updates"] < every["updates"] == outcomes[1][1].figures["updates"]
    assert brief["training_groups"] < every["training_groups"] == outcome.rows["training_groups"]
    assert set(brief["accuracy"]) == {"fidelity", "overall"}
    model = VPScore.from_pretrained((run.stage("reward") / "variants/brief/checkpoint").uri)
    assert model.aspects == ("fidelity",)
    assert model.score(pictures(2), ["a red circle"] * 2).shape == (2, 1)
    assert not run.stage("reward").exists("frozen_states")


def test_the_outcome_counts_and_the_checkpoint_scores_held_out_brightness(
    outcomes: list[tuple[RunFolder, StageOutcome]],
) -> None:
    run, outcome = outcomes[1]
    assert outcome.rows["training_groups"] + outcome.rows["validation_groups"] == PROMPTS
    assert outcome.figures["pairs"] == outcome.rows["training_groups"] * 6 * len(ASPECTS)
    assert outcome.figures["prompts_cut"] == 0
    assert outcome.figures["accuracy"]["fidelity"]["accuracy"] >= 0.9
    model = VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri)
    assert "validation prompts" in model.config.normalisation.measured_on
    levels = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (40, 90, 140, 190)])
    scores = model.score(levels, ["a red circle"] * 4)
    assert (np.diff(scores[:, ASPECTS.index("fidelity")]) > 0).all()


@pytest.fixture(scope="module")
def served(outcomes: list[tuple[RunFolder, StageOutcome]]) -> Iterator[tuple[str, VPScore]]:
    checkpoint = (outcomes[1][0].stage("reward") / "checkpoint").uri
    with running_service(checkpoint, ServiceSettings(max_batch_images=4)) as name:
        yield name, VPScore.from_pretrained(checkpoint)
    assert name not in serve.status().applications


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_the_service_scores_what_the_class_scores_in_process(served: tuple[str, VPScore]) -> None:
    name, model = served
    rewards = ServeRewards(name, ASPECTS)
    batches = [(pictures(size, size), [f"{size} red circles"] * size) for size in (1, 5, 16, 2, 7)]
    pending = [rewards.request(images, prompts) for images, prompts in batches]
    for answer, (images, prompts) in zip(pending, batches, strict=True):
        np.testing.assert_allclose(answer.result(60), model.score(images, prompts), atol=1e-5)


def test_a_bad_batch_fails_alone_with_its_own_error(served: tuple[str, VPScore]) -> None:
    rewards = ServeRewards(served[0], ASPECTS)
    good, bad = rewards.request(pictures(3), ["a"] * 3), rewards.request(pictures(3), ["a"] * 2)
    with pytest.raises(InputError, match="2 prompts do not fit 3 images"):
        bad.result(60)
    assert good.result(60).shape == (3, 4)


def test_scores_of_other_aspects_and_late_scores_are_errors(served: tuple[str, VPScore]) -> None:
    with pytest.raises(RewardError, match="shape"):
        ServeRewards(served[0], ("brightness",)).request(pictures(1), ["a"]).result(60)
    with pytest.raises(RewardError, match="did not come in time"):
        ServeRewards(served[0], ASPECTS).request(pictures(256), ["a"] * 256).result(0.0)
    with pytest.raises(RewardError, match="no reward service 'nobody'"):
        ServeRewards("nobody", ASPECTS)


def test_a_batch_that_a_killed_replica_held_is_sent_again(served: tuple[str, VPScore]) -> None:
    name, model = served
    rewards, images, prompts = ServeRewards(name, ASPECTS, attempts=5), pictures(64), ["a red circle"] * 64
    pending = [rewards.request(images, prompts) for _ in range(4)]
    replicas = [actor for actor in ray.util.list_named_actors(all_namespaces=True) if "RewardService" in actor["name"]]
    for replica in replicas:
        ray.kill(ray.get_actor(replica["name"], namespace=replica["namespace"]), no_restart=True)
    for answer in pending:
        np.testing.assert_allclose(answer.result(120), model.score(images, prompts), atol=1e-5)


def test_a_broken_checkpoint_is_told_before_anything_is_served(
    outcomes: list[tuple[RunFolder, StageOutcome]], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no VP-Score"), running_service(str(tmp_path), ServiceSettings()):
        pass


@pytest.fixture(scope="module")
def http(
    outcomes: list[tuple[RunFolder, StageOutcome]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, VPScore]]:
    """`vp-ray serve` in a process of its own."""
    checkpoint = (outcomes[1][0].stage("reward") / "checkpoint").uri
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vp_ray", "serve", f"bright={checkpoint}", "--port", str(port)]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    assert started.stdout is not None
    try:
        assert f"http://127.0.0.1:{port}/v1/score".encode() in started.stdout.readline()
        yield f"http://127.0.0.1:{port}", VPScore.from_pretrained(checkpoint)
    finally:
        started.send_signal(signal.SIGINT)
        assert started.wait(60) == 130


def test_the_command_serves_the_scores_of_the_class(http: tuple[str, VPScore]) -> None:
    url, model = http
    images = pictures(3, seed=3)
    files = [base64_of(image) for image in images]
    code, reply = ask_json(url, images=[*files, "AAAA"], prompts=["a red circle"])
    assert (code, reply["model"], reply["results"][3]["error"]["type"]) == (200, "bright", "unreadable_image")
    scores = model.score(images, ["a red circle"] * 3)
    expected = np.column_stack([scores, model.overall(scores)])
    np.testing.assert_allclose(scores_of({"results": reply["results"][:3]}, reply["aspects"]), expected, atol=1e-5)
