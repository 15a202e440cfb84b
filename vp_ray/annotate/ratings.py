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

from vp_ray.maths.slots import fit_slots
from vp_ray.records import ASPECTS, LEVELS, RATINGS, Status

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
    prompt_J: Ints
    """Place of each judgement's prompt among all of them, by id."""
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
        prompt_J=np.unique(np.array(scored["prompt_id"].to_pylist(), np.str_), return_inverse=True)[1],
        annotator_J=scored["annotator"].to_pylist(),
        image_ids=images.dictionary.to_pylist(),
    )


@dataclass(frozen=True, slots=True)
class SlotEffect:
    """What the places in a message add to an opinion of an aspect, for one annotator and one size of group."""

    annotator: str
    aspect: str
    effect_S: Floats
    """Levels before they are cut off at 1 and 5, with mean 0 (`maths.slots`)."""
    standard_error_S: Floats
    """NaN where there is one prompt."""

    @property
    def advantage(self) -> Floats:
        """(S,): by how much each place is better than the mean of the others."""
        return self.effect_S * _against_others(len(self.effect_S))

    @property
    def advantage_error(self) -> Floats:
        """(S,): its standard error."""
        return self.standard_error_S * _against_others(len(self.effect_S))


def _against_others(slots: int) -> float:
    return slots / (slots - 1)


def slot_effects(levels: Levels) -> tuple[list[SlotEffect], Floats]:
    """The effect of each slot, and for each level the part of it that is removed (N,).

    An effect is one on the annotator's opinion, before it is cut off and rounded; it can be told because images stand
    in slots by hash. Removed is what the effect, shrunken by its standard error, is expected to have done to the level
    of that image: near nothing where the image is at 5 in any slot. Judgements of one image have no slots.
    """
    names = sorted(set(levels.annotator_J))
    annotator_N = np.searchsorted(names, levels.annotator_J)[levels.judgement_N] if names else levels.judgement_N
    size_N = levels.size_J[levels.judgement_N]
    removed_N = np.zeros_like(levels.level_N)
    effects = []
    cell_N = (annotator_N * len(ASPECTS) + levels.aspect_N) * (size_N.max(initial=0) + 1) + size_N
    for cell in np.unique(cell_N[size_N > 1]):
        chosen = np.flatnonzero(cell_N == cell)
        first = chosen[0]
        slot, level = levels.slot_N[chosen], levels.level_N[chosen].astype(np.int64) - 1
        known, image = np.unique(levels.image_N[chosen], return_inverse=True)
        counts = np.zeros((len(known), int(size_N[first]), len(LEVELS)), np.int16)
        np.add.at(counts, (image, slot, level), 1)
        prompt = np.zeros(len(known), np.int64)
        prompt[image] = levels.prompt_J[levels.judgement_N[chosen]]
        fit = fit_slots(counts, np.unique(prompt, return_inverse=True)[1])
        removed_N[chosen] = fit.shift_IS[image, slot]
        name, aspect = names[annotator_N[first]], ASPECTS[levels.aspect_N[first]]
        effects.append(SlotEffect(name, aspect, fit.model.effect_S, fit.standard_error_S))
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
