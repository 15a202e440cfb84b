"""Ratings of images from judgements: the effect of the place in the message removed, with standard errors.

Letters of shapes: N levels given (one an image, aspect and judgement), J judgements, S slots, A aspects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.records import ASPECTS, RATINGS, Status

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Levels:
    """All levels that were given, one entry a level."""

    judgement_N: Ints
    """Row of the judgement in the table of those that were scored."""
    image_N: Ints
    """Place in `image_ids`."""
    aspect_N: Ints
    """Place in `records.ASPECTS`."""
    slot_N: Ints
    """Place of the image in the message, from 0."""
    level_N: Floats
    size_J: Ints
    """Images of each judgement."""
    annotator_J: list[str]
    image_ids: list[str]


def collect(judgements: pa.Table) -> Levels:
    """The levels of all judgements that were scored."""
    scored = judgements.filter(pc.equal(judgements["status"], str(Status.SCORED)))
    lists = scored["levels"].combine_chunks()
    flat = lists.flatten()
    judgement_N = np.asarray(pc.list_parent_indices(lists), np.int64)
    given_J = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    size_J = np.asarray(pc.list_value_length(scored["order"]).combine_chunks(), np.int64)
    within_N = np.arange(len(judgement_N)) - np.repeat(np.cumsum(given_J) - given_J, given_J)
    images = flat.field("image_id").dictionary_encode()
    return Levels(
        judgement_N=judgement_N,
        image_N=np.asarray(images.indices, np.int64),
        aspect_N=np.asarray(pc.index_in(flat.field("aspect"), pa.array(ASPECTS)), np.int64),
        # A judgement lists its images as they were shown, each with all its aspects.
        slot_N=within_N * size_J[judgement_N] // given_J[judgement_N],
        level_N=np.asarray(flat.field("level"), np.float64),
        size_J=size_J,
        annotator_J=scored["annotator"].to_pylist(),
        image_ids=images.dictionary.to_pylist(),
    )


@dataclass(frozen=True, slots=True)
class SlotEffect:
    """What the places in a message add to an aspect's level, for one annotator and one size of group."""

    annotator: str
    aspect: str
    effect_S: Floats
    """Levels, with mean 0."""
    standard_error_S: Floats


def slot_effects(levels: Levels) -> tuple[list[SlotEffect], Floats]:
    """The effect of each slot, and for each level the part of it that is removed (N,).

    An effect is the mean, over an annotator's judgements of one size, of a level less the mean of its judgement and
    aspect; it is unbiased because images stand in slots by hash. Removed is the positive-part James-Stein shrunken
    effect, max(0, 1 - sum(se^2) / sum(effect^2)) effect, so that noise is not mistaken for bias.
    """
    names = sorted(set(levels.annotator_J))
    annotator_N = np.searchsorted(names, levels.annotator_J)[levels.judgement_N] if names else levels.judgement_N
    row_N = levels.judgement_N * len(ASPECTS) + levels.aspect_N
    sums, counts = np.bincount(row_N, levels.level_N), np.bincount(row_N)
    centred_N = levels.level_N - (sums / np.maximum(counts, 1))[row_N]
    size_N = levels.size_J[levels.judgement_N]
    removed_N = np.zeros_like(centred_N)
    effects = []
    cell_N = (annotator_N * len(ASPECTS) + levels.aspect_N) * (size_N.max(initial=0) + 1) + size_N
    for cell in np.unique(cell_N):
        chosen = cell_N == cell
        slot, value = levels.slot_N[chosen], centred_N[chosen]
        count = np.bincount(slot)
        effect = np.bincount(slot, value) / count
        spread = np.bincount(slot, (value - effect[slot]) ** 2) / np.maximum(count - 1, 1)
        variance = spread / count
        size = float((effect**2).sum())
        shrunk = max(0.0, 1.0 - float(variance.sum()) / size) if size > 0 and count.min() > 1 else 0.0
        removed_N[chosen] = shrunk * effect[slot]
        first = int(np.argmax(chosen))
        effects.append(
            SlotEffect(names[annotator_N[first]], ASPECTS[levels.aspect_N[first]], effect, np.sqrt(variance))
        )
    return effects, removed_N


def rate(levels: Levels, removed_N: Floats, index: pa.Table) -> pa.Table:
    """`records.RATINGS`: each image's mean level less the slot effects, in the order of `index`, aspects in theirs.

    The standard error is sqrt(s^2 / count), s^2 the variance of an aspect's levels about their images' means, pooled
    over all images; null where no image was judged twice. Images without a scored judgement have no rating.
    """
    aspects = len(ASPECTS)
    level_N = levels.level_N - removed_N
    key_N = levels.image_N * aspects + levels.aspect_N
    length = len(levels.image_ids) * aspects
    count = np.bincount(key_N, minlength=length)
    mean = np.bincount(key_N, level_N, minlength=length) / np.maximum(count, 1)
    squares = np.bincount(levels.aspect_N, (level_N - mean[key_N]) ** 2, minlength=aspects)
    repeats = np.maximum(count - 1, 0).reshape(-1, aspects).sum(0)
    variance = np.full(aspects, np.nan)
    np.divide(squares, repeats, out=variance, where=repeats > 0)
    error = np.sqrt(np.tile(variance, len(levels.image_ids)) / np.maximum(count, 1))

    place = np.asarray(
        pc.fill_null(pc.index_in(index["image_id"], pa.array(levels.image_ids, pa.string())), -1), np.int64
    )
    rows = np.flatnonzero(place >= 0)
    keys = (place[rows][:, None] * aspects + np.arange(aspects)).reshape(-1)
    rows, aspect = np.repeat(rows, aspects), np.tile(np.arange(aspects), len(rows))
    rated = count[keys] > 0
    keys, rows, aspect = keys[rated], pa.array(rows[rated]), pa.array(aspect[rated])
    columns: dict[str, Any] = {
        "image_id": index["image_id"].take(rows),
        "prompt_id": index["prompt_id"].take(rows),
        "generator": index["generator"].take(rows),
        "aspect": pa.array(ASPECTS).take(aspect),
        "mean": mean[keys],
        "standard_error": pa.array(error[keys], from_pandas=True),
        "count": count[keys],
    }
    return pa.table(columns).cast(RATINGS)
