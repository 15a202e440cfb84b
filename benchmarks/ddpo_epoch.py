"""Seconds an image of our DDPO over a plain single-process loop's, with the same network, steps, batches and rewards.

Ours runs as its workers do, one rank a core, and once more alone in one process of one thread; the plain loop has the
number of threads that suits it best. Rounds alternate, each trains all of them for one epoch, and only one works at a
time. At the end all must have the same weights.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parts.plain_beside import plain_loop, work_of
from parts.plain_ddpo import Seconds
from runs import print_figure
from vp_ray.distributed.collectives import SingleProcess, TorchCollective
from vp_ray.distributed.engines import DeepSpeedEngine, TorchEngine
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.reward import VPScore
from vp_ray.models.rewards import BackgroundRewards
from vp_ray.protocols import Pixels, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.shapeworld import scenes
from vp_ray.storage import Folder

ROUNDS = 5
REMOTE_SHARE = 0.3
RANKS = 2
PARTS = ("sampling", "reward", "update")
ADAM_EPSILON = 1e-4
"""Adam moves a weight of hardly any gradient as far as any other; with this, rounding does not decide which way."""
SETTINGS = RlSettings.load(
    {
        "generator": "embedded:weak",
        "lora": {"rank": 4, "alpha": 4},
        "reward_weights": {"reward": 1.0},
        "epochs": 1 + ROUNDS,
        "prompts_per_epoch": 4,
        "samples_per_prompt": 16,
        "batch_size": 16,
        "updates_per_epoch": 2,
        "steps": 10,
        "guidance_scale": 5.0,
        "step_weights": "equal",
        "kl_coefficient": 0.0,
        "ema_decay": 0.0,
        "optimizer": {"learning_rate": 3e-4, "epsilon": ADAM_EPSILON},
        "held_out_prompts": 0,
        "keep": "last",
        "checkpoint_every": 1000,
    }
)
IMAGES = SETTINGS.prompts_per_epoch * SETTINGS.samples_per_prompt
PROMPTS = sorted(scenes.prompt_of(scene) for scene in scenes.all_scenes())[:256:8]


class Local:
    """One aspect of a VP-Score on the embedded backbone: its cost is real, its taste is any."""

    aspects = ("reward",)

    def __init__(self) -> None:
        self._model = VPScore.from_backbone("embedded:blip")

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return self._model.score(images, prompts)[:, 2:3]


class Remote:
    """A scorer on another machine, which takes one batch at a time, whoever sends it."""

    aspects = ("reward",)

    def __init__(self, place: Any, seconds: Any) -> None:
        self._place, self._seconds = place, seconds

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        with self._place:
            time.sleep(self._seconds.value)
        return (images.reshape(len(images), -1).mean(axis=1, keepdims=True) / 64).astype(np.float32)


def new_policy() -> DiffusionPolicy:
    return DiffusionPolicy.from_pretrained(SETTINGS.generator, SETTINGS.lora, SETTINGS.dtype, SETTINGS.seed, "cpu")


def trained(policy: DiffusionPolicy) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in policy.denoiser.named_parameters() if weight.requires_grad}


def ours(rank: int, ranks: int, port: int, folder: str, scorer: Any, gate: tuple[Any, Any]) -> None:
    """One of our ranks, which begins each epoch when it is told to."""
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), DS_ACCELERATOR="cpu")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    policy = new_policy()
    count = micro_batches_per_update(SETTINGS, policy.steps(SETTINGS.steps, SETTINGS.eta), ranks)
    begin, done = gate

    def next_epoch() -> bool:
        done.put(rank)
        begin.get()
        return False

    next_epoch()
    train(
        SETTINGS,
        policy,
        (TorchEngine if ranks == 1 else DeepSpeedEngine)(policy.denoiser, SETTINGS.optimizer, count),
        rewards=BackgroundRewards(scorer or Local()),
        held_out=None,
        collective=SingleProcess() if ranks == 1 else TorchCollective(),
        prompts=PROMPTS,
        folder=Folder.at(folder),
        interrupted=next_epoch,
    )
    if rank == 0:
        torch.save(trained(policy), f"{folder}.pt")
    done.put(rank)


class Ours:
    """Our ranks in processes of their own, an epoch at a time."""

    def __init__(self, ranks: int, folder: Path, scorer: Any) -> None:
        context = mp.get_context("spawn")
        self.folder, self.begin, self.done = folder, [context.Queue() for _ in range(ranks)], context.Queue()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.ranks = [
            context.Process(
                target=ours, args=(rank, ranks, port, str(folder), scorer, (self.begin[rank], self.done)), daemon=True
            )
            for rank in range(ranks)
        ]
        for process in self.ranks:
            process.start()
        self._wait()

    def _wait(self) -> None:
        for _ in self.ranks:
            self.done.get(timeout=600)

    def epoch(self) -> None:
        for queue in self.begin:
            queue.put(True)
        self._wait()

    def finish(self) -> tuple[list[Seconds], dict[str, torch.Tensor]]:
        """(seconds of every epoch, final weights)."""
        self.epoch()
        for process in self.ranks:
            process.join(60)
        rows = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()][1:]
        seconds = [Seconds(row["seconds_sampling"], row["seconds_reward_wait"], row["seconds_update"]) for row in rows]
        return seconds, torch.load(f"{self.folder}.pt", weights_only=True)


class Plain:
    """The plain loop with the same noise and the same order of steps."""

    def __init__(self, score: Callable[[Pixels, list[str]], Scores]) -> None:
        self.policy, self.score = new_policy(), score
        self.steps = self.policy.steps(SETTINGS.steps, SETTINGS.eta)
        assert len(self.steps.stochastic) == SETTINGS.steps
        self.loop = plain_loop(self.policy, SETTINGS)

    def epoch(self, number: int) -> Seconds:
        order = np.random.default_rng(seed_of(number)).permutation(SETTINGS.updates_per_epoch)
        work = work_of(self.policy, SETTINGS, self.steps, PROMPTS, number)
        return self.loop.epoch(work, order.tolist(), lambda images, prompts: self.score(images, prompts)[:, 0])

    def weights(self) -> dict[str, torch.Tensor]:
        return trained(self.policy)


def seed_of(epoch: int) -> int:
    """The seed of the order of an epoch's updates, as `rl.step.learn` has it."""
    from vp_ray.ids import seed_from

    return seed_from(SETTINGS.seed, "updates", epoch, 0)


