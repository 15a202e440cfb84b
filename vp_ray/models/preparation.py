"""How a picture of any size becomes what a network sees: exactly, from 8-bit pixels, and with gradient, from floats.

Letters of shapes: B images, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vp_ray.errors import InputError
from vp_ray.protocols import Pixels

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)

_SLACK: Final = 1e-3


@dataclass(frozen=True, slots=True)
class _Placement:
    """The size to which a picture is scaled, and where in it the network's square begins; below zero it is padded."""

    height: int
    width: int
    top: int
    left: int


def _short_side(height: int, width: int, side: int) -> tuple[int, int]:
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def _crop(height: int, width: int, side: int) -> _Placement:
    """torchvision's Resize and CenterCrop, which ImageReward and OpenAI's CLIP use."""
    height, width = _short_side(height, width, side)
    return _Placement(height, width, round((height - side) / 2), round((width - side) / 2))


def _crop_floor(height: int, width: int, side: int) -> _Placement:
    """transformers' CLIP processor: the same, with odd margins halved downwards."""
    height, width = _short_side(height, width, side)
    return _Placement(height, width, (height - side) // 2, (width - side) // 2)


def _pad(height: int, width: int, side: int) -> _Placement:
    """The whole picture with black bars, as HPS v2 sees it."""
    scale = side / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    return _Placement(height, width, -((side - height) // 2), -((side - width) // 2))


def _squash(height: int, width: int, side: int) -> _Placement:
    """The whole picture, its sides made equal, as SigLIP and BLIP were trained."""
    return _Placement(side, side, 0, 0)


_FITS: Final[Mapping[str, Callable[[int, int, int], _Placement]]] = {
    "crop": _crop,
    "crop_floor": _crop_floor,
    "pad": _pad,
    "squash": _squash,
}


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a network is shown of a picture."""

    side: int
    """Side of the square that it sees, in pixels."""
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    fit: str = "crop"
    """`crop` (torchvision's arithmetic), `crop_floor` (transformers'), `pad` or `squash`; all scale bicubically."""

    def __post_init__(self) -> None:
        if self.fit not in _FITS:
            raise InputError(f"'{self.fit}' is no way to fit pictures", f"Use one of: {', '.join(_FITS)}.", "fit")

    def fit_picture(self, picture: Image.Image) -> NDArray[np.uint8]:
        """(side, side, 3) uint8 RGB, exactly as the published code has it."""
        place = _FITS[self.fit](picture.height, picture.width, self.side)
        rgb = picture.convert("RGB")
        if rgb.size != (place.width, place.height):
            rgb = rgb.resize((place.width, place.height), Image.Resampling.BICUBIC)
        return np.asarray(rgb.crop((place.left, place.top, place.left + self.side, place.top + self.side)))

    def fit_images(self, images: Pixels) -> Pixels:
        """(B, side, side, 3) uint8, each image as `fit_picture` has it."""
        if images.shape[1:3] == (self.side, self.side):
            return images
        return np.stack([self.fit_picture(Image.fromarray(image)) for image in images])

    def fit_pixels(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) of (B, 3, H, W) pixels in [0, 1], differentiable: bicubic with a low-pass filter, clamped.

        Raises `InputError` for another shape, integers, or values outside [0, 1].
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or 0 in pixels.shape or not pixels.is_floating_point():
            raise InputError(
                f"pixels are {pixels.dtype} {tuple(pixels.shape)}", "Give floats of shape (images, 3, height, width)."
            )
        low, high = (float(bound) for bound in torch.aminmax(pixels.detach()))
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise InputError(
                f"pixels range from {low:.3g} to {high:.3g}", "Give values in [0, 1]; of [-1, 1] take x / 2 + 0.5."
            )
        place = _FITS[self.fit](pixels.shape[2], pixels.shape[3], self.side)
        if pixels.shape[2:] != (place.height, place.width):
            size = (place.height, place.width)
            pixels = functional.interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
            pixels = pixels.clamp(0, 1)
        bottom, right = (start + self.side for start in (place.top, place.left))
        # Negative widths crop, positive ones pad with black.
        return functional.pad(pixels, (-place.left, right - place.width, -place.top, bottom - place.height))

    def normalised(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) of fitted pixels in [0, 1], less the mean and divided by the standard deviation."""
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def pixel_values(self, images: Pixels) -> Tensor:
        """(B, 3, side, side) float32: what the network sees of (B, H, W, 3) uint8 images."""
        fitted = np.ascontiguousarray(self.fit_images(images))
        return self.normalised(torch.from_numpy(fitted.copy()).permute(0, 3, 1, 2).float() / 255)
