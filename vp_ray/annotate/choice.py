"""Which annotator to take: agreement with the truth, price and bias of each on the same groups, and advice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vp_ray.annotate.agreement import scored
from vp_ray.errors import InputError
from vp_ray.maths.intervals import clustered_mean
from vp_ray.maths.pair_accuracy import pair_accuracy
from vp_ray.records import ASPECTS, OVERALL, Status

PairKey = tuple[str, str, str, str]
"""Prompt, aspect and two images in the order of their ids."""
Differences = dict[PairKey, float]
"""By how much the first image is better; 0 is a tie."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Choice:
    """The comparison."""

    truth: str
    """Whose answers count as true."""
    rows: list[dict[str, Any]]
    """One an annotator, the most accurate first."""
    by_aspect: list[dict[str, Any]]
    """Accuracies by annotator and aspect."""
    recommended: str
    reason: str


def choose(
    judgements: pa.Table,
    truth: Differences,
    named: str,
    tolerance: float,
    bias: Mapping[str, Mapping[str, Sequence[float]]],
    flips: Mapping[str, Mapping[str, Any]],
) -> Choice:
    """Compares the annotators of `judgements` (`records.JUDGEMENTS`, without those of the truth).

    Accuracy is that of their mean opinions over all orders, on the pairs that the truth decides, in the aspect overall
    where the truth has it and else over all its aspects; `usd` is for 1,000 images with all their orders; `bias` is the
    largest size of a slot's effect in levels. Recommended is the cheapest annotator that lacks less than `tolerance` of
    the best one's accuracy, by the end of the 95 % interval of their difference on the same pairs. Raises `InputError`
    where no annotator and the truth have a pair in common.
    """
    opinions = opinions_of(judgements)
    aspects = {aspect for _, aspect, _, _ in truth}
    main = {OVERALL} if OVERALL in aspects else aspects
    right = {name: _right(found, truth, main) for name, found in opinions.items()}
    right = {name: found for name, found in right.items() if found}
    if not right:
        raise InputError(
            f"no annotator judged a pair of images that '{named}' decides", "Look at the statuses.", "annotate.choice"
        )
    rows = [_row(name, found, judgements, bias, flips) for name, found in right.items()]
    rows.sort(key=lambda row: -row["accuracy"])
    best = rows[0]["annotator"]
    for row in rows:
        row["behind"] = _behind(right[best], right[row["annotator"]]) if row["annotator"] != best else None
    by_aspect = [
        {"annotator": name, "aspect": aspect} | _accuracy(_right(opinions[name], truth, {aspect}))
        for name in right
        for aspect in (OVERALL, *ASPECTS)
        if aspect in aspects and _right(opinions[name], truth, {aspect})
    ]
    return Choice(named, rows, by_aspect, *_recommend(rows, tolerance))


