"""Rewards from a scorer in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vp_ray.errors import RewardError
from vp_ray.protocols import Pixels, Scorer, Scores


def check_scores(scores: Scores, images: int, aspects: tuple[str, ...]) -> Scores:
    """The scores; raises `RewardError` unless they are finite and one row an image, one column an aspect."""
    if scores.shape != (images, len(aspects)):
        raise RewardError(f"{images} images got scores of shape {scores.shape}", "Use a scorer of these aspects.")
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise RewardError(f"the {aspects[column]} of image {row} of the batch is not a number", "Look at the scorer.")
    return scores


class _Scored:
    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    def result(self, timeout_seconds: float) -> Scores:
        """The scores, which are there already."""
        return self._scores


class LocalRewards:
    """A `RewardSource` that scores at once."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of the scores."""
        return self._scorer.aspects

    def request(self, images: Pixels, prompts: Sequence[str]) -> _Scored:
        """Scores the batch; raises `RewardError` where a score is not finite."""
        return _Scored(check_scores(self._scorer.score(images, prompts), len(images), self.aspects))
