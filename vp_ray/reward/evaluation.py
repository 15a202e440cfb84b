"""How well raw scores order the labelled pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp_ray.maths.pair_accuracy import pair_accuracy
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import weighted_mean
from vp_ray.protocols import Collective, Pixels
from vp_ray.records import OVERALL
from vp_ray.reward.data import Group


def score_groups(
    model: VPScore, images: Pixels, groups: Sequence[Group], collective: Collective
) -> NDArray[np.float32]:
    """(M, A) raw scores of the groups' images in the order of groups, worked out by all ranks together."""
    rows = np.concatenate([group.images for group in groups])
    prompts = [group.prompt for group in groups for _ in group.images]
    share = -(-len(rows) // collective.world_size)
    # Every rank scores equally many rows, since under ZeRO-3 each forward pass is a collective.
    mine = [(collective.rank * share + place) % len(rows) for place in range(share)]
    scores = model.score(images[rows[mine]], [prompts[place] for place in mine])
    return collective.gather(scores)[: len(rows)]


def accuracy_by_aspect(
    raw: NDArray[np.float32], groups: Sequence[Group], aspects: Sequence[str], overall_weights: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """By aspect `{accuracy, low, high, pairs, label_ties}` of (M, A) raw scores, and of `overall` where it is labelled.

    The rule is that of `maths.pair_accuracy`: exact ties of the labels are left out, ties of the scores count one
    half; the interval resamples prompts. An aspect without a decided pair is left out.
    """
    columns = {aspect: raw[:, place] for place, aspect in enumerate(aspects)}
    columns.setdefault(OVERALL, weighted_mean(raw, overall_weights).astype(np.float32))
    starts = np.cumsum([0, *(len(group.images) for group in groups)])
    rows = [
        (aspect, start + a, start + b, probability, group.prompt_id)
        for start, group in zip(starts, groups, strict=False)
        for aspect, a, b, probability, _ in group.pairs
    ]
    found = {}
    for aspect, scores in columns.items():
        chosen = [row for row in rows if row[0] == aspect]
        if not chosen:
            continue
        _, first, second, probability, prompt_ids = zip(*chosen, strict=True)
        result = pair_accuracy(scores[list(first)], scores[list(second)], probability, prompt_ids)
        if result.accuracy is not None:
            interval = result.accuracy
            found[aspect] = {
                "accuracy": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "pairs": result.pairs,
                "label_ties": result.label_ties,
            }
    return found
