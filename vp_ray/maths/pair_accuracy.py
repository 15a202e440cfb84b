"""How often a scorer prefers what the labels prefer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vp_ray.errors import InputError
from vp_ray.maths.intervals import Interval, clustered_mean

Averaging = Literal["pairs", "prompts"]
"""Micro: every pair weighs the same; macro: every prompt does, whatever its number of pairs."""

RULE: Final = (
    "a pair whose label is an exact tie is left out; a pair whose two scores are equal counts one half; 95 % intervals "
    "resample prompts"
)
"""What every accuracy of this package means."""


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """The share of decided pairs on which scorer and labels agree."""

    accuracy: Interval | None
    """None where the labels decide no pair."""
    pairs: int
    """Pairs that count."""
    label_ties: int
    """Pairs that were left out because their label is exactly 0.5."""
    score_ties: int
    """Pairs that count one half because their scores are equal."""


def pair_accuracy(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    probability_a: ArrayLike,
    prompt_ids: Sequence[str] | NDArray[np.str_],
    seed: int = 0,
    averaging: Averaging = "pairs",
) -> PairAccuracy:
    """Pair accuracy of (N,) pairs, with a bootstrap interval clustered by prompt.

    The rule: a pair whose label is an exact tie (probability_a = 0.5) is left out; a pair whose two scores are equal
    counts one half; any other counts 1 where the higher score is on the side of the higher probability, else 0. Pairs
    are pooled, so that a prompt of more pairs weighs more, unless `averaging` is "prompts": then the accuracies of the
    prompts are averaged. Raises `InputError` for numbers that are not finite, for probabilities outside 0..1 and for
    lengths that differ.
    """
    first, second = np.asarray(scores_a, np.float64), np.asarray(scores_b, np.float64)
    wanted, prompts = np.asarray(probability_a, np.float64), np.asarray(prompt_ids)
    if not first.shape == second.shape == wanted.shape == prompts.shape:
        raise InputError("scores, probabilities and prompts differ in number", "Give one of each for every pair.")
    if not np.isfinite(first - second).all() or not ((wanted >= 0) & (wanted <= 1)).all():
        raise InputError("a score is not finite or a probability outside 0..1", "Leave such pairs out, and count them.")
    decided = wanted != 0.5
    agreement = ((1 + np.sign(first - second) * np.sign(wanted - 0.5)) / 2)[decided]
    prompts = prompts[decided]
    count = int(decided.sum())
    if averaging == "prompts" and count:
        prompts, places = np.unique(prompts, return_inverse=True)
        agreement = np.bincount(places, weights=agreement) / np.bincount(places)
    accuracy = clustered_mean(agreement, prompts, seed=seed) if count else None
    score_ties = int((first[decided] == second[decided]).sum())
    return PairAccuracy(accuracy, count, int(wanted.size - count), score_ties)
