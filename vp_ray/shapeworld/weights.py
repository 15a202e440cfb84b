"""Trains and saves the package's own weights: `weak`, `strong` and `blip`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch

from vp_ray.errors import InputError
from vp_ray.shapeworld.backbone import save_blip
from vp_ray.shapeworld.backbone_training import train_backbone
from vp_ray.shapeworld.training import PLANS, train_pipeline, train_vae

PARTS: Final = (*PLANS, "blip")


def train_weights(out: Path, work: Path, seed: int, parts: Sequence[str] | None, say: Callable[[str], None]) -> None:
    """Writes each part as a `from_pretrained` directory of half-precision safetensors under `out`.

    Raises `InputError` for a part that does not exist.
    """
    chosen = list(parts or PARTS)
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise InputError(f"there is no part '{unknown[0]}'", f"Parts are: {', '.join(PARTS)}.", "--part")
    started = time.monotonic()

    def report(part: str, step: int, steps: int, loss: float) -> None:
        say(f"[{part}] step {step}/{steps} loss {loss:.4f} {time.monotonic() - started:.0f}s")

    for part in chosen:
        folder = out / part
        if part == "blip":
            save_blip(*train_backbone(work, seed, report), folder)
        else:
            pipe = train_pipeline(part, train_vae(work, seed, report), work, seed, report)
            pipe.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
        say(f"[{part}] written to {folder}")
