"""Rows of `records.PREFERENCES`, whichever way their probabilities were found.

Letters of shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vp_ray.errors import InputError
from vp_ray.ids import content_id
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.records import ANNOTATED, ASPECTS, OVERALL, PREFERENCES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS = (*ASPECTS, OVERALL)


@dataclass(frozen=True, slots=True)
class Images:
    """Images that pairs are made of, those of a prompt together and in the order of their ids; prompts in theirs."""

    ids: pa.Array
    generators: pa.Array
    """Null where it is not known."""
    prompt_M: Ints
    """Place of each image's prompt in the table of prompts."""

    @classmethod
    def sorted(cls, ids: pa.Array, generators: pa.Array, prompt_M: Ints) -> tuple[Images, Ints]:
        """The images in their order, and which of those given each is."""
        by_id = np.argsort(np.asarray(pc.array_sort_indices(ids)))
        order = np.lexsort((by_id, prompt_M))
        place = pa.array(order)
        return cls(ids.take(place), generators.take(place), prompt_M[order]), order


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of places of images with what is known of them, one entry a pair and aspect."""

    first_P: Ints
    second_P: Ints
    aspect_P: Ints
    """Place in `COLUMNS`."""
    probability_P: Floats
    margin_P: Floats
    """NaN where there was no answer."""
    weight_P: Floats

    def chosen(self, rows: NDArray[np.bool_] | Ints) -> Pairs:
        """Some of the entries."""
        return Pairs(
            self.first_P[rows],
            self.second_P[rows],
            self.aspect_P[rows],
            self.probability_P[rows],
            self.margin_P[rows],
            self.weight_P[rows],
        )

    @classmethod
    def together(cls, parts: Iterable[Pairs]) -> Pairs:
        """The entries of all parts, one after the other; there must be one."""
        columns = zip(
            *((p.first_P, p.second_P, p.aspect_P, p.probability_P, p.margin_P, p.weight_P) for p in parts), strict=True
        )
        return cls(*(np.concatenate(column) for column in columns))

    def weighed(self, settings: PreferenceSettings) -> Pairs:
        """Ties and abstentions with their weights; those that are not wanted are left out."""
        unanswered, tied = np.isnan(self.margin_P), self.probability_P == 0.5
        weight = np.where(tied, settings.tie_weight, 1.0)
        weight[unanswered] = settings.abstention_weight
        kept = np.where(unanswered, settings.abstention_weight > 0, ~tied | settings.keep_ties)
        probability = np.where(unanswered, 0.5, self.probability_P)
        return replace(self, weight_P=weight, probability_P=probability).chosen(kept)


def places_of(prompt_ids: pa.Array, prompts: pa.Table, what: str) -> Ints:
    """The place of each prompt in the table; raises `InputError` for one that is not there."""
    place = pc.index_in(prompt_ids, prompts["prompt_id"].combine_chunks())
    if place.null_count:
        lost = prompt_ids.filter(pc.is_null(place))[0].as_py()
        raise InputError(f"the prompt {lost} has {what} but is not in the prompts table", "Make the stages anew.")
    return np.asarray(place, np.int64)


def pair_names(images: Images, first_P: Ints, second_P: Ints) -> tuple[pa.Array, Ints]:
    """A name (a content hash) for each pair of images, and which of the names each entry has."""
    codes, inverse = np.unique(first_P * len(images.ids) + second_P, return_inverse=True)
    left, right = np.divmod(codes, max(len(images.ids), 1))
    sides = (images.ids.take(pa.array(side)).to_pylist() for side in (left, right))
    return pa.array([content_id("pair", *names) for names in zip(*sides, strict=True)], pa.string()), inverse


def preference_table(images: Images, pairs: Pairs, prompts: pa.Table) -> pa.Table:
    """`records.PREFERENCES` of these pairs, in the order of prompts, images and aspects; ids name pair and aspect."""
    order = np.lexsort((pairs.aspect_P, pairs.second_P, pairs.first_P))
    pairs = pairs.chosen(order)
    names, name_P = pair_names(images, pairs.first_P, pairs.second_P)
    first, second = pa.array(pairs.first_P), pa.array(pairs.second_P)
    prompt = pa.array(images.prompt_M[pairs.first_P])
    aspects = pa.DictionaryArray.from_arrays(pa.array(pairs.aspect_P, pa.int8()), pa.array(COLUMNS)).cast(pa.string())
    columns = {
        "preference_id": pc.binary_join_element_wise(names.take(pa.array(name_P)), aspects, "-"),
        "prompt_id": prompts["prompt_id"].take(prompt),
        "prompt": prompts["prompt"].take(prompt),
        "aspect": aspects,
        "image_id_a": images.ids.take(first),
        "image_id_b": images.ids.take(second),
        "probability_a": pairs.probability_P,
        "margin": pa.array(pairs.margin_P, from_pandas=True),
        "weight": pairs.weight_P,
        "same_generator": pc.equal(images.generators.take(first), images.generators.take(second)),
        "split": prompts["split"].take(prompt),
        "source": pa.repeat(ANNOTATED, len(order)),
    }
    return pa.table(columns).cast(PREFERENCES)
