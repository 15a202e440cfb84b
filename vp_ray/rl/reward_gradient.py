"""What ReFL learns from: batches of prompts, and a reward that gradients flow through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vp_ray.ids import seed_from
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.models.rewards import named
from vp_ray.protocols import Collective
from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import aspect_weights
from vp_ray.rl.losses.interface import PromptBatch
from vp_ray.rl.plan import batches_of_epoch, image_seeds, share_of_rank


class RewardGradient:
    """The weighted sum of the aspects of scorers in this process, with gradient for the pixels.

    Aspects of the scorer NAME are called `NAME.ASPECT`, those of the empty name `ASPECT`. Raises `SettingsError` for
    an aspect that none of them has.
    """

    def __init__(self, settings: RlSettings, scorers: Mapping[str, PictureScorer]) -> None:
        every = [named(name, aspect) for name, scorer in scorers.items() for aspect in scorer.aspects]
        aspect_weights(settings.reward_weights, every, "rl.reward_weights")
        self._weighed: list[tuple[PictureScorer, Tensor]] = []
        for name, scorer in scorers.items():
            weights = [settings.reward_weights.get(named(name, aspect), 0.0) for aspect in scorer.aspects]
            if any(weights):
                scorer.requires_grad_(False).eval()
                self._weighed.append((scorer, torch.tensor(weights)))

    def __call__(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) rewards of pixels (B, 3, H, W) in 0..1 and their prompts."""
        parts = [scorer.score_pixels(pixels, prompts) @ weights.to(pixels.device) for scorer, weights in self._weighed]
        return torch.stack(parts).sum(0)


def prompt_batches(
    settings: RlSettings,
    policy: DiffusionPolicy,
    prompts: Sequence[str],
    reward: RewardGradient,
    collective: Collective,
    epoch: int,
    inner_epoch: int,
    update: int,
) -> Iterator[PromptBatch]:
    """This rank's share of an update; the step with gradient is drawn for each batch from the last of all."""
    last = max(1, round(settings.refl.last_share * settings.steps))
    for batch in share_of_rank(batches_of_epoch(prompts, epoch, settings), collective.rank, collective.world_size):
        if batch.update != update:
            continue
        noise = draw_noise(image_seeds(settings, epoch, batch), 0, policy.latent_shape).to(policy.device)
        rng = np.random.default_rng(seed_from(settings.seed, "refl", epoch, batch.number))
        stop = int(rng.integers(settings.steps - last, settings.steps))
        prompted = policy.embed(batch.prompts, settings.guidance_scale)
        yield PromptBatch(batch.prompts, prompted, noise, stop, reward)
