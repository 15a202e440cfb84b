"""Pairs from answers of people or annotators: rankings of a prompt's images, and choices between two of them.

Letters of shapes: N answers about pairs, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit

from vp_ray.maths.strengths import bradley_terry_strengths
from vp_ray.preferences.balancing import balanced, capped
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.pairing import pairs_within
from vp_ray.preferences.rows import COLUMNS, Floats, Images, Ints, Pairs, places_of, preference_table
from vp_ray.records import ASPECTS, OVERALL


@dataclass(frozen=True, slots=True)
class Answers:
    """What each person said of each pair; the first image is the one with the smaller id."""

    images: Images
    first_N: Ints
    second_N: Ints
    aspect_N: Ints
    """Place in `rows.COLUMNS`."""
    rater_N: Ints
    raters: pa.Array
    """Their names, by the codes in `rater_N`."""
    preferred_N: Floats
    """1 where the first is better, 0 where the second is, 0.5 for a tie, NaN for an abstention."""
    difference_N: Floats
    """By how many ranks the first is better; NaN for choices."""
    time_N: Floats
    """Seconds since 1970, NaN where it was not kept."""
    shown_first_N: Ints
    """1 where the first image was shown first, -1 where the second was, 0 where nobody knows."""


def answers_of_rankings(
    rankings: pa.Table, prompts: pa.Table, generators: Mapping[str, str | None] | None = None
) -> Answers:
    """All pairs of images that one person ranked; raises `InputError` for a prompt that is not in `prompts`."""
    images, image_N = _images(
        rankings["image_id"].combine_chunks(), rankings["prompt_id"].combine_chunks(), prompts, generators, "rankings"
    )
    raters = rankings["rater"].combine_chunks().dictionary_encode()
    rater_N, rank_N = np.asarray(raters.indices, np.int64), np.asarray(rankings["rank"], np.float64)
    sheet_N = images.prompt_M[image_N] * max(len(raters.dictionary), 1) + rater_N
    # A person who ranked an image twice is taken by the last word.
    order = np.lexsort((np.arange(len(image_N)), image_N, sheet_N))
    last = np.ones(len(order), np.bool_)
    last[:-1] = (np.diff(sheet_N[order]) != 0) | (np.diff(image_N[order]) != 0)
    order = order[last]
    left, right = (order[side] for side in pairs_within(sheet_N[order]))
    difference = rank_N[right] - rank_N[left]
    count = len(left)
    return Answers(
        images,
        image_N[left],
        image_N[right],
        np.full(count, COLUMNS.index(OVERALL)),
        rater_N[left],
        raters.dictionary,
        (1 + np.sign(difference)) / 2,
        difference,
        np.full(count, np.nan),
        np.zeros(count, np.int64),
    )


def answers_of_comparisons(
    comparisons: pa.Table, prompts: pa.Table, generators: Mapping[str, str | None] | None = None
) -> Answers:
    """The choices between two images; raises `InputError` for a prompt that is not in `prompts`."""
    count = comparisons.num_rows
    sides = [comparisons[name].combine_chunks() for name in ("image_id_a", "image_id_b")]
    prompt_ids = comparisons["prompt_id"].combine_chunks()
    images, image_N = _images(
        pa.concat_arrays(sides), pa.concat_arrays([prompt_ids, prompt_ids]), prompts, generators, "choices"
    )
    a, b = image_N[:count], image_N[count:]
    preferred = np.asarray(comparisons["preferred_a"].combine_chunks().to_numpy(zero_copy_only=False), np.float64)
    swapped = a > b
    raters = comparisons["rater"].combine_chunks().dictionary_encode()
    return Answers(
        images,
        np.minimum(a, b),
        np.maximum(a, b),
        np.asarray(pc.index_in(comparisons["aspect"], pa.array(COLUMNS)), np.int64),
        np.asarray(raters.indices, np.int64),
        raters.dictionary,
        np.where(swapped, 1 - preferred, preferred),
        np.full(count, np.nan),
        np.asarray(comparisons["answered_at"].combine_chunks().to_numpy(zero_copy_only=False), np.float64),
        np.where(swapped, -1, 1),
    )


def _images(
    ids_N: pa.Array,
    prompt_ids_N: pa.Array,
    prompts: pa.Table,
    generators: Mapping[str, str | None] | None,
    what: str,
) -> tuple[Images, Ints]:
    """The images that are named, in their order, and which of them each row names."""
    codes = ids_N.dictionary_encode()
    code_N = np.asarray(codes.indices, np.int64)
    first = np.full(len(codes.dictionary), len(code_N))
    np.minimum.at(first, code_N, np.arange(len(code_N)))
    prompt_M = places_of(prompt_ids_N.take(pa.array(first)), prompts, what)
    known = generators or {}
    names = pa.array([known.get(name) for name in codes.dictionary.to_pylist()], pa.string())
    images, order = Images.sorted(codes.dictionary, names, prompt_M)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return images, place[code_N]


def shares(answers: Answers) -> tuple[Pairs, Floats]:
    """Each pair's share of answers for its first image, ties as halves, and how many there were, abstentions aside.

    `margin` is the mean difference of ranks, or for choices the log-odds of the share with half an answer on each side
    (Haldane 1956); it is NaN where everybody abstained.
    """
    count = len(answers.images.ids)
    key_N = (answers.aspect_N * count + answers.first_N) * count + answers.second_N
    key_P, pair_N = np.unique(key_N, return_inverse=True)
    answered = np.isfinite(answers.preferred_N)
    number = np.bincount(pair_N, answered.astype(np.float64), len(key_P)).astype(np.float64)
    wins = np.bincount(pair_N, np.where(answered, answers.preferred_N, 0.0), len(key_P))
    some = number > 0
    share = np.divide(wins, number, out=np.full(len(key_P), 0.5), where=some)
    ranked = np.isfinite(answers.difference_N).all()
    total = np.bincount(pair_N, answers.difference_N, len(key_P)) if ranked else None
    odds = np.log((wins + 0.5) / (number - wins + 0.5))
    margin = np.where(some, total / np.maximum(number, 1) if total is not None else odds, np.nan)
    rest, second = np.divmod(key_P, max(count, 1))
    aspect, first = np.divmod(rest, max(count, 1))
    return Pairs(first, second, aspect, share, margin, np.ones(len(key_P))), number


def fitted(answers: Answers, prior_answers: float) -> Pairs:
    """Each answered pair with its probability and margin by Bradley-Terry strengths, fitted to each prompt and aspect.

    A pair that everybody abstained from stays an abstention.
    """
    pairs, number = shares(answers)
    count = len(answers.images.ids)
    some = number > 0
    place_a, place_b = (pairs.aspect_P * count + side for side in (pairs.first_P, pairs.second_P))
    strengths = bradley_terry_strengths(
        place_a[some],
        place_b[some],
        (pairs.probability_P * number)[some],
        number[some],
        len(COLUMNS) * count,
        prior_answers,
    )
    margin = np.where(some, strengths[place_a] - strengths[place_b], np.nan)
    probability = np.where(some, expit(margin), 0.5)
    return Pairs(pairs.first_P, pairs.second_P, pairs.aspect_P, probability, margin, pairs.weight_P)


def with_overall(pairs: Pairs, settings: PreferenceSettings) -> Pairs:
    """The same with pairs of `overall` where every aspect of a weight was answered about and nobody was asked overall.

    A pair's margin is the weighted mean of its aspects' margins; its probability follows from that by Bradley-Terry, or
    is the weighted mean of their shares. A pair that lacks an aspect abstains.
    """
    weight_A = np.array([settings.overall_weights.get(aspect, 0.0) for aspect in ASPECTS])
    weighted, answered = np.flatnonzero(weight_A), np.unique(pairs.aspect_P)
    if COLUMNS.index(OVERALL) in answered or not np.isin(weighted, answered).all():
        return pairs
    key_P = pairs.first_P * (pairs.second_P.max(initial=0) + 1) + pairs.second_P
    _, row_Q, pair_P = np.unique(key_P, return_index=True, return_inverse=True)
    margin, probability = (np.full((len(row_Q), len(ASPECTS)), np.nan) for _ in range(2))
    margin[pair_P, pairs.aspect_P], probability[pair_P, pairs.aspect_P] = pairs.margin_P, pairs.probability_P
    share_A = weight_A[weighted] / weight_A.sum()
    overall = margin[:, weighted] @ share_A
    mean_share = np.nan_to_num(probability[:, weighted] @ share_A, nan=0.5)
    likely = mean_share if settings.pairwise == "shares" else expit(np.nan_to_num(overall))
    return Pairs(
        np.concatenate([pairs.first_P, pairs.first_P[row_Q]]),
        np.concatenate([pairs.second_P, pairs.second_P[row_Q]]),
        np.concatenate([pairs.aspect_P, np.full(len(row_Q), COLUMNS.index(OVERALL))]),
        np.concatenate([pairs.probability_P, np.where(np.isnan(overall), 0.5, likely)]),
        np.concatenate([pairs.margin_P, overall]),
        np.concatenate([pairs.weight_P, np.ones(len(row_Q))]),
    )


def preferences_of_answers(answers: Answers, pairs: Pairs, prompts: pa.Table, settings: PreferenceSettings) -> pa.Table:
    """`records.PREFERENCES` of pairs that people answered about, weighed, capped and balanced."""
    kept = capped(answers.images, pairs.weighed(settings), settings)
    return preference_table(answers.images, balanced(answers.images, kept, settings), prompts)


def preferences_of_rankings(
    rankings: pa.Table,
    prompts: pa.Table,
    settings: PreferenceSettings,
    generators: Mapping[str, str | None] | None = None,
) -> pa.Table:
    """`records.PREFERENCES` of the aspect overall: the share of people who ranked the first image better."""
    answers = answers_of_rankings(rankings, prompts, generators)
    return preferences_of_answers(answers, shares(answers)[0], prompts, settings)


def preferences_of_comparisons(
    comparisons: pa.Table,
    prompts: pa.Table,
    settings: PreferenceSettings,
    generators: Mapping[str, str | None] | None = None,
) -> pa.Table:
    """`records.PREFERENCES` of choices between two images, by `settings.pairwise`."""
    answers = answers_of_comparisons(comparisons, prompts, generators)
    pairs = shares(answers)[0] if settings.pairwise == "shares" else fitted(answers, settings.prior_answers)
    pairs = with_overall(pairs, settings)
    return preferences_of_answers(answers, pairs, prompts, settings)
