"""Answers about the same images side by side: what the other answers make one expect of each.

Letters of shapes: J judgements of K images, A aspects, P pairs of a group's images, N answers about pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.maths.link import Link, fit_link
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.records import ASPECTS, OVERALL, Status

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_ANSWERS: Final = 50_000
"""A link is fitted to no more; the slope's error is well below a hundredth then."""
_HALF_LEVEL: Final = 0.5


@dataclass(frozen=True, slots=True)
class JudgedGroups:
    """All complete judgements of K images, by annotators and orders alike."""

    level_JKA: Floats
    """Levels with the images of each judgement in the order of `image_JK`."""
    slot_JK: Ints
    """Place of each image in the message, from 0."""
    image_JK: Ints
    """Codes of the images, ascending within a judgement."""
    group_J: Ints
    """Number of the set of images."""
    annotator_J: Ints
    row_J: Ints
    """Row of each judgement in the table of those that were scored."""


def scored(judgements: pa.Table) -> pa.Table:
    """The judgements that carry levels."""
    return judgements.filter(pc.equal(judgements["status"], str(Status.SCORED)))


def judged_groups(answered: pa.Table) -> Iterator[JudgedGroups]:
    """The judgements of `scored`, one item a group size; judgements that lack a level are left out."""
    lists = answered["levels"].combine_chunks()
    flat = lists.flatten()
    judgement_N = np.asarray(pc.list_parent_indices(lists), np.int64)
    image_N = np.asarray(flat.field("image_id").dictionary_encode().indices, np.int64)
    aspect_N = np.asarray(pc.index_in(flat.field("aspect"), pa.array(ASPECTS)), np.int64)
    level_N = np.asarray(flat.field("level"), np.float64)
    annotator_J = np.asarray(answered["annotator"].combine_chunks().dictionary_encode().indices, np.int64)
    size_J = np.asarray(pc.list_value_length(answered["order"]).combine_chunks(), np.int64)
    given_J = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    complete_J = given_J == size_J * len(ASPECTS)
    for size in np.unique(size_J[complete_J]):
        rows = np.flatnonzero(complete_J & (size_J == size))
        chosen = np.flatnonzero((complete_J & (size_J == size))[judgement_N])
        shape = (len(rows), int(size), len(ASPECTS))
        image, level = image_N[chosen].reshape(shape), level_N[chosen].reshape(shape)
        # A judgement lists its images as they were shown, each with all its aspects, in whatever order of them.
        by_aspect = np.argsort(aspect_N[chosen].reshape(shape), axis=2)
        level = np.take_along_axis(level, by_aspect, axis=2)
        slot = np.argsort(image[:, :, 0], axis=1)
        images = np.take_along_axis(image[:, :, 0], slot, axis=1)
        _, group = np.unique(images, axis=0, return_inverse=True)
        yield JudgedGroups(
            np.take_along_axis(level, slot[:, :, None], axis=1), slot, images, group, annotator_J[rows], rows
        )


def without_slot_effects(groups: JudgedGroups) -> Floats:
    """(J, K, A) levels less the mean that each annotator adds to each place in the message."""
    size = groups.level_JKA.shape[1]
    centred = groups.level_JKA - groups.level_JKA.mean(axis=1, keepdims=True)
    cell_JK = groups.annotator_J[:, None] * size + groups.slot_JK
    count = np.bincount(cell_JK.ravel())
    sums = [np.bincount(cell_JK.ravel(), centred[:, :, place].ravel()) for place in range(len(ASPECTS))]
    return groups.level_JKA - np.stack([(part / np.maximum(count, 1))[cell_JK] for part in sums], axis=2)


def left_out_answers(judgements: pa.Table, settings: PreferenceSettings) -> dict[str, tuple[Floats, Floats]]:
    """By aspect and for `overall`, (N,) each: what the other answers about a pair expect of one answer, in standard
    errors, and what it was (1, 0.5 or 0).

    Only groups that were judged more than once tell; places in the message are allowed for first. An answer ties two
    images that it puts less than half a level apart, or `overall_tie_levels` overall.
    """
    weight_A = np.array([settings.overall_weights.get(aspect, 0.0) for aspect in ASPECTS])
    weight_A = weight_A / weight_A.sum()
    parts = []
    squares, repeats = np.zeros(len(ASPECTS)), 0
    for groups in judged_groups(scored(judgements)):
        count_J = np.bincount(groups.group_J)[groups.group_J]
        level = without_slot_effects(groups)
        sums = np.zeros((int(groups.group_J.max(initial=-1)) + 1, *level.shape[1:]))
        np.add.at(sums, groups.group_J, level)
        mean_JKA = sums[groups.group_J] / count_J[:, None, None]
        squares += ((level - mean_JKA) ** 2).sum(axis=(0, 1))
        repeats += level.shape[1] * int(len(count_J) - len(sums))
        again = count_J > 1
        others = (sums[groups.group_J] - level)[again] / (count_J[again] - 1)[:, None, None]
        left, right = np.triu_indices(level.shape[1], 1)
        own_JPA = level[again][:, left] - level[again][:, right]
        others_JPA = others[:, left] - others[:, right]
        answers_J = np.broadcast_to((count_J[again] - 1)[:, None], own_JPA.shape[:2])
        parts.append((own_JPA.reshape(-1, len(ASPECTS)), others_JPA.reshape(-1, len(ASPECTS)), answers_J.reshape(-1)))
    if not repeats:
        return {}
    own, others = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    answers = np.concatenate([part[2] for part in parts]).astype(np.float64)
    # Prompts come in the order of their hashes or of a file: every n-th answer is a fair sample.
    step = -(-len(own) // MOST_ANSWERS) if len(own) else 1
    own, others, answers = own[::step], others[::step], answers[::step]
    least = settings.level_noise**2
    variance_A = squares / repeats
    # Two images, each with the error of the mean of the others and that of the answer itself.
    variance_NA = 2 * (np.maximum(variance_A / answers[:, None], least) + np.maximum(variance_A, least))
    found = {}
    for place, aspect in enumerate(ASPECTS):
        found[aspect] = _expected(own[:, place], others[:, place], variance_NA[:, place], _HALF_LEVEL)
    variance = variance_NA @ weight_A**2
    found[OVERALL] = _expected(own @ weight_A, others @ weight_A, variance, settings.overall_tie_levels)
    return found


def _expected(own: Floats, others: Floats, variance: Floats, tie: float) -> tuple[Floats, Floats]:
    return others / np.sqrt(variance), np.where(np.abs(own) < tie, 0.5, (1 + np.sign(own)) / 2)


def fit_links(judgements: pa.Table | None, settings: PreferenceSettings) -> dict[str, Link]:
    """The link of each aspect and of `overall`; of slope 1, the default, where answers are few or it is not fitted."""
    links = dict.fromkeys((*ASPECTS, OVERALL), Link())
    if judgements is None or settings.link == "normal":
        return links
    for aspect, (expected, outcome) in left_out_answers(judgements, settings).items():
        if int((outcome != 0.5).sum()) >= settings.link_answers:
            links[aspect] = fit_link(expected, outcome)
    return links


def link_figures(links: Mapping[str, Link]) -> dict[str, Any]:
    """Each aspect's slope, what it was fitted to, and whether it was."""
    return {aspect: asdict(link) for aspect, link in links.items()}
