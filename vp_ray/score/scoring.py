"""From rows to scores, in batches; a row that cannot be scored says why and stops no other."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.score.rows import Row, in_parts

MAX_PIXELS: Final = 64_000_000
"""Larger pictures are refused before they are decoded."""


class ScoreStatus(StrEnum):
    """What became of one row. Only `SCORED` carries numbers."""

    SCORED = "scored"
    UNREADABLE = "unreadable"
    """There is no image, or it is broken or too large."""
    NO_PROMPT = "no_prompt"
    NOT_FINITE = "not_finite"
    """The scorer gave something that is no number."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row and its scores, or why it has none."""

    row: Row
    status: ScoreStatus
    reason: str = ""
    scores: tuple[float, ...] = ()
    overall: float | None = None
    prompt_cut: bool = False
    """Whether the prompt is longer than the scorer reads."""


def score_rows(scorer: PictureScorer, rows: Iterable[Row], batch_rows: int) -> Iterator[ScoredRow]:
    """Every row in order with its scores or its status; no more than `batch_rows` pictures are in memory."""
    for part in in_parts(rows, batch_rows):
        prepared = [_prepared(scorer, row) for row in part]
        good = [item for item in prepared if not isinstance(item, ScoredRow)]
        scored = _scored(scorer, good) if good else iter(())
        for item in prepared:
            yield item if isinstance(item, ScoredRow) else next(scored)


def _prepared(scorer: PictureScorer, row: Row) -> tuple[Row, NDArray[np.uint8]] | ScoredRow:
    if row.prompt is None and scorer.reader is not None:
        return ScoredRow(row, ScoreStatus.NO_PROMPT, "there is no prompt")
    try:
        return row, scorer.preparation.fit_picture(_opened(row))
    except InputError as error:
        return ScoredRow(row, ScoreStatus.UNREADABLE, error.problem)


def _opened(row: Row) -> Image.Image:
    """The decoded picture; raises `InputError` where there is none, it is broken or too large."""
    if row.source is None:
        raise InputError("there is no image")
    try:
        with Image.open(io.BytesIO(row.source) if isinstance(row.source, bytes) else row.source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"the image has {image.width} x {image.height} pixels, over {MAX_PIXELS:,}")
            image.load()
            return image
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UnidentifiedImageError):
            raise InputError("this cannot be read as an image") from None
        raise InputError(f"this cannot be read as an image ({error})") from None


def _scored(scorer: PictureScorer, good: list[tuple[Row, NDArray[np.uint8]]]) -> Iterator[ScoredRow]:
    rows = [row for row, _ in good]
    prompts = [row.prompt or "" for row in rows]
    scores = scorer.score(np.stack([pixels for _, pixels in good]), prompts)
    overall, cut = scorer.overall(scores), scorer.prompts_cut(prompts)
    for row, by_aspect, one, longer in zip(rows, scores, overall, cut, strict=True):
        if np.isfinite(by_aspect).all():
            yield ScoredRow(row, ScoreStatus.SCORED, "", tuple(by_aspect.tolist()), float(one), bool(longer))
        else:
            yield ScoredRow(row, ScoreStatus.NOT_FINITE, "the scorer's output is no number", prompt_cut=bool(longer))
