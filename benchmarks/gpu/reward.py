"""VP-Score at BLIP-large's real size on random weights: pairs a second in training, images a second scored, memory.

`python benchmarks/gpu/reward.py` takes an NVIDIA GPU; `--tiny` runs the same code at a tiny size anywhere. Needs no Ray
and no network. Training is compared with ImageReward's scheme of `benchmarks/reward_training.py`, both in bfloat16
where the GPU has it, and scoring with a loop over single images.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np
import torch

from reward_training import SETTINGS, ImageRewardScheme, Shape, new_data, new_model, run, tell
from runs import print_figure
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.reward import VPScore
from vp_ray.reward.forward import new_forward
from vp_ray.reward.update import Update
from vp_ray.storage import Folder

LARGE, TINY = Shape(1024, 768), Shape(32, 32, 4, 3, 32, 8)
UPDATES_OF_EPOCH = 6


def clock() -> float:
    """Seconds, the GPU's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gb(work: Callable[[], Any]) -> float:
    """The most memory of the GPU that was taken during the work, in GiB, weights and moments included."""
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 2**30


def measure_training(folder: Path, shape: Shape, device: torch.device, groups: int, rounds: int) -> None:
    """Both schemes, update by update; the first epoch finds no frozen states, the second finds all."""
    model = new_model(folder, shape).to(device)
    data = new_data(8, 26, shape.side, UPDATES_OF_EPOCH * groups)
    scheme = copy.deepcopy(model)
    forward = new_forward(SETTINGS, model.train(), device, Folder.at(str(folder)))
    theirs = ImageRewardScheme(scheme, data, forward.precision)
    ours = Update(forward, TorchEngine(model, SETTINGS.optimizer), SingleProcess(), data, 1, SETTINGS.seed)
    run(0, 2, theirs, ours, replace(data, images=255 - data.images), groups, clock)  # a warm-up on other pictures
    steps = run(0, UPDATES_OF_EPOCH + rounds, theirs, ours, data, groups, clock)
    precision = str(forward.precision).removeprefix("torch.")
    told = {"groups_of_4": groups, "precision": precision, "device": str(device)}
    tell("reward_gpu_training", [step for step in steps if step.steady], **told)
    tell("reward_gpu_training_first_epoch", [step for step in steps if not step.steady], **told)
    if device.type == "cuda":
        chosen = list(range(groups))
        ours_gb = peak_gb(lambda: replace(ours, data=data)(data.groups, chosen, 0))
        theirs_gb = peak_gb(lambda: theirs(data.groups[:groups]))
        print_figure("reward_gpu_training_memory", ours_gb, "GiB", "with both models there", **told)
        print_figure("reward_gpu_training_memory_imagereward", theirs_gb, "GiB", "with both models there", **told)


def measure_scoring(folder: Path, shape: Shape, device: torch.device, sizes: tuple[int, ...], rounds: int) -> None:
    """`score` in batches over a loop of single images."""
    model: VPScore = new_model(folder, shape).to(device).eval()
    images = np.random.default_rng(0).integers(0, 256, (max(sizes), shape.side, shape.side, 3), dtype=np.uint8)
    prompts = ["a red circle left of a blue square on a white ground"] * len(images)

    def seconds(batch: int) -> float:
        started = clock()
        for first in range(0, len(images), batch):
            model.score(images[first : first + batch], prompts[first : first + batch])
        return clock() - started

    times: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size in sizes:
            took = seconds(size)
            if number:
                times[size].append(took)
    for size in sizes:
        ratio = statistics.median(one / many for one, many in zip(times[1], times[size], strict=True))
        speed = len(images) / statistics.median(times[size])
        told = {"images_per_second": speed, "device": str(device)}
        print_figure(f"reward_gpu_scoring_{size}", ratio, "ratio", "a loop over single images", **told)
    if device.type == "cuda":
        peak = peak_gb(lambda: model.score(images, prompts))
        print_figure("reward_gpu_scoring_memory", peak, "GiB", "", batch=max(sizes), device=str(device))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny network, on the CPU where there is no GPU")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not chosen.tiny:
        sys.exit("There is no NVIDIA GPU here; --tiny runs the same code at a tiny size.")
    shape, groups, sizes = (TINY, 1, (1, 4)) if chosen.tiny else (LARGE, 10, (1, 8, 32, 64))
    with tempfile.TemporaryDirectory(prefix="vp-reward-gpu-") as folder:
        measure_training(Path(folder), shape, device, groups, chosen.rounds)
        measure_scoring(Path(folder), shape, device, sizes, chosen.rounds)


if __name__ == "__main__":
    main()
