"""How well raw scores order the labelled pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit as sigmoid

from vp_ray.maths.calibration import pair_calibration
from vp_ray.maths.pair_accuracy import pair_accuracy
from vp_ray.models.reward_config import weighted_mean
from vp_ray.protocols import Collective, Pixels
from vp_ray.records import OVERALL
from vp_ray.reward.data import Group
from vp_ray.reward.forward import Forward


def score_groups(
    forward: Forward, images: Pixels, groups: Sequence[Group], collective: Collective
) -> NDArray[np.float32]:
    """(M, A) raw scores of the groups' images in the order of groups, worked out by all ranks together."""
    rows = np.concatenate([group.images for group in groups])
    prompts = [group.prompt for group in groups for _ in group.images]
    share = -(-len(rows) // collective.world_size)
    # Every rank scores equally many rows, since under ZeRO-3 each forward pass is a collective.
    mine = [(collective.rank * share + place) % len(rows) for place in range(share)]
    scores = forward.raw(images[rows[mine]], [prompts[place] for place in mine])
    return collective.gather(scores)[: len(rows)]


def judged_by_aspect(
    raw: NDArray[np.float32], groups: Sequence[Group], aspects: Sequence[str], overall_weights: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """What (M, A) raw scores are worth by the groups' labels, by aspect, and for `overall` where it is labelled.

    `accuracy` holds `{accuracy, low, high, pairs, label_ties, macro}` by the rule of `maths.pair_accuracy`, pooled over
    pairs, and `macro` averaged over prompts. `calibration` holds the `error` and the `bins` of the probability of a
    pair, which is the sigmoid of its difference, as in training. An aspect without a decided pair is left out.
    """
    columns = {aspect: raw[:, place] for place, aspect in enumerate(aspects)}
    columns.setdefault(OVERALL, weighted_mean(raw, overall_weights).astype(np.float32))
    starts = np.cumsum([0, *(len(group.images) for group in groups)])
    rows = [
        (aspect, start + a, start + b, probability, group.prompt_id)
        for start, group in zip(starts, groups, strict=False)
        for aspect, a, b, probability, _ in group.pairs
    ]
    accuracy, calibration = {}, {}
    for aspect, scores in columns.items():
        chosen = [row for row in rows if row[0] == aspect]
        if not chosen:
            continue
        _, first, second, probability, prompt_ids = zip(*chosen, strict=True)
        one, other = (scores[list(places)].astype(np.float64) for places in (first, second))
        micro = pair_accuracy(one, other, probability, prompt_ids)
        macro = pair_accuracy(one, other, probability, prompt_ids, averaging="prompts")
        if micro.accuracy is not None and macro.accuracy is not None:
            accuracy[aspect] = {
                "accuracy": micro.accuracy.mean,
                "low": micro.accuracy.low,
                "high": micro.accuracy.high,
                "pairs": micro.pairs,
                "label_ties": micro.label_ties,
                "macro": macro.accuracy.mean,
            }
            found = pair_calibration(sigmoid(one - other), probability)
            calibration[aspect] = {"error": found.error, "bins": [asdict(each) for each in found.bins]}
    return {"accuracy": accuracy, "calibration": calibration}
