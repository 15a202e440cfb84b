"""The seams of the system: what loops receive, so that they run on a cluster or in one CPU process alike.

Letters of shapes: B images, A aspects, F features, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Pixels = NDArray[np.uint8]
"""Images as (B, H, W, 3) uint8 RGB."""

Scores = NDArray[np.float32]
"""Scores as (B, A) float32, one column an aspect of the scorer."""

ArrayT = TypeVar("ArrayT", bound=np.generic)


class Scorer(Protocol):
    """Anything that maps images and their prompts to scores."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of `score`."""
        ...

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, A) scores of (B, H, W, 3) images and B prompts; raises `InputError` where they do not fit."""
        ...


class PendingScores(Protocol):
    """Scores that were asked for and may not be there yet."""

    def result(self, timeout_seconds: float) -> Scores:
        """(B, A) scores; raises `RewardError` when they do not come in time or are not finite."""
        ...


class RewardSource(Protocol):
    """Where rewards are requested now and collected later: in process, over a Ray handle, or over HTTP."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of the scores."""
        ...

    def request(self, images: Pixels, prompts: Sequence[str]) -> PendingScores:
        """Sends one batch without waiting for its scores."""
        ...


class ImageEncoder(Protocol):
    """Anything that maps images to features, whatever their prompts."""

    def features(self, images: Pixels) -> NDArray[np.float32]:
        """(B, F) features of (B, H, W, 3) images."""
        ...


class Engine(Protocol):
    """Owns a module and its optimiser: DeepSpeed on a cluster, plain torch in one process."""

    @property
    def module(self) -> nn.Module:
        """The module to call in the forward pass."""
        ...

    def accumulate(self, loss: Tensor) -> bool:
        """Adds the gradient of one micro-batch's mean loss; updates the weights after every
        `micro_batches`-th call, by the mean over micro-batches and ranks, and then returns True."""
        ...

    @property
    def gradient_norm(self) -> float:
        """The global gradient norm before clipping at the last update."""
        ...

    def save(self, folder: Path) -> None:
        """Writes trainable weights and optimiser state; every rank calls it."""
        ...

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, bitwise; raises `CheckpointError` where it does not fit."""
        ...


class Collective(Protocol):
    """The little that loops need of the other ranks."""

    @property
    def rank(self) -> int:
        """This process's place in 0..world_size - 1."""
        ...

    @property
    def world_size(self) -> int:
        """How many processes take part."""
        ...

    def gather(self, array: NDArray[ArrayT]) -> NDArray[ArrayT]:
        """The arrays of all ranks joined along their first axis in rank order, on every rank."""
        ...

    def barrier(self) -> None:
        """Waits until every rank is here."""
        ...
