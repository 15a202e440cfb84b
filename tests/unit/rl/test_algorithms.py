"""Each algorithm on each family of models through the whole trainer, in one process."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.loading import load_pipeline
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.rl.direct import train_directly
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.journal import Journal
from vp_ray.rl.loop import train
from vp_ray.rl.pairs import PreferencePairs, preference_batches
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.rl.policies import load_policy, training_steps
from vp_ray.rl.reward_gradient import RewardGradient, prompt_batches
from vp_ray.storage import Folder

from .conftest import HELD_OUT, PROMPTS, Rewards, rows_of, settings_of

# Tiny FLUX draws 256 pixels of its own accord.
SIZE = {"height": 16, "width": 16}
UNETS = ("sd", "sdxl")


class Judge(PictureScorer):
    """A scorer that sees brightness and contrast, and lets gradients through."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self._aspects = ("brightness", "contrast")

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        flat = pixels.flatten(1)
        return torch.stack([flat.mean(1), flat.std(1)], 1)


def noisy_pairs() -> PreferencePairs:
    """Every prompt with two pictures of noise, of which the brighter is preferred, the last as a tie."""
    rng = np.random.default_rng(0)
    files, names = {}, []
    for prompt in PROMPTS:
        for side, level in enumerate((60, 120)):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, level, (20, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
            files[f"{prompt} {side}"] = buffer.getvalue()
        names.append((f"{prompt} 1", f"{prompt} 0"))
    probability = np.full(len(PROMPTS), 0.9, np.float32)
    probability[-1] = 0.5
    return PreferencePairs(files, tuple(PROMPTS), tuple(names), probability, np.ones(len(PROMPTS), np.float32))


def trained(generator: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """The figures of two epochs."""
    if changes["algorithm"] == "dpo":
        changes = {"prompts_per_epoch": 16, "samples_per_prompt": 16, **changes}  # their defaults: it has no effect
    settings = settings_of(generator, **{"epochs": 2, "evaluate_every": 1, "keep": "last", **SIZE, **changes})
    policy = load_policy(settings, "cpu")
    count = micro_batches_per_update(settings, training_steps(settings, policy), 1)
    engine = TorchEngine(policy.denoiser, settings.optimizer, count)
    source, alone = Rewards(), SingleProcess()
    common: dict[str, Any] = {
        "held_out": HeldOut(HELD_OUT, source), "collective": alone, "folder": Folder.at(folder)
    }  # fmt: skip
    if settings.asks_the_service:
        return train(settings, policy, engine, rewards=source, prompts=PROMPTS, **common)
    if settings.algorithm == "dpo":
        batches: Any = partial(preference_batches, settings, policy, noisy_pairs(), alone)
    else:
        batches = partial(prompt_batches, settings, policy, PROMPTS, RewardGradient(settings, {"": Judge()}), alone)
    journal = Journal(settings, policy, engine, **common)
    return train_directly(settings, policy, engine, micro_batches=batches, journal=journal, collective=alone)


CASES = [
    ("sd", "ddpo", {"sampler": "euler_ancestral"}),
    ("sdxl", "ddpo", {"guidance_scale": 3.0}),
    ("sd", "ddpo", {"guidance_scale": 3.0, "dtype": "bfloat16"}),
    ("sdxl", "nft", {"timesteps_per_image": 2}),
    ("sd3", "flow_grpo", {"guidance_scale": 3.0, "noise_window": [0, 1], "eta": 0.7, "kl_coefficient": 0.04}),
    ("flux", "flow_grpo", {"guidance_scale": 3.5, "gradient_checkpointing": True}),
    ("flux", "nft", {}),
    ("sd", "online_dpo", {"prompts_per_epoch": 4, "samples_per_prompt": 2}),
    ("sdxl", "dpo", {"dpo": {"pairs_per_epoch": 4}, "timesteps_per_image": 2}),
    ("sd3", "dpo", {"dpo": {"pairs_per_epoch": 8, "beta": 2000}}),
    ("sd", "refl", {"guidance_scale": 2.0, "steps": 4}),
    ("flux", "refl", {"gradient_checkpointing": True}),
    ("sd3", "online_dpo", {"dpo": {"beta": 2000}, "timesteps_per_image": 2}),
]


@pytest.mark.parametrize(("family", "algorithm", "options"), CASES)
def test_a_training_moves_the_weights_and_its_adapter_loads_into_the_pipeline(
    model_at: Callable[[str], Path], tmp_path: Path, family: str, algorithm: str, options: dict[str, Any]
) -> None:
    trained(model_at(family), tmp_path, algorithm=algorithm, **options)
    _, *epochs = rows_of(tmp_path)
    for row in epochs:
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
        assert row["gradient_norm"] > 0
    assert epochs[0]["held_out_brightness"] != epochs[1]["held_out_brightness"]
    pipes = [
        load_pipeline(
            GeneratorSettings(name="g", source=str(model_at(family)), adapter=adapter, scheduler="own", device="cpu")
        )
        for adapter in (None, str(tmp_path / "adapter"))
    ]
    part = "unet" if family in UNETS else "transformer"
    plain, tuned = (
        pipe(
            prompt="a red circle", num_inference_steps=2, output_type="latent", guidance_scale=1.0, **SIZE,
            generator=torch.Generator().manual_seed(0),
        ).images
        for pipe in pipes
    )  # fmt: skip
    assert getattr(pipes[1], part).peft_config
    assert isinstance(pipes[1], diffusers.DiffusionPipeline)
    assert not torch.equal(plain, tuned)
