"""Scores of both images of every pair: by VP-Score and other scorers from pixels, by judges from their levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from vp_ray.evaluate.config import VP_SCORE, EvaluateSettings
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.reward import VPScore
from vp_ray.models.rewards import check_scores
from vp_ray.pictures import decode_image
from vp_ray.records import OVERALL, SCORES, Status

Image = Mapping[str, Any]
"""A row of `records.IMAGES`."""


def scoring_device(settings: EvaluateSettings) -> str:
    """Where this process scores."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device


def _row(image: Image, scorer: str, aspect: str, score: float) -> dict[str, Any]:
    about = {key: image[key] for key in ("image_id", "prompt_id", "seed", "generator")}
    return about | {"scorer": scorer, "aspect": aspect, "score": score}


def scores_by_model(model: VPScore, images: Sequence[Image]) -> pa.Table:
    """Rows of `records.SCORES` by VP-Score for every image, aspect and overall, in the order of the images."""
    return scores_by_scorer(VP_SCORE, model, images)


def scores_by_scorer(name: str, scorer: PictureScorer, images: Sequence[Image]) -> pa.Table:
    """The same by any scorer under its name; pictures may have different sizes."""
    pixels = [decode_image(image["image"]["bytes"]) for image in images]
    rows: list[list[dict[str, Any]]] = [[] for _ in images]
    for shape in dict.fromkeys(one.shape for one in pixels):
        places = [place for place, one in enumerate(pixels) if one.shape == shape]
        scores = check_scores(
            scorer.score(np.stack([pixels[place] for place in places]), [images[place]["prompt"] for place in places]),
            len(places),
            scorer.aspects,
        )
        for place, by_aspect, overall in zip(places, scores, scorer.overall(scores), strict=True):
            image = images[place]
            rows[place] = [_row(image, name, *named) for named in zip(scorer.aspects, by_aspect.tolist(), strict=True)]
            if OVERALL not in scorer.aspects:
                rows[place].append(_row(image, name, OVERALL, float(overall)))
    return pa.Table.from_pylist([row for of_image in rows for row in of_image], schema=SCORES)


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
