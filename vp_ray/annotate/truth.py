"""Whose answers count as true where annotators are compared: one of them, or the people of an import."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.annotate.choice import Differences, PairKey, choose, opinions_of
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.errors import InputError
from vp_ray.records import OVERALL
from vp_ray.storage import RunFolder


def rated(judgements: pa.Table, settings: AnnotateSettings) -> pa.Table:
    """The judgements that enter ratings: all but those of the annotator that the others are compared with."""
    truth = settings.choice.truth if settings.choice else None
    return judgements if truth is None else judgements.filter(pc.not_equal(judgements["annotator"], truth))


def choice_figures(
    settings: AnnotateSettings, judgements: pa.Table, figures: Mapping[str, Any], run: RunFolder
) -> dict[str, Any]:
    """The comparison of the annotators with the truth, as `choice`; nothing where none is wanted.

    `figures` are those of their biases and flips. Raises `InputError` where there is no truth to compare with.
    """
    wanted = settings.choice
    if wanted is None:
        return {}
    if wanted.truth is not None:
        named = wanted.truth
        truth = opinions_of(judgements.filter(pc.equal(judgements["annotator"], named))).get(named, {})
    else:
        named, source = "people", run.stage("import")
        names = (f"{name}.parquet" for name in ("rankings", "comparisons"))
        truth = people_of(*(source.read_table(name) if source.exists(name) else None for name in names))
    if not truth:
        raise InputError(
            f"there is no answer of '{named}' to compare with",
            "Name an annotator as annotate.choice.truth, or import people's choices.",
            "annotate.choice",
        )
    bias, flips = figures.get("slot_bias", {}), figures.get("orders_by_annotator", {})
    return {"choice": asdict(choose(rated(judgements, settings), truth, named, wanted.tolerance, bias, flips))}


def people_of(rankings: pa.Table | None, comparisons: pa.Table | None) -> Differences:
    """What the majority of imported people prefers: of rankings overall, of choices in their aspects."""
    votes: dict[PairKey, list[float]] = defaultdict(list)
    by_rater: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in rankings.to_pylist() if rankings is not None else ():
        by_rater[row["prompt_id"], row["rater"]][row["image_id"]] = row["rank"]
    for (prompt, _), ranks in by_rater.items():
        for first, second in combinations(sorted(ranks), 2):
            votes[prompt, OVERALL, first, second].append(float(np.sign(ranks[second] - ranks[first])))
    for row in comparisons.to_pylist() if comparisons is not None else ():
        if row["preferred_a"] is not None:
            value = 2 * row["preferred_a"] - 1
            first, second = sorted((row["image_id_a"], row["image_id_b"]))
            signed = value if first == row["image_id_a"] else -value
            votes[row["prompt_id"], row["aspect"], first, second].append(signed)
    return {key: float(np.mean(values)) for key, values in votes.items()}