def opinions_of(judgements: pa.Table) -> dict[str, Differences]:
    """By annotator its mean opinion of every two images of a prompt, overall where it judged all four aspects."""
    levels: dict[str, dict[tuple[str, str], dict[str, list[int]]]] = defaultdict(lambda: defaultdict(dict))
    chosen: dict[str, dict[PairKey, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in scored(judgements).select(["annotator", "prompt_id", "order", "levels", "choices"]).to_pylist():
        for entry in row["levels"] or ():
            of_aspect = levels[row["annotator"]][row["prompt_id"], entry["aspect"]]
            of_aspect.setdefault(entry["image_id"], []).append(entry["level"])
        for entry in row["choices"] or ():
            first, second = sorted(row["order"])
            preferred = entry["preferred"]
            value = 0.0 if preferred is None else 1.0 if preferred == first else -1.0
            chosen[row["annotator"]][row["prompt_id"], entry["aspect"], first, second].append(value)
    found: dict[str, Differences] = {}
    for name, by_aspect in levels.items():
        found[name] = {}
        for (prompt, aspect), images in by_aspect.items():
            means = {image: float(np.mean(given)) for image, given in images.items()}
            for first, second in combinations(sorted(means), 2):
                found[name][prompt, aspect, first, second] = means[first] - means[second]
    for name, pairs in chosen.items():
        found[name] = {key: float(np.mean(values)) for key, values in pairs.items()}
    return {name: differences | _overall(differences) for name, differences in found.items()}


def _overall(differences: Differences) -> Differences:
    sums: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (prompt, _, first, second), value in differences.items():
        sums[prompt, first, second].append(value)
    return {
        (prompt, OVERALL, first, second): float(np.mean(values))
        for (prompt, first, second), values in sums.items()
        if len(values) == len(ASPECTS)
    }


def _right(opinion: Differences, truth: Differences, aspects: set[str]) -> dict[PairKey, float]:
    """By decided pair 1 where both agree, a half where the annotator sees a tie, else 0."""
    common = (key for key in sorted(opinion.keys() & truth.keys()) if key[1] in aspects)
    return {key: (1 + _sign(opinion[key]) * _sign(truth[key])) / 2 for key in common if abs(truth[key]) > _ROUNDING}


def _sign(value: float) -> float:
    return 0.0 if abs(value) <= _ROUNDING else float(np.sign(value))


def _accuracy(right: Mapping[PairKey, float]) -> dict[str, Any]:
    values = np.array(list(right.values()))
    found = pair_accuracy(values, np.full(len(values), 0.5), np.ones(len(values)), [key[0] for key in right])
    assert found.accuracy is not None, "there is a decided pair"  # noqa: S101
    interval = found.accuracy
    return {"accuracy": interval.mean, "low": interval.low, "high": interval.high, "pairs": found.pairs}


def _behind(best: Mapping[PairKey, float], other: Mapping[PairKey, float]) -> dict[str, Any] | None:
    """What the other lacks of the best's accuracy on the pairs of both, with its interval by prompts."""
    common = [key for key in best if key in other]
    if not common:
        return None
    gap: NDArray[np.float64] = np.array([best[key] - other[key] for key in common])
    return asdict(clustered_mean(gap, [key[0] for key in common]))


def _row(
    name: str,
    right: Mapping[PairKey, float],
    judgements: pa.Table,
    bias: Mapping[str, Mapping[str, Sequence[float]]],
    flips: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    columns = ["annotator", "order", "status", "request_tokens", "reply_tokens", "cost_usd"]
    own = [row for row in judgements.select(columns).to_pylist() if row["annotator"] == name]
    answered = [row for row in own if row["status"] == Status.SCORED]
    images = {image for row in answered for image in row["order"]}
    costs = [row["cost_usd"] for row in own]
    slots = [abs(effect) for effects in bias.get(name, {}).values() for effect in effects]
    return {
        "annotator": name,
        **_accuracy(right),
        "usd": None if None in costs else 1000 * sum(costs) / len(images),
        "request_tokens": _mean([row["request_tokens"] for row in answered]),
        "reply_tokens": _mean([row["reply_tokens"] for row in answered]),
        "bias": max(slots) if slots else None,
        "flip_rate": flips.get(name, {}).get("flip_rate"),
        "answered": len(answered) / len(own),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _recommend(rows: Sequence[Mapping[str, Any]], tolerance: float) -> tuple[str, str]:
    """Who, and why; `rows` begin with the most accurate."""
    best = rows[0]
    percent = f"{100 * best['accuracy']:.1f} %"
    if any(row["usd"] is None for row in rows):
        return best["annotator"], f"It is the most accurate, {percent}; not every price is known."
    enough = [row for row in rows[1:] if _is_near(row, tolerance) and row["usd"] < best["usd"]]
    points = f"{100 * tolerance:g} points"
    if not enough:
        return best[
            "annotator"
        ], f"It is the most accurate, {percent}, and no cheaper one is surely within {points} of it."
    found = min(enough, key=lambda row: (row["usd"], -row["accuracy"]))
    return found["annotator"], (
        f"1,000 images cost {found['usd']:.2f} dollars where {best['annotator']} takes {best['usd']:.2f}, and with"
        f" {100 * found['accuracy']:.1f} % it is surely within {points} of that one's {percent}."
    )


def _is_near(row: Mapping[str, Any], tolerance: float) -> bool:
    behind = row["behind"]
    return behind is not None and behind["high"] is not None and behind["high"] <= tolerance
