"""How far answers about the same images agree: in two orders, of two annotators, and asked again."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.annotate.ratings import Floats, Levels
from vp_ray.maths.agreement import flip_counts, krippendorff_alpha, mean_kendall_tau_b, quadratic_kappa
from vp_ray.records import ASPECTS, Status

RowPair = tuple[int, int]

VERDICTS: Final = 3
"""Worse, tie and better, the levels of `choice_table`."""
_TIED: Final = (2.0, 2.0)


@dataclass(frozen=True, slots=True)
class AnswerPairs:
    """Two answers about the same images and aspects, as rows among the judgements that were scored."""

    orders: dict[str, list[RowPair]]
    """By annotator: its answers in two orders."""
    annotators: dict[str, list[RowPair]]
    """By two names: answers in the same order."""
    samples: dict[str, list[RowPair]]
    """By annotator: successive answers to one and the same request."""


def answer_pairs(judgements: pa.Table) -> AnswerPairs:
    """All pairs of answers that differ in nothing but the order, the annotator or the sample."""
    answered = scored(judgements)
    columns = (answered[name].to_pylist() for name in ("annotator", "order", "aspects", "sample"))
    by_order: dict[tuple[Any, ...], list[tuple[tuple[str, ...], int]]] = defaultdict(list)
    by_annotator: dict[tuple[Any, ...], list[tuple[str, int]]] = defaultdict(list)
    by_sample: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for row, (annotator, order, aspects, sample) in enumerate(zip(*columns, strict=True)):
        about = tuple(aspects or ASPECTS)
        by_order[annotator, tuple(sorted(order)), about, sample].append((tuple(order), row))
        by_annotator[tuple(order), about, sample].append((annotator, row))
        by_sample[annotator, tuple(order), about].append((sample or 0, row))
    found = AnswerPairs(defaultdict(list), defaultdict(list), defaultdict(list))
    for (annotator, *_), rows in by_order.items():
        found.orders[annotator] += [(a[1], b[1]) for a, b in combinations(rows, 2) if a[0] != b[0]]
    for named in by_annotator.values():
        for one, other in combinations(sorted(named), 2):
            if one[0] != other[0]:
                found.annotators[f"{one[0]} and {other[0]}"].append((one[1], other[1]))
    for (annotator, *_), numbered in by_sample.items():
        pairs = pairwise(sorted(numbered))
        found.samples[annotator] += [(before[1], after[1]) for before, after in pairs if before[0] != after[0]]
    return found


def scored(judgements: pa.Table) -> pa.Table:
    """The judgements that say something of their images."""
    return judgements.filter(pc.equal(judgements["status"], str(Status.SCORED)))


def level_table(levels: Levels) -> Floats:
    """(J, A, I) levels with the images of each judgement in the order of their ids' places, NaN beyond its size."""
    judgements, largest = len(levels.size_J), int(levels.size_J.max(initial=0))
    table = np.full((judgements, len(ASPECTS), largest), np.nan)
    row_N = levels.judgement_N * len(ASPECTS) + levels.aspect_N
    sorted_N = np.lexsort((levels.image_N, row_N))
    counts = np.bincount(row_N, minlength=judgements * len(ASPECTS))
    rank_N = np.arange(len(row_N)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[levels.judgement_N[sorted_N], levels.aspect_N[sorted_N], rank_N] = levels.level_N[sorted_N]
    return table


def choice_table(judgements: pa.Table) -> Floats:
    """(J, A, 2) of the scored judgements of pairs: 3 for the preferred image, 1 for the other, 2 for both of a tie; the
    images in the order of their ids, NaN in aspects that were not asked."""
    answered = scored(judgements)
    table = np.full((answered.num_rows, len(ASPECTS), 2), np.nan)
    for row, (order, choices) in enumerate(
        zip(answered["order"].to_pylist(), answered["choices"].to_pylist(), strict=True)
    ):
        for choice in choices:
            won = (
                _TIED
                if choice["preferred"] is None
                else (3.0, 1.0)
                if choice["preferred"] == min(order)
                else (1.0, 3.0)
            )
            table[row, ASPECTS.index(choice["aspect"])] = won
    return table


def agreement(table: Floats, pairs: Sequence[RowPair], levels: int) -> dict[str, Any]:
    """How far the two answers of each pair agree, of a (J, A, I) table of levels; by aspect, None where undefined.

    Flips among the pairs of images that both decide; of the levels, quadratic-weighted kappa and Krippendorff's alpha
    (ordinal); of the ranks within a group, the mean of Kendall's tau-b.
    """
    first, second = (table[[pair[side] for pair in pairs]] for side in (0, 1))
    found: dict[str, Any] = {"compared": len(pairs)}
    flips, decided = {}, {}
    by_aspect: dict[str, dict[str, float | None]] = {"kappa_by_aspect": {}, "alpha_by_aspect": {}, "tau_by_aspect": {}}
    for place, aspect in enumerate(ASPECTS):
        a, b = first[:, place], second[:, place]
        flips[aspect], decided[aspect] = flip_counts(a, b)
        both = np.isfinite(a) & np.isfinite(b)
        given = np.stack([a[both], b[both]], axis=1)
        by_aspect["kappa_by_aspect"][aspect] = _number(quadratic_kappa(given[:, 0], given[:, 1], levels))
        by_aspect["alpha_by_aspect"][aspect] = _number(krippendorff_alpha(given, levels))
        by_aspect["tau_by_aspect"][aspect] = _number(mean_kendall_tau_b(a, b))
    total = sum(decided.values())
    found["flip_rate"] = sum(flips.values()) / total if total else None
    found["flip_rate_by_aspect"] = {name: flips[name] / decided[name] if decided[name] else None for name in ASPECTS}
    return found | by_aspect


def agreement_figures(table: Floats, judgements: pa.Table, levels: int) -> dict[str, Any]:
    """Agreement of orders over all annotators, and of each one's orders, of two annotators and of samples."""
    pairs = answer_pairs(judgements)
    everyone = [pair for found in pairs.orders.values() for pair in found]
    overall = agreement(table, everyone, levels) if everyone else {"compared": 0}
    by_kind = {
        "orders_by_annotator": pairs.orders,
        "between_annotators": pairs.annotators,
        "between_samples": pairs.samples,
    }
    return {
        "orders_compared": overall.pop("compared"),
        **overall,
        **{
            kind: {name: agreement(table, rows, levels) for name, rows in sorted(found.items()) if rows}
            for kind, found in by_kind.items()
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
