"""What one replica of the service does, without Serve: models in memory, requests of all clients in shared passes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vp_ray.errors import RewardError, VpRayError
from vp_ray.models.reward_inputs import check_batch
from vp_ray.models.rewards import check_scores
from vp_ray.protocols import Pixels, Scorer, Scores
from vp_ray.reward.api import Watch
from vp_ray.reward.batching import Batcher, Pass
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.failures import Kind, ServiceError, kind_of
from vp_ray.reward.memory import keep_freed_memory
from vp_ray.reward.scoring import Answer, fitted, rows_of

_SWITCH_SECONDS: Final = 0.0005
"""Python lets a thread wait 5 ms for another one; a pass that comes back from a kernel would lose that each time."""


class Replica:
    """Scores for whoever asks, by the models that `load` gives."""

    def __init__(
        self,
        models: Mapping[str, str],
        load: Callable[[str], Awaitable[Scorer]],
        settings: ServiceSettings,
        watch: Watch,
        passes: Callable[[Pass], None],
    ) -> None:
        sys.setswitchinterval(_SWITCH_SECONDS)
        keep_freed_memory()
        torch.set_num_threads(settings.threads_per_replica)
        self._models, self._load, self._settings, self._watch = models, load, settings, watch
        self._threads = ThreadPoolExecutor(2, "fit")
        self._batcher = Batcher(settings.max_batch_images, settings.batch_wait_seconds, passes)

    async def model(self, name: str) -> Scorer:
        """A model by its id; raises `ServiceError` for one that the service has not."""
        if name not in self._models:
            known = ", ".join(self._models)
            raise ServiceError(Kind.UNKNOWN_MODEL, f"there is no model '{name[:80]}'", f"These are: {known}.")
        return await self._load(name)

    async def score(self, name: str, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, A) scores of (B, H, W, 3) uint8 images and B prompts.

        Raises `InputError` where they do not fit and `RewardError` where a score is not finite.
        """
        began, count = time.monotonic(), 0
        failures = Counter[str]()
        try:
            check_batch(images, prompts)
            count = len(images)
            model = await self.model(name)
            return check_scores(await self._scores(name, model, list(images), prompts), count, model.aspects)
        except VpRayError as error:
            failures[Kind.NOT_FINITE if isinstance(error, RewardError) else kind_of(error)] += max(count, 1)
            raise
        finally:
            self._watch.request("handle", name, count, time.monotonic() - began, failures)

    async def score_each(self, name: str, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Answer:
        """A row for each of B images of shape (H, W, 3) and any size; one that has no finite score fails alone."""
        model = await self.model(name)
        try:
            return rows_of(model, await self._scores(name, model, images, prompts))
        except VpRayError as error:
            if len(images) == 1:
                return Answer(columns_of(model), (error,))
        # One image made the model fail for all that it came with.
        alone = [self.score_each(name, [image], [prompt]) for image, prompt in zip(images, prompts, strict=True)]
        answers = await asyncio.gather(*alone)
        return Answer(columns_of(model), tuple(row for answer in answers for row in answer.rows))

    async def _scores(
        self, name: str, model: Scorer, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> Scores:
        loop = asyncio.get_running_loop()
        ready = await loop.run_in_executor(self._threads, lambda: [fitted(model, image) for image in images])
        return await asyncio.wrap_future(self._batcher.submit(name, model, ready, prompts))

    def close(self) -> None:
        """Ends the threads; requests that wait get an error."""
        self._batcher.close()
        self._threads.shutdown()

    def check_health(self) -> None:
        """Raises `RewardError` when a pass has been in work for too long."""
        if self._batcher.busy_seconds > self._settings.stuck_after_seconds:
            raise RewardError("a batch is stuck", "Raise service.stuck_after_seconds where batches are that large.")


def columns_of(model: Scorer) -> tuple[str, ...]:
    """The columns of a model's answers."""
    return (*model.aspects, "overall") if hasattr(model, "overall") else model.aspects
