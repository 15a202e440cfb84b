"""DDPO at real sizes on random weights: images a GPU-hour with their training, memory, and where the time goes.

`python benchmarks/gpu/rl.py` takes an NVIDIA GPU; `--tiny` runs the same code at a tiny size anywhere. It is the loop
of a rank in one process, without Ray, without a network, and with a reward that costs nothing. `plain` is the baseline
of `benchmarks/ddpo_epoch.py`, a loop as ddpo-pytorch's with peft's own adapters, for Stable Diffusion 1.5. Each trains
two steps of a batch first, which warms kernels and compilers up.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import numpy as np
import torch
from architectures import build

from parts.plain_beside import plain_loop, work_of
from parts.plain_ddpo import Seconds
from runs import print_figure
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.rewards import LocalRewards
from vp_ray.protocols import Pixels, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.rl.policies import training_steps
from vp_ray.storage import Folder

BATCH = {"sd15": 16, "sdxl": 4}
PROMPTS = ["a red circle"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"step_weights": "equal"},
    "ddpo": {},
    "ddpo_compiled": {"compile": True},
    "ddpo_half_of_the_steps": {"trained_steps_share": 0.5},
    "ddpo_checkpointing": {"gradient_checkpointing": True},
}
"""DDPO as published (all steps of each image trained), compiled, half of the steps, and recomputed activations."""
KERNELS = {
    "convolution": "fprop|dgrad|wgrad|conv|nchwTo|nhwcTo",
    "attention": "sdpa|fmha|flash",
    "matrix": "gemm|nvjet|cutlass|splitK",
    "norm": "norm|Norm|Moments",
}
"""Kinds of kernels by what their names hold, the first that fits; all others are elementwise, sums and copies."""


class Brightness:
    aspects = ("brightness",)

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)


Epochs = Callable[[int, int], list[Seconds]]
"""`epochs(count, steps)` trains so many epochs of images of so many steps."""


def settings_of(name: str, tiny: bool, epochs: int, steps: int, changes: dict[str, Any]) -> RlSettings:
    batch = 2 if tiny else BATCH[name]
    values = {
        "generator": name,
        "lora": {"rank": 4, "alpha": 4},
        "reward_weights": {"brightness": 1.0},
        "epochs": epochs,
        "prompts_per_epoch": 1,
        "samples_per_prompt": batch,
        "batch_size": batch,
        "updates_per_epoch": 1,
        "steps": steps,
        "guidance_scale": 5.0,
        "kl_coefficient": 0.0,
        "optimizer": {"learning_rate": 3e-4},
        "held_out_prompts": 0,
        "keep": "last",
        "checkpoint_every": 1000,
    }
    return RlSettings.load({**values, **changes})


def ours(policy: DiffusionPolicy, of: Callable[[int, int], RlSettings]) -> Epochs:
    def epochs(count: int, steps: int) -> list[Seconds]:
        settings = of(count, steps)
        micro_batches = micro_batches_per_update(settings, training_steps(settings, policy), 1)
        with tempfile.TemporaryDirectory() as folder:
            train(
                settings,
                policy,
                TorchEngine(policy.denoiser, settings.optimizer, micro_batches),
                rewards=LocalRewards(Brightness()),
                held_out=None,
                collective=SingleProcess(),
                prompts=PROMPTS,
                folder=Folder.at(folder),
            )
            rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        return [
            Seconds(row["seconds_sampling"], row["seconds_reward_wait"], row["seconds_update"]) for row in rows[-count:]
        ]

    return epochs


def plain(policy: DiffusionPolicy, of: Callable[[int, int], RlSettings]) -> Epochs:
    """The same adapter, with peft's own layers, under the plain loop."""

    def reward(images: Any, prompts: list[str]) -> Any:
        return Brightness().score(images, prompts)[:, 0]

    def epochs(count: int, steps: int) -> list[Seconds]:
        settings = of(count, steps)
        loop, taken = plain_loop(policy, settings), policy.steps(steps, settings.eta)
        return [
            loop.epoch(work_of(policy, settings, taken, PROMPTS, epoch), range(settings.updates_per_epoch), reward)
            for epoch in range(count)
        ]

    return epochs


