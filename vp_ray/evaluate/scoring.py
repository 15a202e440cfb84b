"""Scores of both images of every pair: by VP-Score from pixels, and by the judges from their levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vp_ray.evaluate.config import VP_SCORE
from vp_ray.models.image_shards import decode_image
from vp_ray.models.reward import VPScore
from vp_ray.records import OVERALL, SCORES, Status

Image = Mapping[str, Any]
"""A row of `records.IMAGES`."""


def _row(image: Image, scorer: str, aspect: str, score: float) -> dict[str, Any]:
    about = {key: image[key] for key in ("image_id", "prompt_id", "seed", "generator")}
    return about | {"scorer": scorer, "aspect": aspect, "score": score}


def scores_by_model(model: VPScore, images: Sequence[Image]) -> pa.Table:
    """Rows of `records.SCORES` for every image, aspect and overall; the images share one size."""
    if not images:
        return SCORES.empty_table()
    pixels = np.stack([decode_image(image["image"]["bytes"]) for image in images])
    scores = model.score(pixels, [image["prompt"] for image in images])
    rows = []
    for image, by_aspect, overall in zip(images, scores, model.overall(scores), strict=True):
        rows += [_row(image, VP_SCORE, *named) for named in zip(model.aspects, by_aspect.tolist(), strict=True)]
        if OVERALL not in model.aspects:
            rows.append(_row(image, VP_SCORE, OVERALL, float(overall)))
    return pa.Table.from_pylist(rows, schema=SCORES)


def scores_by_judges(
    judgements: Iterable[Mapping[str, Any]], images: Mapping[str, Image], weights: Mapping[str, float]
) -> pa.Table:
    """Rows of `records.SCORES` from scored judgements; others give none.

    An image's score in an aspect is the mean of its levels over the orders that were scored; the overall is the
    weighted mean of the aspects and exists where all aspects of a weight above zero do.
    """
    levels: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for judgement in judgements:
        if judgement["status"] == Status.SCORED:
            for entry in judgement["levels"]:
                levels[judgement["annotator"], entry["image_id"]][entry["aspect"]].append(entry["level"])
    wanted = {aspect: weight for aspect, weight in weights.items() if weight > 0}
    rows = []
    for (judge, image_id), given in levels.items():
        means = {aspect: sum(values) / len(values) for aspect, values in given.items()}
        rows += [_row(images[image_id], judge, aspect, mean) for aspect, mean in means.items()]
        if wanted.keys() <= means.keys():
            overall = sum(weight * means[aspect] for aspect, weight in wanted.items()) / sum(wanted.values())
            rows.append(_row(images[image_id], judge, OVERALL, overall))
    return pa.Table.from_pylist(rows, schema=SCORES)
