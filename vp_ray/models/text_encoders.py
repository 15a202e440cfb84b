"""Reads prompts once, keeps what the network is told of them, and gives the text encoders' memory back meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from vp_ray.models.families.base import Conditions, Family, Inputs

_CACHED_PROMPTS: Final = 4096


class PromptCache:
    """Conditions of prompts of one image size; the last 4,096 prompts are kept.

    With `offload` the text encoders lie in main memory, except while prompts are read that are not among the kept.
    """

    def __init__(self, family: Family, latent_shape: tuple[int, int, int], offload: bool = False) -> None:
        self._family, self._shape, self._offload = family, latent_shape, offload
        self._positive: dict[tuple[str, float], Inputs] = {}
        self._negative: dict[float, Inputs | None] = {}
        if offload:
            self._move("cpu")

    @property
    def encoders(self) -> list[nn.Module]:
        """The pipeline's text encoders."""
        parts = self._family.pipe.components.items()
        return [part for name, part in parts if name.startswith("text_encoder") and isinstance(part, nn.Module)]

    def _move(self, device: torch.device | str) -> None:
        for encoder in self.encoders:
            encoder.to(device)

    @contextmanager
    def _at_work(self, device: torch.device) -> Iterator[None]:
        if self._offload:
            self._move(device)
        try:
            yield
        finally:
            if self._offload:
                self._move("cpu")

    @torch.no_grad()
    def read(self, prompts: Sequence[str], guidance_scale: float, device: torch.device) -> Conditions:
        """Conditions of B prompts at one guidance scale, each encoded alone, so that it depends on nothing else.

        What guidance leads away from is the empty prompt, as the model's family reads it.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, guidance_scale) not in self._positive]
        found = {key[0]: kept for key, kept in self._positive.items() if key[1] == guidance_scale}
        if missing:
            latents = torch.empty(1, *self._shape, device=device)
            scales = torch.tensor([guidance_scale])
            with self._at_work(device):
                for prompt in missing:
                    conditions = self._family.encode([prompt], "", scales, latents)
                    self._negative.setdefault(guidance_scale, conditions.negative)
                    self._positive[prompt, guidance_scale] = found[prompt] = conditions.positive
            while len(self._positive) > _CACHED_PROMPTS:
                del self._positive[next(iter(self._positive))]
        rows = [found[prompt] for prompt in prompts]
        positive = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        one = self._negative[guidance_scale]
        negative = one and {name: tensor.expand(len(prompts), *tensor.shape[1:]) for name, tensor in one.items()}
        return Conditions(positive, negative)
