"""Images and prompts as VP-Score's networks take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vp_ray.errors import InputError
from vp_ray.models.reward_config import VPScoreConfig
from vp_ray.protocols import Pixels

_PAD_TO: Final = 8


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Tokens (P, T) and mask (P, T) of P distinct prompts, and which of them each of B rows has."""

    ids: Tensor
    mask: Tensor
    rows: Tensor


def check_batch(images: Pixels, prompts: Sequence[str]) -> None:
    """Raises `InputError` unless images are (B, H, W, 3) uint8 with B prompts, B at least 1."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        shape, kind = getattr(images, "shape", None), getattr(images, "dtype", type(images).__name__)
        raise InputError(f"images are {kind} {shape}", "Give uint8 RGB pixels of shape (images, height, width, 3).")
    if len(images) == 0 or 0 in images.shape:
        raise InputError("there is no image to score", "Give at least one image with at least one pixel.")
    if len(prompts) != len(images):
        raise InputError(f"{len(prompts)} prompts do not fit {len(images)} images", "Give one prompt for each image.")
    wrong = [type(prompt).__name__ for prompt in prompts if not isinstance(prompt, str)]
    if wrong:
        raise InputError(f"a prompt is a {wrong[0]} and no text", "Give each prompt as a string.")


def fit_images(images: Pixels, side: int) -> Pixels:
    """(B, side, side, 3) uint8: scaled (bicubic) to the shorter side and centre-cropped, as ImageReward does."""
    if images.shape[1:3] == (side, side):
        return images
    fitted = [ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in fitted])


def pixel_values(images: Pixels, config: VPScoreConfig) -> Tensor:
    """(B, 3, side, side) float32, normalised with the backbone's mean and standard deviation."""
    fitted = np.ascontiguousarray(fit_images(images, config.image_side))
    values = torch.from_numpy(fitted.copy()).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(config.image_mean), torch.tensor(config.image_std)
    return (values - mean[:, None, None]) / std[:, None, None]


def prompt_tokens(tokenizer: Any, prompts: Sequence[str], limit: int) -> PromptTokens:
    """Tokens of the distinct prompts, cut at `limit` and padded to a multiple of 8."""
    distinct = list(dict.fromkeys(prompts))
    places = {prompt: place for place, prompt in enumerate(distinct)}
    tokens = tokenizer(
        distinct,
        padding=True,
        pad_to_multiple_of=_PAD_TO if limit % _PAD_TO == 0 else None,
        truncation=True,
        max_length=limit,
        return_tensors="pt",
    )
    rows = torch.tensor([places[prompt] for prompt in prompts])
    return PromptTokens(tokens.input_ids, tokens.attention_mask, rows)


def cut_prompts(tokenizer: Any, prompts: Sequence[str], limit: int) -> int:
    """How many of the prompts are longer than `limit` tokens."""
    return sum(len(ids) > limit for ids in tokenizer(list(prompts), truncation=False).input_ids)
