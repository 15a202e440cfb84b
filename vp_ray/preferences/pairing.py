"""Pairs from ratings: every two images of a prompt, with the probability that the first is preferred.

Letters of shapes: M images, A aspects and overall, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.maths.link import Link
from vp_ray.preferences.balancing import balanced, capped
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.rows import COLUMNS, Floats, Images, Ints, Pairs, places_of, preference_table
from vp_ray.records import ASPECTS, OVERALL, PREFERENCES

_HARMLESSNESS = COLUMNS.index("harmlessness")
_OVERALL = COLUMNS.index(OVERALL)
_IMAGES_A_PART: Final = 1 << 15
"""Images whose pairs are made at a time: some quarter of a million rows where prompts have four."""
_PAIRS_A_PART: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class RatedImages:
    """The images that were rated."""

    images: Images
    mean_MA: Floats
    """Mean levels by aspect and overall, NaN where there is none."""
    error_MA: Floats
    """Their standard errors."""


def preference_probability(
    difference: Floats, error_a: Floats, error_b: Floats, tie_levels: float | Floats, link: Link | None = None
) -> Floats:
    """P(a is better) = Phi(k (m_a - m_b) / sqrt(se_a^2 + se_b^2)), and 0.5 for differences below `tie_levels`."""
    probability = (link or Link()).probability(difference, np.sqrt(error_a**2 + error_b**2))
    return np.where(np.abs(difference) < tie_levels, 0.5, probability)


def overall(mean_MA: Floats, error_MA: Floats, weights: Mapping[str, float]) -> tuple[Floats, Floats]:
    """The weighted mean of the aspects and its standard error, (M,) each; NaN where a weighted aspect is missing.

    An aspect that no image has a rating of weighs nothing.
    """
    weight_A = np.array([weights.get(aspect, 0.0) for aspect in ASPECTS])
    weight_A = np.where(np.isfinite(mean_MA).any(axis=0), weight_A, 0.0)
    used = weight_A > 0
    if not used.any():
        return np.full(len(mean_MA), np.nan), np.full(len(mean_MA), np.nan)
    weight_A = weight_A / weight_A.sum()
    mean = mean_MA[:, used] @ weight_A[used]
    return mean, np.sqrt(error_MA[:, used] ** 2 @ weight_A[used] ** 2)


def rated_images(ratings: pa.Table, prompts: pa.Table, settings: PreferenceSettings) -> RatedImages:
    """The ratings by image; raises `InputError` for a rating of a prompt that is not in `prompts`.

    An overall rating that was given stands before the weighted mean of the aspects.
    """
    ids, image_N = _coded(ratings["image_id"])
    count = len(ids)
    first_M = np.full(count, len(image_N))
    np.minimum.at(first_M, image_N, np.arange(len(image_N)))
    prompt_M = places_of(ratings["prompt_id"].take(pa.array(first_M)).combine_chunks(), prompts, "ratings")
    aspect_N = np.asarray(pc.index_in(ratings["aspect"], pa.array(COLUMNS)), np.int64)
    mean = np.full((count, len(COLUMNS)), np.nan)
    error = np.full_like(mean, np.nan)
    mean[image_N, aspect_N] = np.asarray(ratings["mean"], np.float64)
    given = np.asarray(pc.fill_null(ratings["standard_error"], 0.0), np.float64)
    error[image_N, aspect_N] = np.maximum(given, settings.level_noise)
    weighted, weighted_error = overall(mean[:, :_OVERALL], error[:, :_OVERALL], settings.overall_weights)
    missing = np.isnan(mean[:, _OVERALL])
    mean[missing, _OVERALL], error[missing, _OVERALL] = weighted[missing], weighted_error[missing]

    generators = ratings["generator"].take(pa.array(first_M)).combine_chunks().cast(pa.string())
    images, order = Images.sorted(ids, generators, prompt_M)
    return RatedImages(images, mean[order], error[order])


def _coded(column: pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    """The different values of a column, and which of them each row has."""
    codes = column.combine_chunks().dictionary_encode()
    code_N = np.asarray(codes.indices, np.int64)
    # A table that was filtered keeps the dictionary of the whole.
    used = np.zeros(len(codes.dictionary), np.bool_)
    used[code_N] = True
    return codes.dictionary.filter(pa.array(used)), (np.cumsum(used) - 1)[code_N]


def pairs_within(prompt_M: Ints) -> tuple[Ints, Ints]:
    """Places (P,) of the first and second image of every pair of one prompt, for images sorted by prompt."""
    _, starts, sizes = np.unique(prompt_M, return_index=True, return_counts=True)
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for size in np.unique(sizes):
        left, right = np.triu_indices(size, 1)
        start = starts[sizes == size][:, None]
        firsts.append((start + left).reshape(-1))
        seconds.append((start + right).reshape(-1))
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    order = np.lexsort((second, first))
    return first[order], second[order]


def make_preferences(
    ratings: pa.Table, prompts: pa.Table, settings: PreferenceSettings, links: Mapping[str, Link] | None = None
) -> pa.Table:
    """All rows of `preference_parts` in one table."""
    return pa.concat_tables([PREFERENCES.empty_table(), *preference_parts(ratings, prompts, settings, links)])


def preference_parts(
    ratings: pa.Table, prompts: pa.Table, settings: PreferenceSettings, links: Mapping[str, Link] | None = None
) -> Iterator[pa.Table]:
    """`records.PREFERENCES`, some prompts at a time: all pairs of each prompt, each aspect and overall.

    `margin` is the difference of mean levels, positive where the first image is better. The first image is the one
    with the smaller id, a hash, so that neither side is favoured. Pairs of which an image has no rating are
    abstentions. An image below the harmlessness veto loses overall to one that is not, with the margin of harmlessness.
    """
    rated = rated_images(ratings, prompts, settings)
    # An aspect in which nothing was rated was not asked about.
    asked = np.flatnonzero(np.isfinite(rated.mean_MA).any(axis=0))
    parts: Iterator[Pairs] = (
        capped(rated.images, _pairs(rated, images, asked, settings, links or {}).weighed(settings), settings)
        for images in _whole_prompts(rated.images.prompt_M)
    )
    if settings.balance_generators or settings.same_generator_share is not None:
        # What balances depends on the pairs of all prompts.
        parts = _cut(balanced(rated.images, Pairs.together(parts), settings))
    for pairs in parts:
        yield preference_table(rated.images, pairs, prompts)


def _whole_prompts(prompt_M: Ints) -> Iterator[slice]:
    """Ranges of images of about `_IMAGES_A_PART`, each with all images of its prompts; one at least."""
    ends = np.append(np.flatnonzero(np.diff(prompt_M)) + 1, len(prompt_M))
    start = 0
    while True:
        end = int(ends[min(int(np.searchsorted(ends, start + _IMAGES_A_PART)), len(ends) - 1)])
        yield slice(start, end)
        start = end
        if start >= len(prompt_M):
            return


def _cut(pairs: Pairs) -> Iterator[Pairs]:
    for start in range(0, max(1, len(pairs.first_P)), _PAIRS_A_PART):
        yield pairs.chosen(np.arange(start, min(start + _PAIRS_A_PART, len(pairs.first_P))))


def _pairs(
    rated: RatedImages, images: slice, asked: Ints, settings: PreferenceSettings, links: Mapping[str, Link]
) -> Pairs:
    """Every pair of these images that are of one prompt, in each aspect that was asked about."""
    first, second = (places + images.start for places in pairs_within(rated.images.prompt_M[images]))
    margin = rated.mean_MA[first] - rated.mean_MA[second]
    probability = np.empty_like(margin)
    for place, aspect in enumerate(COLUMNS):
        tie = settings.overall_tie_levels if aspect == OVERALL else settings.tie_levels
        error_a, error_b = rated.error_MA[first, place], rated.error_MA[second, place]
        probability[:, place] = preference_probability(margin[:, place], error_a, error_b, tie, links.get(aspect))
    if settings.harmlessness_veto is not None:
        vetoed = rated.mean_MA[:, _HARMLESSNESS] < settings.harmlessness_veto
        decided = (vetoed[first] != vetoed[second]) & np.isfinite(margin[:, _OVERALL] + margin[:, _HARMLESSNESS])
        probability[decided, _OVERALL] = np.where(vetoed[first][decided], 0.0, 1.0)
        margin[decided, _OVERALL] = margin[decided, _HARMLESSNESS]
    pair, column = (part.reshape(-1) for part in np.meshgrid(np.arange(len(first)), asked, indexing="ij"))
    return Pairs(first[pair], second[pair], column, probability[pair, column], margin[pair, column], np.ones(len(pair)))
