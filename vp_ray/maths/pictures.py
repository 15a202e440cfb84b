"""What a picture's numbers say without anybody looking at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian (4-neighbour) of the luminance of an (H, W, 3) picture, in squared grey levels."""
    grey = pixels.astype(np.float64) @ _LUMINANCE
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def brightness(pixels: NDArray[np.uint8]) -> float:
    """The mean luminance of an (H, W, 3) picture, 0 to 255."""
    return float((pixels.astype(np.float64) @ _LUMINANCE).mean())
