"""Images and prompts as the networks of scorers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vp_ray.errors import InputError
from vp_ray.protocols import Pixels

_PAD_TO: Final = 8


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Tokens (P, T) and mask (P, T) of P distinct prompts, and which of them each of B rows has."""

    ids: Tensor
    mask: Tensor
    rows: Tensor


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Turns prompts into tokens, cut at a limit."""

    tokenizer: Any
    limit: int
    """Longest prompt in tokens, with those that mark its begin and end."""
    fills: bool = False
    """Pads every prompt to the limit and masks nothing, as SigLIP was trained."""

    def tokens(self, prompts: Sequence[str]) -> PromptTokens:
        """Tokens of the distinct prompts, cut at `limit` and padded to a multiple of 8 where the limit is one."""
        distinct = list(dict.fromkeys(prompts))
        places = {prompt: place for place, prompt in enumerate(distinct)}
        tokens = self.tokenizer(
            distinct,
            padding="max_length" if self.fills else True,
            pad_to_multiple_of=_PAD_TO if self.limit % _PAD_TO == 0 else None,
            truncation=True,
            max_length=self.limit,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = torch.ones_like(tokens.input_ids) if self.fills else tokens.attention_mask
        return PromptTokens(tokens.input_ids, mask, torch.tensor([places[prompt] for prompt in prompts]))

    def cut(self, prompts: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each prompt is longer than `limit` tokens, so that its end is not read."""
        distinct = list(dict.fromkeys(prompts))
        ids = self.tokenizer(distinct, truncation=False, verbose=False).input_ids if distinct else []
        longer = {prompt: len(tokens) > self.limit for prompt, tokens in zip(distinct, ids, strict=True)}
        return np.array([longer[prompt] for prompt in prompts], bool)


def check_batch(images: Pixels, prompts: Sequence[str]) -> None:
    """Raises `InputError` unless images are (B, H, W, 3) uint8 with B prompts, B at least 1."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        shape, kind = getattr(images, "shape", None), getattr(images, "dtype", type(images).__name__)
        raise InputError(f"images are {kind} {shape}", "Give uint8 RGB pixels of shape (images, height, width, 3).")
    if len(images) == 0 or 0 in images.shape:
        raise InputError("there is no image to score", "Give at least one image with at least one pixel.")
    check_prompts(len(images), prompts)


def check_prompts(images: int, prompts: Sequence[str]) -> None:
    """Raises `InputError` unless there is one text for each image."""
    if len(prompts) != images:
        raise InputError(f"{len(prompts)} prompts do not fit {images} images", "Give one prompt for each image.")
    wrong = [type(prompt).__name__ for prompt in prompts if not isinstance(prompt, str)]
    if wrong:
        raise InputError(f"a prompt is a {wrong[0]} and no text", "Give each prompt as a string.")
