"""How sure a mean is: intervals that treat the values of one prompt as one observation, and counts of wins.

Images of one prompt resemble each other, so every interval here resamples prompts (clusters) and not rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from vp_ray.errors import InputError

Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
DRAWS: Final = 10_000
_DRAWN_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it lies with the stated confidence; the ends are None where one cluster cannot tell."""

    mean: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def _by_cluster(
    values: ArrayLike, clusters: Sequence[str] | NDArray[np.str_] | NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Sum and number of the values of each cluster, (C,) and (C,), in the sorted order of the clusters' names."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) != len(clusters):
        raise InputError(
            f"{array.shape} values do not fit {len(clusters)} clusters", "Give one cluster for each value."
        )
    if not array.size:
        raise InputError("there are no values to average", "Give at least one.")
    if not np.isfinite(array).all():
        raise InputError("a value is not a finite number", "Leave out what has no value, and count it.")
    names, places = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros(len(names))
    np.add.at(sums, places, array)
    return sums, np.bincount(places).astype(np.float64)


def clustered_mean(
    values: ArrayLike,
    clusters: Sequence[str] | NDArray[np.str_],
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The mean of (N,) values and its percentile bootstrap interval over clusters (Efron 1979).

    Each draw takes as many clusters as there are, with replacement, and averages their values; a cluster of more
    values weighs more, as it does in the mean. The order of the rows does not matter. Raises `InputError` for
    values that are missing, not finite or do not fit their clusters.
    """
    sums, counts = _by_cluster(values, clusters)
    mean = float(sums.sum() / counts.sum())
    size = len(sums)
    if size == 1:
        return Interval(mean, None, None)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, _DRAWN_AT_ONCE // size)
    for first in range(0, draws, step):
        chosen = rng.integers(size, size=(min(step, draws - first), size))
        means[first : first + step] = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    # Equal values differ in their last digit after summing; the mean is inside by definition.
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def paired_gain(
    base: ArrayLike,
    tuned: ArrayLike,
    clusters: Sequence[str] | NDArray[np.str_],
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The mean of `tuned - base` over (N,) pairs with its interval by clusters; a pair shares prompt and noise."""
    before, after = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    if before.shape != after.shape:
        raise InputError(f"{before.shape} and {after.shape} values are no pairs", "Give both values of each pair.")
    return clustered_mean(after - before, clusters, confidence=confidence, draws=draws, seed=seed)


def clustered_standard_error(
    values: ArrayLike, clusters: Sequence[str] | NDArray[np.str_] | NDArray[np.int64]
) -> float | None:
    """The standard error of the mean, robust to any dependence within clusters; None for a single cluster.

    se^2 = C / (C - 1) * sum_c (S_c - n_c * mean)^2 / N^2 with S_c the sum and n_c the number of cluster c's values
    (Liang & Zeger 1986); with one value a cluster it is the ordinary standard error.
    """
    sums, counts = _by_cluster(values, clusters)
    size, total = len(sums), counts.sum()
    if size == 1:
        return None
    residuals = sums - counts * (sums.sum() / total)
    return float(np.sqrt(size / (size - 1) * np.square(residuals).sum()) / total)


def minimum_detectable_gain(
    differences: ArrayLike,
    clusters: Sequence[str] | NDArray[np.str_],
    *,
    confidence: float = CONFIDENCE,
    power: float = 0.8,
) -> float | None:
    """The smallest true gain that a comparison of this size finds with probability `power`; None for one cluster.

    (z_{(1 + confidence) / 2} + z_power) * standard error, with the spread of the (N,) paired differences at hand.
    """
    error = clustered_standard_error(differences, clusters)
    if error is None:
        return None
    return float(special.ndtri((1 + confidence) / 2) + special.ndtri(power)) * error


def wilson_interval(successes: int, total: int, *, confidence: float = CONFIDENCE) -> Interval:
    """The share of successes in independent trials and its interval (Wilson 1927), which stays within 0..1.

    Raises `InputError` where there was no trial.
    """
    if not 0 <= successes <= total or total == 0:
        raise InputError(f"{successes} of {total} is no share", "Give at least one trial.")
    share = successes / total
    squared = float(special.ndtri((1 + confidence) / 2)) ** 2
    centre = (share + squared / (2 * total)) / (1 + squared / total)
    reach = np.sqrt(squared * (share * (1 - share) / total + squared / (4 * total**2))) / (1 + squared / total)
    return Interval(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


@dataclass(frozen=True, slots=True)
class WinCounts:
    """How often the second of a pair was better, equal or worse."""

    wins: int
    ties: int
    losses: int

    @property
    def p_value(self) -> float:
        """Two-sided exact sign test: how likely so uneven a split is by chance alone; ties are left out."""
        decided = self.wins + self.losses
        if decided == 0:
            return 1.0
        return min(1.0, 2 * float(special.bdtr(min(self.wins, self.losses), decided, 0.5)))


def win_counts(differences: ArrayLike, tolerance: float = 1e-9) -> WinCounts:
    """Wins, ties and losses of (N,) differences; what lies within `tolerance` of zero is a tie."""
    array = np.asarray(differences, np.float64)
    wins, losses = int((array > tolerance).sum()), int((array < -tolerance).sum())
    return WinCounts(wins, array.size - wins - losses, losses)
