"""How much the images of each model differ from each other, since quality can be bought with variety."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.evaluate.scoring import scoring_device
from vp_ray.maths.diversity import variance_share
from vp_ray.models.image_features import ImageFeatures
from vp_ray.models.reward import VPScore
from vp_ray.pictures import decode_image
from vp_ray.records import BASE, TUNED, ImageStatus
from vp_ray.storage import Folder, RunFolder


def variety(settings: EvaluateSettings, run: RunFolder, images: Folder) -> dict[str, Any] | None:
    """Variances of VP-Score's image features, base, tuned, and tuned over base with its interval by prompts.

    `base` and `tuned` are over all images; `within_base` and `within_tuned` about the mean of each prompt's images,
    None where a prompt has one. None as a whole without VP-Score, or where no pair was made.
    """
    if not settings.vp_score:
        return None
    scorer = VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri)
    encoder = ImageFeatures(scorer, scoring_device(settings))
    features: dict[str, dict[tuple[str, int], Any]] = {BASE: {}, TUNED: {}}
    for name in images.names():
        rows = [row for row in images.read_table(name).to_pylist() if row["status"] == ImageStatus.MADE]
        if rows:
            seen = encoder.features(np.stack([decode_image(row["image"]["bytes"]) for row in rows]))
            features[rows[0]["generator"]].update(
                {(row["prompt_id"], row["seed"]): one for row, one in zip(rows, seen, strict=True)}
            )
    keys = sorted(features[BASE].keys() & features[TUNED].keys())
    if not keys:
        return None
    base, tuned = (np.stack([features[side][key] for key in keys]) for side in (BASE, TUNED))
    return asdict(variance_share(base, tuned, [prompt for prompt, _ in keys], seed=settings.seed))
