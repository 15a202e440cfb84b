"""Cross-validation over prompts: what VP-Score is worth on prompts that it has not seen, beside what it must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vp_ray.ids import uniform_from
from vp_ray.maths.one_rater import one_against_the_others, votes_of_rankings
from vp_ray.maths.pair_accuracy import PairAccuracy, pair_accuracy
from vp_ray.models.floors import FLOORS
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import weighted_mean
from vp_ray.records import OVERALL
from vp_ray.reward.data import RewardData

VP_SCORE = "vp_score"


def deal(prompt_ids: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """The fold of every prompt: dealt one after the other in the order of their hashes, so that sizes differ by one."""
    order = sorted(set(prompt_ids), key=lambda prompt_id: uniform_from("reward-fold", seed, prompt_id))
    return {prompt_id: place % folds for place, prompt_id in enumerate(order)}


def overall_scores(model: VPScore, data: RewardData) -> pa.Table:
    """(prompt_id, image_id, score): the raw overall score of every image of the groups."""
    columns: dict[str, list[Any]] = {"prompt_id": [], "image_id": [], "score": []}
    for group in data.groups:
        raw = model.score(data.images[group.images], [group.prompt] * len(group.images))
        columns["prompt_id"] += [group.prompt_id] * len(group.images)
        columns["image_id"] += [data.image_ids[place] for place in group.images]
        columns["score"] += weighted_mean(raw, model.config.overall_weights).astype(float).tolist()
    return pa.table(columns)


def accuracies(
    scores: pa.Table, preferences: pa.Table, images: pa.Table, rankings: pa.Table | None
) -> list[dict[str, Any]]:
    """`{scorer, accuracy, low, high, pairs}` of VP-Score, the floors and, where people ranked, one person against the
    others, all on the overall pairs whose images were scored.

    The rule is that of `maths.pair_accuracy`; intervals resample prompts.
    """
    by_image = dict(zip(scores["image_id"].to_pylist(), scores["score"].to_pylist(), strict=True))
    pairs = [
        row
        for row in preferences.to_pylist()
        if row["aspect"] == OVERALL and {row["image_id_a"], row["image_id_b"]} <= by_image.keys()
    ]
    found = {VP_SCORE: _accuracy(by_image, pairs)}
    files = {row["image_id"]: row["image"]["bytes"] for row in images.to_pylist() if row["image_id"] in by_image}
    for name, measure in FLOORS.items():
        found[name] = _accuracy({image_id: measure(data) for image_id, data in files.items()}, pairs)
    if rankings is not None:
        found["one_person"] = one_against_the_others(votes_of_rankings(rankings.to_pylist()))
    return [
        {
            "scorer": name,
            "accuracy": result.accuracy.mean,
            "low": result.accuracy.low,
            "high": result.accuracy.high,
            "pairs": result.pairs,
        }
        for name, result in found.items()
        if result.accuracy is not None
    ]


def _accuracy(scores: Mapping[str, float], pairs: Sequence[Mapping[str, Any]]) -> PairAccuracy:
    return pair_accuracy(
        [scores[row["image_id_a"]] for row in pairs],
        [scores[row["image_id_b"]] for row in pairs],
        [row["probability_a"] for row in pairs],
        [row["prompt_id"] for row in pairs],
    )
