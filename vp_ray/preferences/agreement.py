"""How far annotators agree beyond chance, whether they change with time, and how they use the levels.

Letters of shapes: N levels or verdicts, L levels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import combinations
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.maths.agreement import krippendorff_alpha_of_counts, quadratic_kappa
from vp_ray.maths.intervals import clustered_standard_error
from vp_ray.preferences.answers import Answers
from vp_ray.preferences.levels import judged_groups, scored
from vp_ray.preferences.rows import COLUMNS
from vp_ray.records import ASPECTS, LEVELS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WINDOWS: Final = 10
_MOST_KAPPAS: Final = 20
"""Annotators of more than this are too many for a table of pairs."""
_NORMAL_95: Final = 1.959964


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


class GivenLevels:
    """Every level of all complete judgements: image, aspect, annotator, time and prompt of each."""

    def __init__(self, judgements: pa.Table) -> None:
        answered = scored(judgements)
        self.annotators = sorted(pc.unique(answered["annotator"]).to_pylist())
        by_name = np.asarray(pc.index_in(answered["annotator"], pa.array(self.annotators, pa.string())), np.int64)
        at = answered["answered_at"].to_numpy() if "answered_at" in answered.schema.names else None
        time_J = np.full(answered.num_rows, np.nan) if at is None else np.asarray(at, np.float64)
        prompts = answered["prompt_id"].combine_chunks().dictionary_encode()
        rank = np.argsort(np.asarray(pc.array_sort_indices(prompts.dictionary)))
        self.prompts = rank[np.asarray(prompts.indices, np.int64)]
        levels, images, rows = [np.empty((0, len(ASPECTS)))], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for groups in judged_groups(answered):
            levels.append(groups.level_JKA.reshape(-1, len(ASPECTS)))
            images.append(groups.image_JK.reshape(-1))
            rows.append(np.repeat(groups.row_J, groups.image_JK.shape[1]))
        self.level_NA = np.concatenate(levels)
        self.image_N = np.concatenate(images)
        self.row_N = np.concatenate(rows)
        self.annotator_N = by_name[self.row_N]
        self.time_N = time_J[self.row_N]

    def histograms(self) -> dict[str, Any]:
        """How often each annotator gave each level, by aspect."""
        return {
            name: {
                aspect: _counts(self.level_NA[self.annotator_N == number, place]).tolist()
                for place, aspect in enumerate(ASPECTS)
            }
            for number, name in enumerate(self.annotators)
        }

    def agreement(self) -> dict[str, Any]:
        """Krippendorff's alpha (ordinal) over all answers and between annotators, and kappas of two annotators.

        Between annotators each one's answers about an image are first averaged and rounded, so that orders of one
        annotator do not count as agreement between several; None where there is nothing to compare.
        """
        images = int(self.image_N.max(initial=-1)) + 1
        answers: dict[str, float | None] = {}
        between: dict[str, float | None] = {}
        kappas: dict[str, dict[str, float | None]] = {}
        for place, aspect in enumerate(ASPECTS):
            level = self.level_NA[:, place]
            answers[aspect] = _alpha(self.image_N, level, images)
            means = np.full((len(self.annotators), images), np.nan)
            for number in range(len(self.annotators)):
                own = self.annotator_N == number
                count = np.bincount(self.image_N[own], minlength=images)
                total = np.bincount(self.image_N[own], level[own], images)
                np.divide(total, count, out=means[number], where=count > 0)
            given = np.isfinite(means)
            number_N, image_N = np.nonzero(given)
            rounded = np.floor(means + 0.5)
            several = len(self.annotators) > 1
            between[aspect] = _alpha(image_N, rounded[number_N, image_N], images) if several else None
            for one, other in combinations(range(min(len(self.annotators), _MOST_KAPPAS)), 2):
                both = given[one] & given[other]
                pair = f"{self.annotators[one]} and {self.annotators[other]}"
                kappa = quadratic_kappa(rounded[one, both], rounded[other, both], len(LEVELS))
                kappas.setdefault(pair, {})[aspect] = _number(kappa)
        return {"alpha_of_answers": answers, "alpha_between_annotators": between, "kappa": kappas}

    def drift(self) -> dict[str, Any]:
        """Each annotator's mean level over the time of its answers: in ten windows of equally many answers, and the
        change from the first answer to the last by a straight line, with its 95 % interval by prompts.

        Prompts are asked in an order that has nothing to do with what their images are worth, so that a change is the
        annotator's. Annotators whose answers carry no times, or all the same, are left out.
        """
        found: dict[str, Any] = {}
        for number, name in enumerate(self.annotators):
            own = np.flatnonzero((self.annotator_N == number) & np.isfinite(self.time_N))
            span = np.ptp(self.time_N[own]) if len(own) else 0.0
            if span <= 0:
                continue
            own = own[np.argsort(self.time_N[own], kind="stable")]
            share = (self.time_N[own] - self.time_N[own[0]]) / span
            windows = np.array_split(np.arange(len(own)), min(_WINDOWS, len(own)))
            prompts = self.prompts[self.row_N[own]]
            aspects = {}
            for place, aspect in enumerate(ASPECTS):
                level = self.level_NA[own, place]
                means = [float(level[window].mean()) for window in windows]
                aspects[aspect] = {"windows": means} | _change(share, level, prompts)
            found[name] = {"from": float(self.time_N[own[0]]), "to": float(self.time_N[own[-1]]), "aspects": aspects}
        return found


def _counts(level_N: Floats) -> Ints:
    return np.bincount(level_N.astype(np.int64), minlength=len(LEVELS) + 1)[1:]


def _alpha(item_N: Ints, level_N: Floats, items: int) -> float | None:
    counts = np.zeros((items, len(LEVELS)))
    np.add.at(counts, (item_N, level_N.astype(np.int64) - 1), 1)
    return _number(krippendorff_alpha_of_counts(counts))


def _change(share_N: Floats, value_N: Floats, prompts: NDArray[np.str_] | Ints) -> dict[str, float | None]:
    """The slope of a straight line over 0..1 and its 95 % interval, its error robust within prompts."""
    centred = share_N - share_N.mean()
    spread = float((centred**2).mean())
    slope = float((centred * value_N).mean()) / spread
    residual = value_N - value_N.mean() - slope * centred
    error = clustered_standard_error(centred * residual / spread, prompts)
    low, high = (None, None) if error is None else (slope - _NORMAL_95 * error, slope + _NORMAL_95 * error)
    return {"change": slope, "low": low, "high": high}


def people_agreement(answers: Answers) -> dict[str, Any]:
    """How far people's verdicts on the same pairs agree, by aspect: Krippendorff's alpha, ordinal over worse, tie and
    better, and the share of two people's verdicts that are the same.

    Each pair is counted both ways round, since which image comes first means nothing; chance is then one half.
    """
    found: dict[str, Any] = {}
    count = len(answers.images.ids)
    answered = np.isfinite(answers.preferred_N)
    for place, aspect in enumerate(COLUMNS):
        rows = np.flatnonzero(answered & (answers.aspect_N == place))
        if not len(rows):
            continue
        pair, item = np.unique(answers.first_N[rows] * count + answers.second_N[rows], return_inverse=True)
        verdict = np.clip(np.rint(answers.preferred_N[rows] * 2), 0, 2).astype(np.int64)
        counts = np.zeros((len(pair), 3))
        np.add.at(counts, (item, verdict), 1)
        number = counts.sum(1)
        same, possible = (counts * (counts - 1)).sum(), (number * (number - 1)).sum()
        found[aspect] = {
            "alpha": _number(krippendorff_alpha_of_counts(np.concatenate([counts, counts[:, ::-1]]))),
            "same_verdict": float(same / possible) if possible else None,
            "pairs": len(pair),
            "answers": len(rows),
            "people": len(np.unique(answers.rater_N[rows])),
        }
    return found


def people_drift(answers: Answers) -> dict[str, Any]:
    """How often the image that was shown first wins, over the time of all answers; empty without times."""
    rows = np.flatnonzero(np.isfinite(answers.time_N) & np.isfinite(answers.preferred_N) & (answers.shown_first_N != 0))
    span = np.ptp(answers.time_N[rows]) if len(rows) else 0.0
    if span <= 0:
        return {}
    rows = rows[np.argsort(answers.time_N[rows], kind="stable")]
    preferred = answers.preferred_N[rows]
    won = np.where(answers.shown_first_N[rows] > 0, preferred, 1 - preferred)
    share = (answers.time_N[rows] - answers.time_N[rows[0]]) / span
    prompts = answers.images.prompt_M[answers.first_N[rows]].astype(np.str_)
    windows = np.array_split(np.arange(len(rows)), min(_WINDOWS, len(rows)))
    return {
        "people": {
            "from": float(answers.time_N[rows[0]]),
            "to": float(answers.time_N[rows[-1]]),
            "aspects": {
                "shown_first_wins": {"windows": [float(won[window].mean()) for window in windows]}
                | _change(share, won, prompts)
            },
        }
    }


def rating_histograms(ratings: pa.Table) -> dict[str, dict[str, list[int]]]:
    """How often the mean level of each generator's images rounds to each level, by aspect."""
    found: dict[str, dict[str, list[int]]] = defaultdict(dict)
    names, aspects = (
        pc.fill_null(ratings[column], "unknown").combine_chunks().dictionary_encode()
        for column in ("generator", "aspect")
    )
    name_N, aspect_N = (np.asarray(codes.indices, np.int64) for codes in (names, aspects))
    level = np.clip(np.floor(np.asarray(ratings["mean"], np.float64) + 0.5), 1, len(LEVELS))
    given = np.isfinite(level)
    for name in sorted(pc.unique(names).to_pylist()):
        own = given & (name_N == names.dictionary.index(name).as_py())
        for aspect in sorted(pc.unique(aspects).to_pylist()):
            chosen = level[own & (aspect_N == aspects.dictionary.index(aspect).as_py())]
            found[name][aspect] = _counts(chosen).tolist()
    return dict(found)
