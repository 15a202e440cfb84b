"""Prometheus metrics of the reward service, which every Ray node exports with the prefix `ray_`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ray.util.metrics import Counter, Histogram

_SECONDS: Final = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]
_SIZES: Final = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]


class RewardMetrics:
    """Counts of one process. Tags hold the model and how a request came (`http` or `handle`), never a prompt."""

    def __init__(self) -> None:
        tags = ("model", "path")
        self._requests = Counter("vp_reward_requests", "Requests that are through.", tags)
        self._images = Counter("vp_reward_images", "Images of these requests.", tags)
        self._failures = Counter(
            "vp_reward_failures", "Images without a score, by why; 1 for a body without images.", (*tags, "type")
        )
        self._latency = Histogram("vp_reward_latency_seconds", "From request to answer.", _SECONDS, tags)
        self._batch_images = Histogram("vp_reward_batch_images", "Images of a forward pass.", _SIZES, ("model",))
        self._batch_prompts = Histogram(
            "vp_reward_batch_prompts", "Distinct prompts of a forward pass: each is read once.", _SIZES, ("model",)
        )
        self._batch_requests = Histogram(
            "vp_reward_batch_requests", "Requests that share a forward pass.", _SIZES, ("model",)
        )
        self._batch_seconds = Histogram("vp_reward_batch_seconds", "Seconds of a forward pass.", _SECONDS, ("model",))

    def request(self, path: str, model: str, images: int, seconds: float, failures: Mapping[str, int]) -> None:
        """One request is through."""
        tags = {"model": model, "path": path}
        self._requests.inc(1, tags)
        if images:
            self._images.inc(images, tags)
        for kind, count in failures.items():
            self._failures.inc(count, {**tags, "type": str(kind)})
        self._latency.observe(seconds, tags)

    def batch(self, model: str, images: int, prompts: int, requests: int, seconds: float) -> None:
        """One forward pass is through."""
        tags = {"model": model}
        self._batch_images.observe(images, tags)
        self._batch_prompts.observe(prompts, tags)
        self._batch_requests.observe(requests, tags)
        self._batch_seconds.observe(seconds, tags)
