"""What the judgements say of the annotators: what each place in a message adds, and how the levels are used."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vp_ray.annotate.agreement import scored
from vp_ray.annotate.ratings import Levels, SlotEffect
from vp_ray.maths.intervals import clustered_standard_error
from vp_ray.records import ASPECTS, LEVELS


def first_shown_figures(judgements: pa.Table) -> dict[str, Any]:
    """By annotator and aspect, how often the first of two images wins, ties as halves, with its standard error by
    prompts: 0.5 without position bias, as long as images come first by chance."""
    won: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    answered = scored(judgements).select(["annotator", "prompt_id", "order", "choices"])
    for row in answered.to_pylist():
        for choice in row["choices"]:
            preferred = choice["preferred"]
            value = 0.5 if preferred is None else float(preferred == row["order"][0])
            won[row["annotator"], choice["aspect"]].append((value, row["prompt_id"]))
    found: dict[str, dict[str, dict[str, float | int | None]]] = {}
    for (annotator, aspect), values in sorted(won.items(), key=lambda item: (item[0][0], ASPECTS.index(item[0][1]))):
        share = np.array([value for value, _ in values])
        found.setdefault(annotator, {})[aspect] = {
            "share": float(share.mean()),
            "standard_error": clustered_standard_error(share, np.array([prompt for _, prompt in values])),
            "answers": len(share),
        }
    return {"first_shown_wins": found}


def level_figures(levels: Levels, effects: Sequence[SlotEffect]) -> dict[str, Any]:
    """How often each level was given by aspect, and by how much each slot of the most common group size is better than
    the others, with standard errors."""
    counts = np.zeros((len(ASPECTS), len(LEVELS)), np.int64)
    np.add.at(counts, (levels.aspect_N, levels.level_N.astype(np.int64) - 1), 1)
    sizes = np.bincount(levels.size_J)
    common = int(sizes.argmax()) if len(sizes) else 0
    bias: dict[str, dict[str, list[float]]] = {}
    errors: dict[str, dict[str, list[float | None]]] = {}
    for effect in effects:
        if len(effect.effect_S) == common:
            bias.setdefault(effect.annotator, {})[effect.aspect] = [round(float(x), 4) for x in effect.advantage]
            known = [_number(float(error)) for error in effect.advantage_error]
            errors.setdefault(effect.annotator, {})[effect.aspect] = known
    return {
        "level_counts": {aspect: counts[place].tolist() for place, aspect in enumerate(ASPECTS)},
        "slot_bias": bias,
        "slot_bias_error": errors,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
