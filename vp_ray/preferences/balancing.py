"""How much each pair weighs: no prompt too much, and no generator by its name alone.

Letters of shapes: P pairs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.rows import COLUMNS, Floats, Images, Ints, Pairs, pair_names


def capped(images: Images, pairs: Pairs, settings: PreferenceSettings) -> Pairs:
    """At most `pairs_per_prompt` pairs of each prompt, with all their aspects: those of the smallest names."""
    most = settings.pairs_per_prompt
    if most is None or not len(pairs.first_P):
        return pairs
    names, name_P = pair_names(images, pairs.first_P, pairs.second_P)
    first_row = np.unique(name_P, return_index=True)[1]
    prompt = images.prompt_M[pairs.first_P[first_row]]
    by_name = np.argsort(np.asarray(pc.array_sort_indices(names)))
    order = np.lexsort((by_name, prompt))
    _, starts, sizes = np.unique(prompt[order], return_index=True, return_counts=True)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return pairs.chosen(rank[name_P] < most)


def generator_codes(images: Images) -> Ints:
    """A number for each image's generator, -1 where it is not known."""
    codes = images.generators.dictionary_encode().indices
    return np.asarray(pc.fill_null(codes, -1), np.int64)


def balanced(images: Images, pairs: Pairs, settings: PreferenceSettings) -> Pairs:
    """The pairs with weights under which generators win as much as they lose and pairs within one have their share."""
    if not settings.balance_generators and settings.same_generator_share is None:
        return pairs
    code = generator_codes(images)
    one, other = code[pairs.first_P], code[pairs.second_P]
    known, weight = (one >= 0) & (other >= 0), pairs.weight_P.copy()
    if settings.balance_generators:
        weight *= outcome_factors(one, other, pairs, settings.balance_limit)
    if settings.same_generator_share is not None:
        weight = shared(weight, pairs.aspect_P, known & (one == other), known, settings.same_generator_share)
    return replace(pairs, weight_P=weight)


def outcome_factors(one: Ints, other: Ints, pairs: Pairs, limit: float) -> Floats:
    """(P,) factors under which, for each aspect and two generators, the wins of one weigh as much as the other's.

    A pair's win weighs |probability - 1/2|. Both sides move towards each other, (W + L) / 2W and (W + L) / 2L; where a
    factor would pass `limit` it stays there and the other is what makes the sides equal. A generator that always wins
    keeps its weights, since nothing could balance them.
    """
    generators = int(max(one.max(initial=0), other.max(initial=0))) + 1
    crossing = (one >= 0) & (other >= 0) & (one != other)
    lean = (pairs.probability_P - 0.5) * pairs.weight_P * np.where(one < other, 1.0, -1.0)
    low, high = np.minimum(one, other), np.maximum(one, other)
    cell = np.where(crossing, (pairs.aspect_P * generators + low) * generators + high, 0)
    size = len(COLUMNS) * generators * generators
    wins = np.bincount(cell, np.where(crossing, np.maximum(lean, 0), 0.0), size)
    losses = np.bincount(cell, np.where(crossing, np.maximum(-lean, 0), 0.0), size)
    both = (wins > 0) & (losses > 0)
    safe_wins, safe_losses = np.where(both, wins, 1.0), np.where(both, losses, 1.0)
    middle = (safe_wins + safe_losses) / 2
    for_wins, for_losses = middle / safe_wins, middle / safe_losses
    for_wins, for_losses = (
        np.where(for_losses > limit, limit * safe_losses / safe_wins, np.minimum(for_wins, limit)),
        np.where(for_wins > limit, limit * safe_wins / safe_losses, np.minimum(for_losses, limit)),
    )
    factor = np.where(lean > 0, for_wins[cell], np.where(lean < 0, for_losses[cell], 1.0))
    return np.where(crossing & both[cell], factor, 1.0)


def shared(weight: Floats, aspect: Ints, within: NDArray[np.bool_], known: NDArray[np.bool_], share: float) -> Floats:
    """Weights in which, for each aspect, pairs within one generator have this share of those of known generators.

    The sum of an aspect's weights stays; an aspect without both kinds is left alone.
    """
    size = len(COLUMNS)
    inner = np.bincount(aspect, np.where(within, weight, 0.0), size)
    outer = np.bincount(aspect, np.where(known & ~within, weight, 0.0), size)
    both = (inner > 0) & (outer > 0)
    total = inner + outer
    for_inner = np.where(both, share * total / np.where(both, inner, 1.0), 1.0)
    for_outer = np.where(both, (1 - share) * total / np.where(both, outer, 1.0), 1.0)
    factor = np.where(within, for_inner[aspect], for_outer[aspect])
    return np.where(known, weight * factor, weight)
