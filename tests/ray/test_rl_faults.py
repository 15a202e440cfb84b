"""One training that loses a worker, a replica of its reward service, a node, and a node that was announced to go."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from ray import serve
from ray.cluster_utils import Cluster

from tests.ray.test_rl_on_ray import prepared, rows_of
from tests.small_runs import bits_of
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.rewards import LocalRewards
from vp_ray.protocols import Pixels, Scores
from vp_ray.records import ASPECTS
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.job import _encoder, _prompts
from vp_ray.rl.job import run as run_stage
from vp_ray.rl.loop import train
from vp_ray.rl.plan import hold_back, micro_batches_per_update
from vp_ray.rl.policies import load_policy, training_steps
from vp_ray.storage import RunFolder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

ADAPTER = "rl/adapter/pytorch_lora_weights.safetensors"
TRAIN_NODE = {"vp-ray/pool": "train"}
FAST_HEALTH_CHECKS = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500}


class Brightness:
    """Scores by the mean pixel, in no hurry, so that a training lasts."""

    aspects = ASPECTS

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        time.sleep(self.seconds)
        mean = images.reshape(len(images), -1).mean(axis=1, keepdims=True, dtype=np.float64)
        return np.repeat(mean, len(ASPECTS), axis=1).astype(np.float32)


class Service:
    """The scorer as the application that the stage asks."""

    async def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return Brightness(0.25).score(images, prompts)


def settings(generator: Path) -> RlSettings:
    values = {
        "generator": str(generator),
        "lora": {"rank": 2, "alpha": 2},
        "reward_weights": {"fidelity": 0.05},
        "epochs": 40,
        "prompts_per_epoch": 2,
        "samples_per_prompt": 4,
        "batch_size": 4,
        "steps": 3,
        "statistics_window": 8,
        "held_out_prompts": 2,
        "evaluate_every": 1000,
        "checkpoint_every": 1,
        "early_stop_patience": 0,
        "keep": "last",
        "reward_attempts": 20,
        "workers": {"labels": TRAIN_NODE},
    }
    return RlSettings.load(values)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that holds the service and the driver; nodes for ranks are added by the test."""
    arguments = {"num_cpus": 4, "resources": {"head": 1}, "_system_config": FAST_HEALTH_CHECKS}
    nodes = Cluster(initialize_head=True, head_node_args=arguments)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


class Stage:
    """The stage in a thread, and how far it is."""

    def __init__(self, run: RunFolder, settings: RlSettings, app_name: str) -> None:
        self.run, self.errors = run, []
        self._thread = threading.Thread(target=self._work, args=(settings, app_name), daemon=True)
        self._thread.start()

    def _work(self, settings: RlSettings, app_name: str) -> None:
        try:
            run_stage(settings, self.run, app_name)
        except BaseException as error:
            self.errors.append(error)

    def wait_for_epoch(self, epoch: int) -> None:
        """Until the metrics tell of so many epochs."""
        deadline = time.monotonic() + 240
        while not (self.run.stage("rl").exists("metrics.jsonl") and rows_of(self.run)[-1]["epoch"] >= epoch):
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, f"epoch {epoch} did not come"
            time.sleep(0.05)

    def join(self) -> None:
        self._thread.join(300)
        assert not self._thread.is_alive()
        assert not self.errors, self.errors


def rank_of(node: Any) -> psutil.Process:
    """The process of the rank on a node of this test."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    (rank,) = (child for child in raylet.children(recursive=True) if "TrainWorker" in " ".join(child.cmdline()))
    return rank


def kill_replica() -> None:
    (replica,) = (actor for actor in ray.util.list_named_actors(all_namespaces=True) if "Service" in actor["name"])
    ray.kill(ray.get_actor(replica["name"], namespace=replica["namespace"]), no_restart=True)


def announce_the_end_of(node: Any, address: str, seconds: int) -> None:
    words = ["--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    words += ["--deadline-remaining-seconds", str(seconds), "--address", address]
    program = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", program, "drain-node", *words], check=True, capture_output=True)


def undisturbed(run: RunFolder, chosen: RlSettings) -> None:
    """The same training in this process, without Ray, DeepSpeed or faults."""
    policy = load_policy(chosen, "cpu")
    prompts, held_out = hold_back(_prompts(chosen, run), chosen)
    rewards = LocalRewards(Brightness())
    count = micro_batches_per_update(chosen, training_steps(chosen, policy), 1)
    train(
        chosen,
        policy,
        TorchEngine(policy.denoiser, chosen.optimizer, count),
        rewards=rewards,
        held_out=HeldOut(held_out, rewards, _encoder(chosen, run, torch.device("cpu"))),
        collective=SingleProcess(),
        prompts=prompts,
        folder=run.stage("rl"),
    )


def test_a_training_that_lost_all_that_can_be_lost_ends_bitwise_as_an_undisturbed_one(
    cluster: Cluster, tiny_pipeline: Path, tiny_blip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.5")
    chosen = settings(tiny_pipeline)
    options = {"num_cpus": 0, "resources": {"head": 0.1}}
    deployment = serve.deployment(Service, ray_actor_options=options, max_ongoing_requests=4)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    serve.run(deployment.bind(), name="brightness", route_prefix=None)
    first = cluster.add_node(num_cpus=1, labels=TRAIN_NODE)
    stage = Stage(prepared(tmp_path / "disturbed", tiny_blip), chosen, "brightness")

    stage.wait_for_epoch(2)
    rank_of(first).kill()
    stage.wait_for_epoch(5)
    kill_replica()
    stage.wait_for_epoch(8)
    second = cluster.add_node(num_cpus=1, labels=TRAIN_NODE)
    cluster.remove_node(first, allow_graceful=False)
    stage.wait_for_epoch(11)
    third = cluster.add_node(num_cpus=1, labels=TRAIN_NODE)
    announced_at = rows_of(stage.run)[-1]["epoch"]
    announce_the_end_of(second, cluster.address, 4)
    deadline = time.monotonic() + 240
    while not any("TrainWorker" in " ".join(each.cmdline()) for each in children_of(third)):
        assert time.monotonic() < deadline, "the rank did not move"
        assert not stage.errors, stage.errors
        time.sleep(0.2)
    assert announced_at < rows_of(stage.run)[-1]["epoch"] < chosen.epochs
    cluster.remove_node(second, allow_graceful=False)
    stage.join()

    whole = prepared(tmp_path / "undisturbed", tiny_blip)
    undisturbed(whole, chosen)
    assert rows_of(stage.run) == rows_of(whole)
    assert [row["epoch"] for row in rows_of(whole)] == list(range(41))
    assert bits_of(stage.run.local_path / ADAPTER) == bits_of(whole.local_path / ADAPTER)


def children_of(node: Any) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
        try:
            child.cmdline()
        except psutil.Error:
            continue
        found.append(child)
    return found
