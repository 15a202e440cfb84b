"""Images a second, share of the time that the GPU is busy, and memory of our sampler at real sizes, on random weights.

`python benchmarks/gpu/generation.py` takes an NVIDIA GPU; `--tiny` runs the same code at a tiny size anywhere. Needs no
Ray and no network. The baseline is diffusers' own call of the same pipeline at one guidance scale.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import torch
from architectures import ARCHITECTURES, build

from runs import print_figure
from vp_ray.models.loading import family_of
from vp_ray.models.sampler import ImageRequest, denoise

BATCH = {"sd15": 32, "sdxl": 8, "sd3": 8}


def timed(draw: Callable[[], object], device: str) -> float:
    """Seconds of one call, the GPU's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.monotonic()
    draw()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - started


def busy_share(draw: Callable[[], object]) -> float:
    """Share of a call's time in which a kernel runs, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = timed(draw, "cuda")
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / seconds


def measure(name: str, tiny: bool, steps: int, rounds: int, device: str, dtype: torch.dtype) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pipe: Any = build(name, tiny, Path(folder), device, dtype)
    pipe.set_progress_bar_config(disable=True)
    family = family_of(pipe)
    assert family is not None
    batch = 2 if tiny else BATCH[name]
    requests = [ImageRequest("a red circle", seed, 3 + seed % 10) for seed in range(batch)]

    @torch.no_grad()
    def ours() -> None:
        family.decode(denoise(family, requests, steps))

    def bare() -> None:
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        prompts = [request.prompt for request in requests]
        pipe(prompt=prompts, generator=generators, guidance_scale=7.5, num_inference_steps=steps, output_type="pt")

    for draw in (ours, bare):
        draw()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        seconds["ours"].append(timed(ours, device))
        seconds["bare"].append(timed(bare, device))
    ratio = statistics.median(b / a for a, b in zip(seconds["ours"], seconds["bare"], strict=True))
    speed = batch / statistics.median(seconds["ours"])
    told = {"batch": batch, "steps": steps, "dtype": str(dtype).removeprefix("torch."), "device": device}
    print_figure(f"generation_{name}_images_per_second", speed, "images/s", "", **told)
    print_figure(f"generation_{name}_over_diffusers", ratio, "ratio", "diffusers' own call, one guidance scale", **told)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        print_figure(f"generation_{name}_peak_memory", peak, "GiB", "", **told)
        print_figure(f"generation_{name}_gpu_busy", busy_share(ours), "share", "", **told)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny networks, on the CPU where there is no GPU")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        sys.exit("There is no NVIDIA GPU here; --tiny runs the same code at a tiny size.")
    dtype = torch.float16 if device == "cuda" else torch.float32
    for name in chosen.models:
        measure(name, chosen.tiny, chosen.steps, chosen.rounds, device, dtype)


if __name__ == "__main__":
    main()