def shares_of_kernels(epochs: Epochs) -> dict[str, float]:
    """Share of the time in kernels that each kind has, and of the epoch in which any runs, over two steps."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = sum(epoch.total for epoch in epochs(1, 2))
        torch.cuda.synchronize()
    of_kind = dict.fromkeys((*KERNELS, "rest"), 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, pattern in KERNELS.items() if re.search(pattern, event.key)), "rest")
        of_kind[kind] += event.self_device_time_total / 1e6
    total = sum(of_kind.values())
    return {f"{kind}_share": taken / total for kind, taken in of_kind.items()} | {"busy_share": total / seconds}


def measure(name: str, variant: str, chosen: argparse.Namespace, device: str, dtype: torch.dtype) -> float:
    """Prints the figures of one variant, and returns its images an hour."""

    def of(count: int, steps: int) -> RlSettings:
        return settings_of(name, chosen.tiny, count, steps, VARIANTS[variant])

    settings = of(chosen.epochs, chosen.steps)
    with tempfile.TemporaryDirectory() as folder:
        pipe: Any = build(name, chosen.tiny, Path(folder), device, dtype)
    pipe.set_progress_bar_config(disable=True)
    policy = DiffusionPolicy(pipe, settings.lora, settings.seed)
    if settings.gradient_checkpointing:
        policy.denoiser.enable_gradient_checkpointing()
    if settings.compile:
        policy.compile()
    epochs = (plain if variant == "plain" else ours)(policy, of)
    warm_up = sum(epoch.total for epoch in epochs(1, 2))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = epochs(chosen.epochs, chosen.steps)
    total = sum(epoch.total for epoch in found)
    told = {"batch": settings.batch_size, "steps": chosen.steps, "dtype": str(dtype).removeprefix("torch.")}
    told |= {"device": torch.cuda.get_device_name() if device == "cuda" else device}
    rate = 3600 * settings.samples_per_prompt / statistics.median(epoch.total for epoch in found)
    shares = {
        f"{part}_share": sum(getattr(epoch, field) for epoch in found) / total
        for part, field in (("sampling", "sampling"), ("reward_wait", "reward"), ("update", "update"))
    }
    baseline = "ddpo-pytorch publishes about 800 for SD 1.5 on an A100" if name == "sd15" else ""
    figure = f"rl_{name}_{variant}"
    print_figure(
        f"{figure}_images_per_gpu_hour", rate, "images/h", baseline, **told, **shares, seconds_of_warm_up=warm_up
    )
    if device == "cuda":
        print_figure(f"{figure}_peak_memory", torch.cuda.max_memory_allocated() / 2**30, "GiB", "", **told)
    if device == "cuda" and chosen.kernels:
        kinds = shares_of_kernels(epochs)
        busy = kinds.pop("busy_share")
        print_figure(f"{figure}_gpu_busy", busy, "share", "of two steps' time, under the profiler", **told, **kinds)
    return rate


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="DDPO at real sizes on random weights.")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, on the CPU where there is no GPU")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of one batch that are measured")
    parser.add_argument("--models", nargs="+", choices=BATCH, default=list(BATCH))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--kernels", action="store_true", help="also tell which kinds of kernels take the time")
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        sys.exit("There is no NVIDIA GPU here; --tiny runs the same code at a tiny size.")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for name in chosen.models:
        rates = {
            variant: measure(name, variant, chosen, device, dtype)
            for variant in chosen.variants
            if variant != "plain" or name == "sd15"  # SDXL's text and sizes are unknown to the plain loop
        }
        for variant, rate in rates.items():
            if "plain" in rates and variant != "plain":
                ratio = rate / rates["plain"]
                print_figure(f"rl_{name}_{variant}_over_plain", ratio, "ratio", "the plain loop, on the same device")


if __name__ == "__main__":
    main()
