"""What VP-Score and other people's scorers share: one network, three ways in.

Letters of shapes: B rows (an image and its prompt), T tokens, A aspects, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vp_ray.errors import InputError
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward_inputs import PromptReader, check_batch, check_prompts
from vp_ray.protocols import Pixels, Scores

SCORING_BATCH: Final = 64
"""Images that are scored in one pass."""

_CPU_PIXELS: Final = 8 * 224 * 224
"""Pixels of one pass on a CPU; the activations of more leave its caches, and each image takes longer."""


class PictureScorer(nn.Module):
    """A `Scorer` with weights: `score` of 8-bit pixels, `score_pictures` of PIL images, `score_pixels` with gradient.

    Subclasses define `forward`, which gives (B, A) raw scores of (B, 3, side, side) pixel values, (B, T) tokens and
    their (B, T) mask.
    """

    def __init__(self, aspects: Sequence[str], preparation: Preparation, reader: PromptReader | None) -> None:
        super().__init__()
        self._aspects = tuple(aspects)
        self.preparation, self.reader = preparation, reader
        """How pictures and prompts are prepared; no reader where the prompt changes nothing."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of `score`."""
        return self._aspects

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def scaled(self, raw: Tensor) -> Tensor:
        """(B, A) scores of (B, A) raw scores; the same unless a subclass normalises."""
        return raw

    def overall(self, scores: Scores) -> NDArray[np.float32]:
        """(B,) overall scores of (B, A) scores: their mean, which for one aspect is the score itself."""
        overall: NDArray[np.float32] = scores.mean(axis=1, dtype=np.float32)
        return overall

    def prompts_cut(self, prompts: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each prompt is longer than the network reads; False where it reads none."""
        return np.zeros(len(prompts), bool) if self.reader is None else self.reader.cut(prompts)

    def raw_scores(self, images: Pixels, prompts: Sequence[str]) -> Tensor:
        """(B, A) raw scores of uint8 images and prompts with gradient for the weights, in one forward pass."""
        check_batch(images, prompts)
        return self._read(self.preparation.pixel_values(images), prompts)

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, A) scores of (B, H, W, 3) uint8 images and B prompts, in batches; raises `InputError` where they do not
        fit."""
        check_batch(images, prompts)
        training = self.training
        self.eval()
        parts = []
        with torch.inference_mode():
            count = self._images_a_pass()
            for first in range(0, len(images), count):
                rows = slice(first, first + count)
                parts.append(self.scaled(self.raw_scores(images[rows], prompts[rows])).float().cpu().numpy())
        self.train(training)
        return np.concatenate(parts)

    def _images_a_pass(self) -> int:
        if self.device.type != "cpu":
            return SCORING_BATCH
        return max(1, min(SCORING_BATCH, _CPU_PIXELS // self.preparation.side**2))

    def score_pictures(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """(B, A) scores of PIL images of any sizes and modes: the exact path."""
        check_prompts(len(pictures), prompts)
        if not pictures:
            raise InputError("there is no image to score", "Give at least one image.")
        return self.score(np.stack([self.preparation.fit_picture(picture) for picture in pictures]), prompts)

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, A) scores of (B, 3, H, W) pixels in [0, 1], differentiable with respect to the pixels.

        Where the network's own size is given it agrees with `score` within 1e-4; elsewhere it scales without rounding
        to 8 bits. Dropout is as the module's mode has it. Raises `InputError` for values outside [0, 1].
        """
        check_prompts(len(pixels), prompts)
        values = self.preparation.normalised(self.preparation.fit_pixels(pixels.to(self.device)))
        return self.scaled(self._read(values, prompts))

    def _read(self, values: Tensor, prompts: Sequence[str]) -> Tensor:
        if self.reader is None:
            ids = mask = torch.zeros((len(values), 0), dtype=torch.long, device=self.device)
        else:
            tokens = self.reader.tokens(prompts)
            ids, mask = (part[tokens.rows].to(self.device) for part in (tokens.ids, tokens.mask))
        scores: Tensor = self(values.to(self.device), ids, mask)
        return scores
