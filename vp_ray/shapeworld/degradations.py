"""Pictures as a weak generator leaves them: blurred, noisy, warped; how much of each is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_WARP_GRID: Final = 6


@dataclass(frozen=True, slots=True)
class Degradation:
    """How far a picture is from its render: Gaussian blur (pixels), warp (pixels), noise (of 255)."""

    blur: float = 0.0
    warp: float = 0.0
    noise: float = 0.0


def draw_degradation(rng: np.random.Generator, clean_share: float = 0.4) -> Degradation:
    """Nothing with probability `clean_share`, else each part absent or up to 1.2 px blur, 0.8 px warp, 25 noise."""
    if rng.random() < clean_share:
        return Degradation()
    blur, warp, noise = rng.random(3) * (1.2, 0.8, 25.0) * (rng.random(3) < 0.5)
    return Degradation(float(blur), float(warp), float(noise))


def degrade(image: NDArray[np.uint8], degradation: Degradation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The (H, W, 3) picture warped, blurred and made noisy, in this order."""
    pixels = image.astype(np.float32)
    height, width = pixels.shape[:2]
    if degradation.warp > 0:
        coarse = rng.normal(0.0, degradation.warp, (2, _WARP_GRID, _WARP_GRID))
        field = np.stack([ndimage.zoom(part, (height / _WARP_GRID, width / _WARP_GRID), order=1) for part in coarse])
        places = np.mgrid[0:height, 0:width] + field
        pixels = np.stack(
            [ndimage.map_coordinates(pixels[..., c], places, order=1, mode="nearest") for c in range(3)], axis=-1
        )
    if degradation.blur > 0:
        pixels = ndimage.gaussian_filter(pixels, (degradation.blur, degradation.blur, 0), mode="nearest")
    if degradation.noise > 0:
        pixels = pixels + rng.normal(0.0, degradation.noise, pixels.shape).astype(np.float32)
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
