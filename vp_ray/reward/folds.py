"""Cross-validation over prompts: what VP-Score is worth on prompts that it has not seen, beside what it must beat."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from vp_ray.ids import uniform_from
from vp_ray.maths.pair_accuracy import PairAccuracy, pair_accuracy
from vp_ray.maths.pictures import sharpness
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


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


FLOORS: Mapping[str, Callable[[bytes], float]] = {
    "sharpness": lambda data: sharpness(_decoded(data)),
    "file_bytes": lambda data: float(len(data)),
}
"""Scorers that know nothing of the prompt; a reward model that does not beat them has learnt nothing of use."""


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
        found["one_person"] = one_person_against_the_others(rankings)
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


def one_person_against_the_others(rankings: pa.Table) -> PairAccuracy:
    """How often one person prefers what the majority of the others prefers, over all people and pairs.

    Pairs on which the others are divided evenly are left out; a person's own tie counts one half.
    """
    ranks: dict[str, dict[str, dict[str, int]]] = {}
    for row in rankings.to_pylist():
        ranks.setdefault(row["prompt_id"], {}).setdefault(row["image_id"], {})[row["rater"]] = row["rank"]
    own: list[float] = []
    others: list[float] = []
    prompts: list[str] = []
    for prompt_id, images in ranks.items():
        names = sorted(images)
        for place, first in enumerate(names):
            for second in names[:place]:
                raters = sorted(images[first].keys() & images[second].keys())
                signs = np.sign([images[second][rater] - images[first][rater] for rater in raters])
                for person in range(len(raters)):
                    rest = float(np.sign(signs.sum() - signs[person]))
                    own.append(float(signs[person]))
                    others.append(0.5 + rest / 2)
                    prompts.append(prompt_id)
    return pair_accuracy(own, np.zeros(len(own)), others, prompts)
