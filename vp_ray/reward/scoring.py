"""Several requests scored in one pass of a model; each succeeds or fails alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp_ray.errors import VpRayError
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.protocols import Pixels, Scorer, Scores
from vp_ray.reward.failures import Kind, ServiceError

_LOG = logging.getLogger("vp_ray.reward")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one request that share a pass with others': images of shape (H, W, 3) and their prompts."""

    images: Sequence[NDArray[np.uint8]]
    prompts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a replica answers for B images: a row of numbers for each, or the error that this image alone made."""

    columns: tuple[str, ...]
    """The model's aspects, then `overall` where the model has one."""
    rows: tuple[tuple[float, ...] | VpRayError, ...]


def fitted(scorer: Scorer, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The (H, W, 3) image at the size that the model sees, so that images of all sizes share a pass.

    This is what `score` does first, done here on a thread beside the model's. A scorer without such a size takes the
    image as it is.
    """
    return scorer.preparation.fit_images(image[None])[0] if isinstance(scorer, PictureScorer) else image


def score_parts(scorer: Scorer, parts: Sequence[Part]) -> list[Scores | VpRayError]:
    """For each part its (B, A) scores, by one pass for all images of a size, or the error that this part alone made.

    Equal prompts of the whole pass are read once. A score that is not finite is left as it is: see `rows_of`.
    """
    try:
        return _together(scorer, parts)
    except Exception as error:
        if len(parts) > 1:
            return [score_parts(scorer, [part])[0] for part in parts]
        if isinstance(error, VpRayError):
            return [error]
        _LOG.exception("the model failed")
        return [ServiceError(Kind.FAILED, f"the model failed ({type(error).__name__}: {error})", "Look at its log.")]


def _together(scorer: Scorer, parts: Sequence[Part]) -> list[Scores | VpRayError]:
    images = [image for part in parts for image in part.images]
    prompts = [prompt for part in parts for prompt in part.prompts]
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    scores = np.empty((len(images), len(scorer.aspects)), np.float32)
    for same in places.values():
        pixels: Pixels = np.stack([images[place] for place in same])
        scores[same] = scorer.score(pixels, [prompts[place] for place in same])
    return [*np.split(scores, np.cumsum([len(part.images) for part in parts])[:-1])]


def rows_of(scorer: Scorer, scores: Scores) -> Answer:
    """(B, A) scores as rows with their overall score; a row that is not finite becomes its error, never a number."""
    overall = getattr(scorer, "overall", None)
    columns = (*scorer.aspects, "overall") if overall is not None else scorer.aspects
    values = np.column_stack([scores, overall(scores)]) if overall is not None else scores
    rows: list[tuple[float, ...] | VpRayError] = []
    for row in values:
        if np.isfinite(row).all():
            rows.append(tuple(float(value) for value in row))
        else:
            name = columns[int(np.flatnonzero(~np.isfinite(row))[0])]
            rows.append(ServiceError(Kind.NOT_FINITE, f"the model's {name} is not a number", "Look at the model."))
    return Answer(columns, tuple(rows))
