"""Which shape a blob is: templates of the renderer are laid over its soft mask, and the best soft IoU wins."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vp_ray.shapeworld.render import shape_coverage
from vp_ray.shapeworld.scenes import SHAPES

Mask = NDArray[np.float32]
"""(H, W) shares in 0..1."""

_MARGIN: Final = 3
_ROUNDS: Final = ((1.0, 0.10), (0.5, 0.05), (0.2, 0.02))
"""Half-widths of each search round: pixels of the centre, share of the radius."""

_STEPS: Final = np.array(list(itertools.product((0, -1, 1), repeat=3)), np.float32)
"""The start itself comes first, so that it wins when nothing is better."""
_CLIMBS: Final = 4
"""How often the first round is repeated at most: a blob that is cut off by the mark has wrong moments."""


@dataclass(frozen=True, slots=True)
class ShapeFit:
    """The template that covers a blob best: shape, centre and radius in pixels, soft IoU (0..1), coverage (H, W)."""

    shape: str
    x: float
    y: float
    radius: float
    overlap: float
    coverage: Mask


def soft_iou(masks: Mask, target: Mask, weight: Mask) -> NDArray[np.float32]:
    """sum(w min(m, t)) / sum(w max(m, t)) of (N, H, W) masks with one (H, W) target, as (N,) in 0..1."""
    known = weight.ravel()
    shared = np.minimum(masks, target).reshape(len(masks), -1) @ known
    either = masks.reshape(len(masks), -1) @ known + target.ravel() @ known - shared
    return np.asarray(shared / np.maximum(either, 1e-9))


def _starts(mask: Mask) -> dict[str, tuple[float, float, float]]:
    """Centre and radius of each shape from the mask's area and centre of mass."""
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    area = float(rows.sum())
    y = float(rows @ (np.arange(len(rows)) + 0.5)) / area
    x = float(columns @ (np.arange(len(columns)) + 0.5)) / area
    triangle = np.sqrt(area / 2)
    return {
        "circle": (x, y, np.sqrt(area / np.pi)),
        "square": (x, y, np.sqrt(area) / 1.8),
        "triangle": (x, y - triangle / 3, triangle),
    }


def _neighbours(start: tuple[float, float, float], pixels: float, share: float) -> NDArray[np.float32]:
    """(27, 3) of x, y and radius: the start and one step to each side of each."""
    return np.array(start, np.float32) + _STEPS * np.array((pixels, pixels, share * start[2]), np.float32)


def fit_shape(mask: Mask, weight: Mask) -> ShapeFit:
    """The best template for a soft mask (H, W); pixels of weight 0 are unknown and count for nothing.

    The search starts from the moments of the mask, takes the shape that fits best after one round, and refines it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(0, int(rows[0]) - _MARGIN), max(0, int(columns[0]) - _MARGIN)
    side = max(int(rows[-1]) - top, int(columns[-1]) - left) + 1 + _MARGIN
    window = (slice(top, top + side), slice(left, left + side))
    cut, known = mask[window], weight[window]
    height, width = cut.shape

    def best_of(shape: str, candidates: NDArray[np.float32]) -> tuple[float, tuple[float, float, float]]:
        x, y, radius = (candidates[:, column, None, None] for column in range(3))
        coverage = shape_coverage(shape, x, y, radius, side)[:, :height, :width]
        overlaps = soft_iou(coverage, cut, known)
        place = int(overlaps.argmax())
        best = candidates[place]
        return float(overlaps[place]), (float(best[0]), float(best[1]), float(best[2]))

    def climb(shape: str, place: tuple[float, float, float]) -> tuple[float, tuple[float, float, float]]:
        for _ in range(_CLIMBS):
            before = place
            overlap, place = best_of(shape, _neighbours(place, *_ROUNDS[0]))
            if max(abs(a - b) for a, b in zip(place, before, strict=True)) < 1e-3:
                break
        return overlap, place

    starts = _starts(cut)
    rounds = {shape: climb(shape, starts[shape]) for shape in SHAPES}
    shape = max(SHAPES, key=lambda name: rounds[name][0])
    overlap, place = rounds[shape]
    for pixels, share in _ROUNDS[1:]:
        overlap, place = best_of(shape, _neighbours(place, pixels, share))
    x, y, radius = place[0] + left, place[1] + top, place[2]
    return ShapeFit(shape, x, y, radius, overlap, shape_coverage(shape, x, y, radius, mask.shape[0]))
