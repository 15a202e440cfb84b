"""The reference for a scorer: how often one person agrees with the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vp_ray.maths.pair_accuracy import Averaging, PairAccuracy, pair_accuracy


@dataclass(frozen=True, slots=True)
class Vote:
    """One person on one pair of images: 1 where the first is preferred, -1 the second, 0 a tie."""

    prompt_id: str
    pair: tuple[str, str]
    rater: str
    sign: float


def votes_of_rankings(rows: Iterable[Mapping[str, Any]]) -> list[Vote]:
    """Everybody's votes on all pairs of the images of a prompt, from rows of `records.RANKINGS`."""
    ranks: dict[str, dict[str, dict[str, int]]] = {}
    for row in rows:
        ranks.setdefault(row["prompt_id"], {}).setdefault(row["image_id"], {})[row["rater"]] = row["rank"]
    votes = []
    for prompt_id, images in ranks.items():
        names = sorted(images)
        for place, second in enumerate(names):
            for first in names[:place]:
                for rater in sorted(images[first].keys() & images[second].keys()):
                    sign = float(np.sign(images[second][rater] - images[first][rater]))
                    votes.append(Vote(prompt_id, (first, second), rater, sign))
    return votes


def votes_of_comparisons(rows: Iterable[Mapping[str, Any]], aspect: str) -> list[Vote]:
    """Votes of rows of `records.COMPARISONS` on an aspect; abstentions are none."""
    votes = []
    for row in rows:
        if row["aspect"] == aspect and row["preferred_a"] is not None:
            first, second = row["image_id_a"], row["image_id_b"]
            sign = 2 * row["preferred_a"] - 1
            pair, sign = ((first, second), sign) if first < second else ((second, first), -sign)
            votes.append(Vote(row["prompt_id"], pair, row["rater"], float(sign)))
    return votes


def one_against_the_others(votes: Iterable[Vote], averaging: Averaging = "pairs") -> PairAccuracy:
    """How often one person prefers what the majority of the others prefers, over all people and pairs.

    Pairs on which the others are divided evenly, or on which there are no others, are left out; a person's own tie
    counts one half.
    """
    by_pair: dict[tuple[str, tuple[str, str]], list[float]] = {}
    for vote in votes:
        by_pair.setdefault((vote.prompt_id, vote.pair), []).append(vote.sign)
    own: list[float] = []
    others: list[float] = []
    prompts: list[str] = []
    for (prompt_id, _), signs in by_pair.items():
        total = sum(signs)
        for sign in signs:
            own.append(sign)
            others.append(0.5 + float(np.sign(total - sign)) / 2)
            prompts.append(prompt_id)
    return pair_accuracy(own, np.zeros(len(own)), others, prompts, averaging=averaging)
