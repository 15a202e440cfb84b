"""How often a scorer prefers what the labels prefer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vp_ray.errors import InputError
from vp_ray.maths.intervals import Interval, clustered_mean


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """The share of decided pairs on which scorer and labels agree."""

    accuracy: Interval | None
    """None where the labels decide no pair."""
    pairs: int
    """Pairs that count."""
    label_ties: int
    """Pairs that were left out because their label is exactly 0.5."""


def pair_accuracy(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    probability_a: ArrayLike,
    prompt_ids: Sequence[str] | NDArray[np.str_],
    seed: int = 0,
) -> PairAccuracy:
    """Pooled pair accuracy of (N,) pairs, with a bootstrap interval clustered by prompt.

    The rule: a pair whose label is an exact tie (probability_a = 0.5) is left out; a pair whose two scores are equal
    counts one half; any other counts 1 where the higher score is on the side of the higher probability, else 0. Pairs
    are pooled, so a prompt of more pairs weighs more. Raises `InputError` for numbers that are not finite, for
    probabilities outside 0..1 and for lengths that differ.
    """
    first, second = np.asarray(scores_a, np.float64), np.asarray(scores_b, np.float64)
    wanted, prompts = np.asarray(probability_a, np.float64), np.asarray(prompt_ids)
    if not first.shape == second.shape == wanted.shape == prompts.shape:
        raise InputError("scores, probabilities and prompts differ in number", "Give one of each for every pair.")
    if not np.isfinite(first - second).all() or not ((wanted >= 0) & (wanted <= 1)).all():
        raise InputError("a score is not finite or a probability outside 0..1", "Leave such pairs out, and count them.")
    decided = wanted != 0.5
    agreement = (1 + np.sign(first - second) * np.sign(wanted - 0.5)) / 2
    count = int(decided.sum())
    accuracy = clustered_mean(agreement[decided], prompts[decided], seed=seed) if count else None
    return PairAccuracy(accuracy, count, int(wanted.size - count))
