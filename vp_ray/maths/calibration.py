"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vp_ray.errors import InputError


@dataclass(frozen=True, slots=True)
class Bin:
    """The pairs whose predicted probability lies in low..high."""

    low: float
    high: float
    pairs: int
    predicted: float
    """Mean predicted probability."""
    observed: float
    """Mean label: how often the image was preferred."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The reliability curve and its mean distance from the diagonal."""

    error: float
    """Expected calibration error (Guo et al., arXiv 1706.04599): sum over bins of pairs / N |predicted - observed|."""
    bins: tuple[Bin, ...]
    """Bins that hold a pair, lowest first."""


def pair_calibration(probability: ArrayLike, label: ArrayLike, bins: int = 10) -> Calibration:
    """Calibration of (N,) probabilities that a is preferred to b, against (N,) labels of 0..1, in equal bins of 0.5..1.

    A pair counts from the side that is predicted to win, so that it does not matter which image is called a; a label
    of 0.5 is half a win. Raises `InputError` for no pair, other lengths and numbers outside 0..1.
    """
    predicted, wanted = np.asarray(probability, np.float64), np.asarray(label, np.float64)
    if predicted.shape != wanted.shape or predicted.ndim != 1 or not predicted.size:
        raise InputError("probabilities and labels are no pairs", "Give one of each for every pair, and at least one.")
    if not all(((values >= 0) & (values <= 1)).all() for values in (predicted, wanted)):
        raise InputError("a probability lies outside 0..1", "Give probabilities.")
    turned = predicted < 0.5
    predicted, wanted = np.where(turned, 1 - predicted, predicted), np.where(turned, 1 - wanted, wanted)
    places = np.minimum(((predicted - 0.5) * 2 * bins).astype(int), bins - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        edges = (float(0.5 + 0.5 * place / bins), float(0.5 + 0.5 * (place + 1) / bins))
        found.append(Bin(*edges, int(inside.sum()), float(predicted[inside].mean()), float(wanted[inside].mean())))
    error = sum(each.pairs * abs(each.predicted - each.observed) for each in found) / predicted.size
    return Calibration(float(error), tuple(found))
