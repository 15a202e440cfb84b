"""What the judgements say of the annotators: agreement between orders, flips, slot effects, use of the levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.annotate.ratings import Floats, Levels, SlotEffect
from vp_ray.maths.agreement import flip_counts, quadratic_kappa
from vp_ray.records import ASPECTS, LEVELS, Status


def order_pairs(judgements: pa.Table) -> list[tuple[int, int]]:
    """Rows, among the judgements that were scored, of the first two by one annotator of the same images."""
    scored = judgements.filter(pc.equal(judgements["status"], str(Status.SCORED)))
    seen: dict[tuple[str, ...], list[int]] = {}
    for row, (annotator, order) in enumerate(
        zip(scored["annotator"].to_pylist(), scored["order"].to_pylist(), strict=True)
    ):
        seen.setdefault((annotator, *sorted(order)), []).append(row)
    return [(rows[0], rows[1]) for rows in seen.values() if len(rows) > 1]


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


def order_figures(levels: Levels, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Flip rate and quadratic kappa between two orders of the same images, by aspect; None where undefined."""
    if not pairs:
        return {"orders_compared": 0}
    table = level_table(levels)
    first, second = (table[[pair[side] for pair in pairs]] for side in (0, 1))
    flips, decided, kappas = {}, {}, {}
    for place, aspect in enumerate(ASPECTS):
        a, b = first[:, place], second[:, place]
        flips[aspect], decided[aspect] = flip_counts(a, b)
        both = np.isfinite(a) & np.isfinite(b)
        kappas[aspect] = _number(quadratic_kappa(a[both], b[both], len(LEVELS)))
    total = sum(decided.values())
    return {
        "orders_compared": len(pairs),
        "flip_rate": sum(flips.values()) / total if total else None,
        "flip_rate_by_aspect": {name: flips[name] / decided[name] if decided[name] else None for name in ASPECTS},
        "kappa_by_aspect": kappas,
    }


def level_figures(levels: Levels, effects: Sequence[SlotEffect]) -> dict[str, Any]:
    """How often each level was given by aspect, and what each slot of the most common group size adds."""
    counts = np.zeros((len(ASPECTS), len(LEVELS)), np.int64)
    np.add.at(counts, (levels.aspect_N, levels.level_N.astype(np.int64) - 1), 1)
    sizes = np.bincount(levels.size_J)
    common = int(sizes.argmax()) if len(sizes) else 0
    bias: dict[str, dict[str, list[float]]] = {}
    for effect in effects:
        if len(effect.effect_S) == common:
            bias.setdefault(effect.annotator, {})[effect.aspect] = [round(float(x), 4) for x in effect.effect_S]
    return {
        "level_counts": {aspect: counts[place].tolist() for place, aspect in enumerate(ASPECTS)},
        "slot_bias": bias,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