def median_ratio(a: Sequence[Seconds], b: Sequence[Seconds]) -> float:
    return statistics.median(x.total / y.total for x, y in zip(a[1:], b[1:], strict=True))


def milliseconds(seconds: Sequence[Seconds]) -> dict[str, float]:
    """Milliseconds an image by part, medians over the rounds."""
    return {
        part: round(1000 * statistics.median(getattr(one, part) for one in seconds[1:]) / IMAGES, 3) for part in PARTS
    }


def best_threads(plain: Plain) -> int:
    """The number of threads at which the plain loop draws fastest."""
    work = plain.work(0)[0]
    seconds: dict[int, float] = {}
    for threads in (1, RANKS):
        torch.set_num_threads(threads)
        rounds = []
        for _ in range(3):
            started = time.perf_counter()
            plain.loop.draw(work)
            rounds.append(time.perf_counter() - started)
        seconds[threads] = min(rounds)
    return min(seconds, key=seconds.__getitem__)


def measure(name: str, folder: Path, remote: bool) -> float:
    """Prints one setting's figures and returns the largest difference of final weights."""
    context = mp.get_context("spawn")
    seconds = context.Value("d", 0.0)
    scorer = Remote(context.Lock(), seconds) if remote else None
    plain = Plain((scorer or Local()).score)
    systems = {ranks: Ours(ranks, folder / f"{name}_{ranks}", scorer) for ranks in (RANKS, 1)}
    threads = best_threads(plain)
    torch.set_num_threads(threads)
    if remote:
        batches, started = plain.work(0), time.perf_counter()
        for work in batches:
            plain.loop.draw(work)
        seconds.value = REMOTE_SHARE * (time.perf_counter() - started) / len(batches)
    times: list[Seconds] = []
    for epoch in range(SETTINGS.epochs):
        times.append(plain.epoch(epoch))
        for system in systems.values():
            system.epoch()
    ended = {ranks: system.finish() for ranks, system in systems.items()}
    told = {"plain_ms": milliseconds(times), "plain_threads": threads, "load": round(os.getloadavg()[0], 1)}
    baseline = "plain single-process loop as ddpo-pytorch's, two reward threads"
    for ranks, figure in ((RANKS, name), (1, f"{name}_one_process")):
        parts = milliseconds(ended[ranks][0])
        print_figure(
            figure, median_ratio(ended[ranks][0], times), "ratio", baseline, ours_ms=parts, ranks=ranks, **told
        )
    weights = plain.weights()
    return max(float((found[key] - weights[key]).abs().max()) for _, found in ended.values() for key in weights)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vp-ddpo-") as folder:
        differences = {
            name: measure(name, Path(folder), remote)
            for name, remote in (("ddpo_epoch", False), ("ddpo_epoch_remote", True))
        }
    print_figure(
        "ddpo_epoch_weight_difference", max(differences.values()), "weight", "the plain loop's weights", **differences
    )


if __name__ == "__main__":
    main()
