"""How much pictures differ, from the features that an encoder gives them.

    diversity = sum over features of their variance over pictures = half the mean squared distance of two pictures

Letters of shapes: N pictures, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def feature_variance(features: ArrayLike) -> float:
    """The total variance of (N, F) features; 0 where all pictures are alike, and for one picture."""
    values = np.asarray(features, np.float64)
    return float(values.var(axis=0).sum())


@dataclass(frozen=True, slots=True)
class VarianceShare:
    """Total variances of two sets of pictures, and the second over the first."""

    base: float
    tuned: float
    share: float
    low: float | None
    high: float | None
    """The share's 95 % interval; None for a single prompt."""
    within_base: float | None
    within_tuned: float | None
    """Variances about the mean of each prompt's pictures; None where a prompt has one picture."""


def variance_share(
    base: ArrayLike, tuned: ArrayLike, prompts: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> VarianceShare:
    """Of (N, F) features of pictures by two models for the same prompts, with a bootstrap over prompts.

    A draw's variance comes from sums and sums of squares of the prompts that it takes. Where the base's pictures are
    all alike the share is 1.
    """
    before, after = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    names, places = np.unique(np.asarray(prompts), return_inverse=True)
    count = np.bincount(places).astype(np.float64)
    whole = [feature_variance(side) for side in (before, after)]
    within = [_within(side, places, count) if count.max() > 1 else None for side in (before, after)]
    low = high = None
    if len(names) > 1:
        taken = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
        variances = [_drawn(side, places, count, taken) for side in (before, after)]
        shares = variances[1][variances[0] > 0] / variances[0][variances[0] > 0]
        if shares.size:
            low, high = (float(end) for end in np.quantile(shares, [0.025, 0.975]))
    share = whole[1] / whole[0] if whole[0] > 0 else 1.0
    return VarianceShare(whole[0], whole[1], share, low, high, within[0], within[1])


def _sums(features: Floats, places: NDArray[np.intp], prompts: int) -> Floats:
    sums = np.zeros((prompts, features.shape[1]))
    np.add.at(sums, places, features)
    return sums


def _within(features: Floats, places: NDArray[np.intp], count: Floats) -> float:
    means = _sums(features, places, len(count)) / count[:, None]
    return float(np.square(features - means[places]).sum() / len(features))


def _drawn(features: Floats, places: NDArray[np.intp], count: Floats, taken: NDArray[np.int64]) -> Floats:
    """(D,) total variances of D draws of prompts, E[x^2] - E[x]^2 about the mean of all."""
    centred = features - features.mean(axis=0)
    total = taken @ count
    means = (taken @ _sums(centred, places, len(count))) / total[:, None]
    squares = (taken @ _sums(np.square(centred).sum(axis=1)[:, None], places, len(count)))[:, 0] / total
    found: Floats = squares - np.square(means).sum(axis=1)
    return found
