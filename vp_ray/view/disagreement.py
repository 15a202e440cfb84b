"""Which pairs of images two judgements put the other way round, for all pairs at once.

Letters of shapes: J judgements, S images of the largest prompt, A aspects, P pairs, N pairs times their judgements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.records import ASPECTS, OVERALL

Ints = NDArray[np.int64]
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Judged:
    """The levels of judgements by the place of the image within its prompt."""

    level_JSA: NDArray[np.int8]
    """0 where none was given."""


def judged_levels(judgements: pa.Table, rows: Ints, image_ids: pa.Array, slot_I: Ints) -> Judged:
    """The levels of the judgements in `rows` of a table with `levels`; levels of unknown images are left out."""
    if not len(rows):
        return Judged(np.zeros((0, 0, len(ASPECTS)), np.int8))
    lists = judgements["levels"].combine_chunks().take(pa.array(rows))
    flat = lists.flatten()
    judgement_N = np.asarray(pc.list_parent_indices(lists), np.int64)
    image_N = np.asarray(pc.fill_null(pc.index_in(flat.field("image_id"), image_ids), -1), np.int64)
    aspect_N = np.asarray(pc.fill_null(pc.index_in(flat.field("aspect"), pa.array(ASPECTS)), -1), np.int64)
    level_N = np.asarray(pc.fill_null(flat.field("level"), 0), np.int8)
    known = (image_N >= 0) & (aspect_N >= 0)
    table = np.zeros((len(rows), int(slot_I.max(initial=0)) + 1, len(ASPECTS)), np.int8)
    table[judgement_N[known], slot_I[image_N[known]], aspect_N[known]] = level_N[known]
    return Judged(table)


def disagreements(
    judged: Judged, start_G: Ints, group_P: Ints, first_P: Ints, second_P: Ints
) -> dict[str, NDArray[np.bool_]]:
    """By aspect and overall, (P,): one judgement of the prompt prefers the first image and another the second.

    `first_P` and `second_P` are places within the prompt, `start_G` (G + 1,) where the judgements of a prompt start.
    Overall compares the sums over the aspects, where both images have a level in each; ties disagree with nothing.
    """
    if not len(judged.level_JSA):
        return {}
    names = (*ASPECTS, OVERALL)
    found = np.zeros((len(group_P), len(names)), bool)
    for start in range(0, len(group_P), _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = _block(judged.level_JSA, start_G, group_P[block], first_P[block], second_P[block])
    return {name: found[:, place] for place, name in enumerate(names)}


def _block(
    level_JSA: NDArray[np.int8], start_G: Ints, group_P: Ints, first_P: Ints, second_P: Ints
) -> NDArray[np.bool_]:
    count_P = start_G[group_P + 1] - start_G[group_P]
    pair_N = np.repeat(np.arange(len(group_P)), count_P)
    within_N = np.arange(len(pair_N)) - np.repeat(np.cumsum(count_P) - count_P, count_P)
    judgement_N = start_G[group_P][pair_N] + within_N
    first = level_JSA[judgement_N, first_P[pair_N]].astype(np.int64)
    second = level_JSA[judgement_N, second_P[pair_N]].astype(np.int64)
    both = (first > 0) & (second > 0)
    difference = np.where(both, first - second, 0)
    overall = np.where(both.all(axis=1), difference.sum(axis=1), 0)
    sign = np.sign(np.column_stack([difference, overall]))
    better, worse = (np.zeros((len(group_P), sign.shape[1]), bool) for _ in range(2))
    np.logical_or.at(better, pair_N, sign > 0)
    np.logical_or.at(worse, pair_N, sign < 0)
    return better & worse
