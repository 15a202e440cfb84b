"""What people's votes say: which model they prefer, how far they agree, and what the scorers are worth by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from scipy import optimize
from scipy.special import expit

from vp_ray.maths.intervals import Interval, clustered_mean
from vp_ray.maths.pair_accuracy import PairAccuracy, pair_accuracy
from vp_ray.vote.ballots import Pair

_MOST_SLOPE: Final = 1e3


@dataclass(frozen=True, slots=True)
class Calibration:
    """One scorer by the votes of one aspect."""

    scorer: str
    aspect: str
    agreement: PairAccuracy
    """How often the scorer prefers what the people prefer, who decide a pair by majority."""
    slope: float | None
    """k of P(tuned preferred) = sigmoid(k (score of tuned - score of base)), of greatest likelihood by all votes; None
    where every difference is 0."""


@dataclass(frozen=True, slots=True)
class VoteResult:
    """All votes of one aspect."""

    aspect: str
    raters: int
    votes: int
    """Votes that decide or tie; abstentions are left out."""
    abstentions: int
    tuned_preferred: Interval
    """Share of votes for the tuned model, ties as one half, with a 95 % interval by prompts."""
    left_preferred: float
    """Share of votes for the image on the left; one half where nobody favours a side."""
    same_when_turned: float | None
    """Share of the pairs that a rater saw in both orders in which they chose the same image, or a tie, twice."""
    raters_agree: float | None
    """Share of the pairs of two raters' decided votes on one pair that are equal."""


@dataclass(frozen=True, slots=True)
class _Vote:
    pair: tuple[str, str]
    prompt_id: str
    rater: str
    for_left: float
    for_tuned: float


def _votes(table: pa.Table, pairs: Sequence[Pair], aspect: str) -> tuple[list[_Vote], int]:
    """Votes on pairs that are still there, and the number of abstentions."""
    tuned = {shown.image_id: shown.is_tuned for pair in pairs for shown in (pair.first, pair.second)}
    votes, abstentions = [], 0
    for row in table.to_pylist():
        if row["aspect"] != aspect or row["image_id_a"] not in tuned:
            continue
        value = row["preferred_a"]
        if value is None:
            abstentions += 1
            continue
        left, right = row["image_id_a"], row["image_id_b"]
        base, other = (right, left) if tuned[left] else (left, right)
        votes.append(_Vote((base, other), row["prompt_id"], row["rater"], value, value if tuned[left] else 1.0 - value))
    return votes, abstentions


def result_of(table: pa.Table, pairs: Sequence[Pair], aspect: str) -> VoteResult | None:
    """The votes of one aspect, from a table of `records.COMPARISONS`; None where there is none."""
    votes, abstentions = _votes(table, pairs, aspect)
    if not votes:
        return None
    twice: dict[tuple[str, tuple[str, str]], list[float]] = defaultdict(list)
    by_rater: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        twice[vote.rater, vote.pair].append(vote.for_tuned)
        by_rater[vote.pair][vote.rater].append(vote.for_tuned)
    turned = [values[0] == values[1] for values in twice.values() if len(values) == 2]
    equal: list[bool] = []
    for answers in by_rater.values():
        means = [float(np.mean(values)) for values in answers.values()]
        decided = [mean > 0.5 for mean in means if mean != 0.5]
        equal += [decided[i] == decided[j] for i in range(len(decided)) for j in range(i)]
    return VoteResult(
        aspect=aspect,
        raters=len({vote.rater for vote in votes}),
        votes=len(votes),
        abstentions=abstentions,
        tuned_preferred=clustered_mean([vote.for_tuned for vote in votes], [vote.prompt_id for vote in votes]),
        left_preferred=float(np.mean([vote.for_left for vote in votes])),
        same_when_turned=float(np.mean(turned)) if turned else None,
        raters_agree=float(np.mean(equal)) if equal else None,
    )


def calibrate(table: pa.Table, pairs: Sequence[Pair], scores: pa.Table, aspect: str) -> list[Calibration]:
    """Each scorer of a table of `records.SCORES` by the votes of one aspect, in the order of the table."""
    votes, _ = _votes(table, pairs, aspect)
    known: dict[str, dict[str, float]] = {}
    for row in scores.to_pylist():
        if row["aspect"] == aspect:
            known.setdefault(row["scorer"], {})[row["image_id"]] = row["score"]
    found = []
    for scorer, score in known.items():
        of_scorer = [vote for vote in votes if vote.pair[0] in score and vote.pair[1] in score]
        if of_scorer:
            found.append(_calibration(scorer, aspect, of_scorer, score))
    return found


def _calibration(scorer: str, aspect: str, votes: Sequence[_Vote], score: dict[str, float]) -> Calibration:
    by_pair: dict[tuple[str, str], list[_Vote]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.pair].append(vote)
    agreement = pair_accuracy(
        [score[tuned] for _, tuned in by_pair],
        [score[base] for base, _ in by_pair],
        [float(np.mean([vote.for_tuned for vote in given])) for given in by_pair.values()],
        [given[0].prompt_id for given in by_pair.values()],
    )
    difference = np.array([score[vote.pair[1]] - score[vote.pair[0]] for vote in votes])
    chosen = np.array([vote.for_tuned for vote in votes])
    return Calibration(scorer, aspect, agreement, _slope(difference, chosen))


def _slope(difference: np.ndarray[Any, Any], chosen: np.ndarray[Any, Any]) -> float | None:
    """The slope at which the derivative of the log-likelihood, sum d (y - sigmoid(k d)), is 0.

    It falls with k, so there is one; where the votes follow the scorer's sign without exception it is the largest that
    is looked for.
    """
    if not difference.any():
        return None

    def derivative(slope: float) -> float:
        return float((difference * (chosen - expit(slope * difference))).sum())

    most = _MOST_SLOPE / float(np.abs(difference).max())
    if derivative(most) >= 0:
        return most
    if derivative(-most) <= 0:
        return -most
    return float(optimize.brentq(derivative, -most, most))
