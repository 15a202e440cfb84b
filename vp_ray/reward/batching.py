"""One queue and one thread for the passes of models: images of all clients share them, none waits behind a crowd."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vp_ray.errors import RewardError, VpRayError
from vp_ray.protocols import Scorer, Scores
from vp_ray.reward.scoring import Part, score_parts


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass as it was."""

    model: str
    images: int
    prompts: int
    """Distinct ones: each of them was read once."""
    requests: int
    seconds: float


@dataclass(slots=True)
class _Job:
    """A request in work: `taken` of its rows are in a pass or through it, `done` are through."""

    model: str
    scorer: Scorer
    images: Sequence[NDArray[np.uint8]]
    prompts: Sequence[str]
    scores: Scores
    came: float
    answer: Future[Scores] = field(default_factory=Future)
    taken: int = 0
    done: int = 0

    @property
    def left(self) -> int:
        return len(self.prompts) - self.taken

    def fail(self, error: VpRayError) -> None:
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)


class Batcher:
    """Gathers the images of requests into passes of at most `max_images`, one model a pass.

    Requests are served in the order in which they came. A request that is larger than a pass leaves half of each
    pass to those behind it. An idle model waits `wait_seconds` for a pass to fill; a busy one takes what has come.
    """

    def __init__(self, max_images: int, wait_seconds: float, watch: Callable[[Pass], None]) -> None:
        self._max_images, self._wait_seconds, self._watch = max_images, wait_seconds, watch
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._closed = False
        self._began: float | None = None
        self._thread = threading.Thread(target=self._work, name="score", daemon=True)
        self._thread.start()

    def submit(
        self, model: str, scorer: Scorer, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> Future[Scores]:
        """The (B, A) scores to come of B images (H, W, 3) and their prompts; B is at least 1."""
        scores = np.empty((len(prompts), len(scorer.aspects)), np.float32)
        job = _Job(model, scorer, images, prompts, scores, time.monotonic())
        with self._changed:
            if self._closed:
                raise RewardError("the replica is ending", "Ask again.")
            self._waiting.append(job)
            self._changed.notify()
        return job.answer

    @property
    def busy_seconds(self) -> float:
        """How long the present pass has been in work; 0 when there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Ends the thread after the present pass; requests that wait get an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while chosen := self._next():
            began = self._began = time.monotonic()
            parts = [Part(job.images[rows], job.prompts[rows]) for job, rows in chosen]
            results = score_parts(chosen[0][0].scorer, parts)
            self._began = None
            for (job, rows), result in zip(chosen, results, strict=True):
                self._finish(job, rows, result)
            prompts = {prompt for part in parts for prompt in part.prompts}
            images = sum(len(part.prompts) for part in parts)
            self._watch(Pass(chosen[0][0].model, images, len(prompts), len(parts), time.monotonic() - began))

    def _finish(self, job: _Job, rows: slice, result: Scores | VpRayError) -> None:
        if isinstance(result, VpRayError):
            with self._changed:
                job.taken = len(job.prompts)
                self._waiting = [other for other in self._waiting if other is not job]
            job.fail(result)
            return
        job.scores[rows] = result
        job.done += len(result)
        if job.done == len(job.prompts) and job.answer.set_running_or_notify_cancel():
            job.answer.set_result(job.scores)

    def _next(self) -> list[tuple[_Job, slice]]:
        """The rows of the next pass; empty when the batcher was closed."""
        with self._changed:
            while True:
                self._waiting = [job for job in self._waiting if not job.answer.cancelled()]
                if self._closed:
                    for job in self._waiting:
                        job.fail(RewardError("the replica is ending", "Ask again."))
                    return []
                if not self._waiting:
                    self._changed.wait()
                    continue
                first = self._waiting[0]
                together = [job for job in self._waiting if job.scorer is first.scorer]
                remaining = first.came + self._wait_seconds - time.monotonic()
                if remaining <= 0 or sum(job.left for job in together) >= self._max_images:
                    break
                self._changed.wait(remaining)
            chosen = take([job.left for job in together], self._max_images)
            rows = [
                (job, slice(job.taken, job.taken + count)) for job, count in zip(together, chosen, strict=True) if count
            ]
            for job, part in rows:
                job.taken = part.stop
            self._waiting = [job for job in self._waiting if job.left]
            return rows


def take(waiting: Sequence[int], room: int) -> list[int]:
    """How many rows of each request, in the order in which they came, go into a pass with so much room."""
    counts = [0] * len(waiting)
    free = room
    for place, left in enumerate(waiting):
        behind = place + 1 < len(waiting)
        counts[place] = min(left, (free + 1) // 2 if left > room and behind else free)
        free -= counts[place]
    for place, left in enumerate(waiting):
        more = min(left - counts[place], free)
        counts[place] += more
        free -= more
    return counts
