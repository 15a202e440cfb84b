"""Rewards from scorers in this process, and from several sources at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError

import numpy as np

from vp_ray.errors import RewardError
from vp_ray.protocols import PendingScores, Pixels, RewardSource, Scorer, Scores


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


class _InBackground:
    def __init__(self, scores: Future[Scores], images: int, aspects: tuple[str, ...]) -> None:
        self._scores, self._images, self._aspects = scores, images, aspects

    def result(self, timeout_seconds: float) -> Scores:
        """(B, A) scores; raises `RewardError` when they are late or not finite."""
        try:
            scores = self._scores.result(timeout_seconds)
        except LateError:
            raise RewardError(
                f"the scores of {self._images} images were not there in time", "Raise rl.reward_timeout_seconds."
            ) from None
        return check_scores(scores, self._images, self._aspects)


class BackgroundRewards:
    """A `RewardSource` that scores in a thread of this process, while the next batch is drawn."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._thread = ThreadPoolExecutor(1, "score")

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of the scores."""
        return self._scorer.aspects

    def request(self, images: Pixels, prompts: Sequence[str]) -> _InBackground:
        """Queues one batch without waiting for its scores."""
        return _InBackground(
            self._thread.submit(self._scorer.score, images, list(prompts)), len(images), self._scorer.aspects
        )


class _Joined:
    def __init__(self, pending: Mapping[str, PendingScores]) -> None:
        self._pending = pending

    def result(self, timeout_seconds: float) -> Scores:
        """(B, A) scores of all sources side by side; the error of one names it, and none waits beyond the same end."""
        deadline = time.monotonic() + timeout_seconds
        parts = []
        for name, one in self._pending.items():
            try:
                parts.append(one.result(max(0.0, deadline - time.monotonic())))
            except RewardError as error:
                raise RewardError(error.problem, error.remedy, f"scorer '{name}'" if name else error.where) from error
        return np.concatenate(parts, axis=1)


class JoinedRewards:
    """A `RewardSource` that asks several for the same images at once; the columns of the source NAME are
    `NAME.ASPECT`, and those of the source with the empty name are `ASPECT`."""

    def __init__(self, sources: Mapping[str, RewardSource]) -> None:
        self._sources = dict(sources)
        self.aspects = tuple(named(name, aspect) for name, one in self._sources.items() for aspect in one.aspects)

    def request(self, images: Pixels, prompts: Sequence[str]) -> _Joined:
        """Sends one batch to every source without waiting for scores."""
        return _Joined({name: one.request(images, prompts) for name, one in self._sources.items()})


def named(source: str, aspect: str) -> str:
    """The name of a source's aspect among those of several."""
    return f"{source}.{aspect}" if source else aspect
