"""Share of an RL step that waits for rewards, from a service on Ray Serve that takes 30 % of the sampling time."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import serve

from runs import print_figure
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.engines import TorchEngine
from vp_ray.distributed.rewards import ServeRewards
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.rl.config import RlSettings
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.shapeworld import scenes
from vp_ray.storage import Folder

ROUNDS = 5
SHARE = 0.3
SETTINGS = RlSettings.load(
    {
        "generator": "embedded:weak",
        "lora": {"rank": 4, "alpha": 4},
        "reward_weights": {"brightness": 0.02},
        "epochs": 1 + ROUNDS,
        "prompts_per_epoch": 4,
        "samples_per_prompt": 16,
        "batch_size": 16,
        "updates_per_epoch": 2,
        "steps": 10,
        "held_out_prompts": 0,
        "keep": "last",
        "checkpoint_every": 1000,
    }
)
PROMPTS = sorted(scenes.prompt_of(scene) for scene in scenes.all_scenes())[:256:8]


class SlowScorer:
    """Takes a fixed time for a batch, one batch after the other, and the cores of nobody."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def score(self, images: Any, prompts: Sequence[str]) -> Any:
        time.sleep(self._seconds)
        return images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)


def seconds_of_a_batch(policy: DiffusionPolicy) -> float:
    """How long one batch takes to be drawn and decoded."""
    steps = policy.steps(SETTINGS.steps, SETTINGS.eta)
    noise = draw_noise(range(SETTINGS.batch_size), SETTINGS.steps, policy.latent_shape)
    embedded = policy.embed(PROMPTS[:1] * SETTINGS.batch_size)
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        policy.decode(policy.sample(embedded, noise, steps).final)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    torch.set_num_threads(1)
    policy = DiffusionPolicy.from_pretrained(SETTINGS.generator, SETTINGS.lora, SETTINGS.dtype, SETTINGS.seed, "cpu")
    count = micro_batches_per_update(SETTINGS, policy.steps(SETTINGS.steps, SETTINGS.eta), 1)
    seconds = SHARE * seconds_of_a_batch(policy)
    with tempfile.TemporaryDirectory(prefix="vp-share-") as folder, connect(RaySettings(logical_cpus=4)):
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        options = {"num_cpus": 0}
        deployment = serve.deployment(SlowScorer, ray_actor_options=options, max_ongoing_requests=1)
        serve.run(deployment.bind(seconds), name="slow", route_prefix=None)
        try:
            train(
                SETTINGS,
                policy,
                TorchEngine(policy.denoiser, SETTINGS.optimizer, count),
                rewards=ServeRewards("slow", ("brightness",)),
                held_out=None,
                collective=SingleProcess(),
                prompts=PROMPTS,
                folder=Folder.at(folder),
            )
        finally:
            serve.get_app_handle("slow").shutdown()
            serve.shutdown()
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()][2:]
    names = ("sampling", "reward_wait", "update")
    parts = {name: statistics.median(row[f"seconds_{name}"] for row in rows) for name in names}
    share = statistics.median(
        row["seconds_reward_wait"] / sum(row[f"seconds_{name}"] for name in names) for row in rows
    )
    print_figure(
        "reward_share", share, "share", "the whole step: sampling, waiting, update",
        scorer_seconds_a_batch=seconds, batches=4, load=round(os.getloadavg()[0], 1), **parts,
    )  # fmt: skip


if __name__ == "__main__":
    main()
    assert not ray.is_initialized()
