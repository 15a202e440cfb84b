"""DDPO at real sizes on random weights: images a GPU-hour with their training, memory, and where the time goes.

`python benchmarks/gpu/rl.py` takes an NVIDIA GPU; `--tiny` runs the same code at a tiny size anywhere. It is the loop
of a rank in one process, without Ray, without a network, and with a reward that costs nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import numpy as np
import torch
from architectures import build

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
PARTS = ("sampling", "reward_wait", "update")
VARIANTS: dict[str, dict[str, Any]] = {
    "ddpo": {},
    "ddpo_half_of_the_steps": {"trained_steps_share": 0.5},
    "ddpo_checkpointing": {"gradient_checkpointing": True},
}
"""DDPO as published (all steps of each image trained), half of them, and recomputed activations for less memory."""


class Brightness:
    aspects = ("brightness",)

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)


def settings_of(name: str, tiny: bool, steps: int, changes: dict[str, Any]) -> RlSettings:
    batch = 2 if tiny else BATCH[name]
    values = {
        "generator": name,
        "lora": {"rank": 4, "alpha": 4},
        "reward_weights": {"brightness": 1.0},
        "epochs": 2,
        "prompts_per_epoch": 2,
        "samples_per_prompt": 2 * batch,
        "batch_size": batch,
        "updates_per_epoch": 2,
        "steps": steps,
        "guidance_scale": 5.0,
        "kl_coefficient": 0.0,
        "optimizer": {"learning_rate": 3e-4},
        "held_out_prompts": 0,
        "keep": "last",
        "checkpoint_every": 1000,
    }
    return RlSettings.load({**values, **changes})


def measure(name: str, variant: str, tiny: bool, steps: int, device: str, dtype: torch.dtype) -> None:
    settings = settings_of(name, tiny, steps, VARIANTS[variant])
    with tempfile.TemporaryDirectory() as folder:
        pipe: Any = build(name, tiny, Path(folder), device, dtype)
        pipe.set_progress_bar_config(disable=True)
        policy = DiffusionPolicy(pipe, settings.lora, settings.seed)
        if settings.gradient_checkpointing:
            policy.denoiser.enable_gradient_checkpointing()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        count = micro_batches_per_update(settings, training_steps(settings, policy), 1)
        train(
            settings,
            policy,
            TorchEngine(policy.denoiser, settings.optimizer, count),
            rewards=LocalRewards(Brightness()),
            held_out=None,
            collective=SingleProcess(),
            prompts=["a red circle", "a blue square", "a green triangle", "two red circles"],
            folder=Folder.at(Path(folder) / "rl"),
        )
        rows = [json.loads(line) for line in (Path(folder) / "rl" / "metrics.jsonl").read_text().splitlines()]
    # The first epoch warms kernels and caches up.
    seconds = {part: rows[-1][f"seconds_{part}"] for part in PARTS}
    images = settings.prompts_per_epoch * settings.samples_per_prompt
    told = {"batch": settings.batch_size, "steps": steps, "dtype": str(dtype).removeprefix("torch."), "device": device}
    rate = 3600 * images / sum(seconds.values())
    shares = {f"{part}_share": seconds[part] / sum(seconds.values()) for part in PARTS}
    baseline = "ddpo-pytorch publishes about 800 for SD 1.5 on an A100" if name == "sd15" else ""
    print_figure(f"rl_{name}_{variant}_images_per_gpu_hour", rate, "images/h", baseline, **told, **shares)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        print_figure(f"rl_{name}_{variant}_peak_memory", peak, "GiB", "", **told)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny networks, on the CPU where there is no GPU")
    parser.add_argument("--steps", type=int, default=50)
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        sys.exit("There is no NVIDIA GPU here; --tiny runs the same code at a tiny size.")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for name in BATCH:
        for variant in VARIANTS:
            measure(name, variant, chosen.tiny, chosen.steps, device, dtype)


if __name__ == "__main__":
    main()
