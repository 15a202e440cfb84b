"""Prometheus metrics of a run's processes, which every Ray node exports with the prefix `ray_`.

All are tagged with the run and the stage that the process works for, and never with a prompt, an image or a key.
`clusters/grafana/` shows them; docs/operations.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ray.util.metrics import Counter, Histogram

from vp_ray.distributed.lasting import LastingGauge
from vp_ray.judging.gate import Gate
from vp_ray.logs import Origin, origin
from vp_ray.storage import Manifest

_SECONDS: Final = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]
_SIZES: Final = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
_LABELS: Final = ("run", "stage")


def _gauge(name: str, text: str, *tags: str) -> LastingGauge:
    return LastingGauge(f"vp_ray_{name}", text, (*_LABELS, *tags))


def _counter(name: str, text: str, *tags: str) -> Counter:
    return Counter(f"vp_ray_{name}", text, (*_LABELS, *tags))


def _add(counter: Counter, amount: float, **tags: str) -> None:
    """Counts, where there is something to count: Ray refuses a zero."""
    if amount > 0:
        counter.inc(amount, {**origin().labels, **tags})


class StageGauges:
    """How far the stages of a run are, as its driver knows it."""

    def __init__(self) -> None:
        self._running = _gauge("stage_running", "1 while the stage works.")
        self._done = _gauge("stage_done", "Units of the stage that are done.", "unit")
        self._total = _gauge("stage_total", "Units of the stage in all.", "unit")
        self._seconds = _gauge("stage_seconds", "Seconds that a finished stage took.")
        self._cost = _gauge("stage_cost_usd", "US dollars that a finished stage cost.")
        self._rows = _gauge("stage_rows", "Rows of a finished stage by status or kind.", "kind")

    def running(self, run: str, stage: str, works: bool) -> None:
        """The stage works now, or no longer."""
        self._running.set(float(works), {"run": run, "stage": stage})

    def progress(self, run: str, stage: str, unit: str, done: int, total: int | None) -> None:
        """So much is done."""
        tags = {"run": run, "stage": stage, "unit": unit}
        self._done.set(done, tags)
        if total is not None:
            self._total.set(total, tags)

    def finished(self, run: str, manifest: Manifest) -> None:
        """What a finished stage says of itself."""
        tags = {"run": run, "stage": manifest.stage}
        self._seconds.set(manifest.seconds, tags)
        self._cost.set(manifest.cost_usd, tags)
        for kind, count in manifest.rows.items():
            self._rows.set(count, {**tags, "kind": kind})


class ImageMetrics:
    """Images that stages drew, counted once, when their shard is on disk."""

    def __init__(self) -> None:
        self._images = _counter("images", "Images drawn, by what became of them.", "generator", "status")
        self._bytes = _counter("image_bytes", "Bytes of the images written.", "generator")

    def shard(self, generator: str, result: Mapping[str, Any]) -> None:
        """The result row of one shard."""
        _add(self._images, result["rows"] - result["not_made"], generator=generator, status="made")
        _add(self._images, result["not_made"], generator=generator, status="not_made")
        _add(self._bytes, result["bytes"], generator=generator)


class BusyMetrics:
    """Seconds in which an actor's device computed: their rate is its busy share."""

    def __init__(self, pool: str, device: str) -> None:
        self._seconds = _counter("busy_seconds", "Seconds in which the actor computed.", "pool", "device")
        self._tags = {"pool": pool, "device": device}

    def busy(self, seconds: float) -> None:
        """It computed for so long."""
        _add(self._seconds, seconds, **self._tags)


class AnswerMetrics:
    """The requests of one asked model from one process; satisfies `judging.watching.RequestWatch`."""

    def __init__(self, annotator: str) -> None:
        self._tags = {"annotator": annotator}
        self._flying = self._open = 0
        self._in_flight = _gauge("requests_in_flight", "Requests under way.", "annotator")
        self._waiting = _gauge("requests_waiting", "Questions of which no request is under way.", "annotator")
        self._requests = _counter(
            "requests",
            "Requests that came back, by how: answered, rate and busy (both 429), ...",
            "annotator",
            "outcome",
        )
        tags = (*_LABELS, "annotator")
        self._seconds = Histogram("vp_ray_request_seconds", "From request to answer.", _SECONDS, tags)
        self._answers = _counter("answers", "Questions that are through, by status.", "annotator", "status")
        self._tokens = _counter("tokens", "Tokens billed: request, cached and reply.", "annotator", "kind")
        self._cost = _counter("cost_usd", "US dollars that answers cost.", "annotator")

    def asked(self, questions: int) -> None:
        """So many more questions are to be asked."""
        self._open += questions
        self._show()

    def ended(self) -> None:
        """One question less is to be asked, whatever became of it."""
        self._open -= 1
        self._show()

    def left(self) -> None:
        """A request is under way."""
        self._flying += 1
        self._show()

    def came_back(self, outcome: str, seconds: float) -> None:
        """A request came back with an answer, or failed in the way that is told."""
        self._flying -= 1
        self._show()
        _add(self._requests, 1, outcome=outcome, **self._tags)
        self._seconds.observe(seconds, {**origin().labels, **self._tags})

    def _show(self) -> None:
        tags = {**origin().labels, **self._tags}
        self._in_flight.set(self._flying, tags)
        self._waiting.set(self._open - self._flying, tags)

    def through(self, row: Mapping[str, Any]) -> None:
        """A question has its row."""
        _add(self._answers, 1, status=str(row["status"]), **self._tags)
        for kind in ("request", "cached", "reply"):
            _add(self._tokens, row.get(f"{kind}_tokens") or 0, kind=kind, **self._tags)
        _add(self._cost, row.get("cost_usd") or 0.0, **self._tags)


class GateMetrics:
    """What the cluster's rate limiter allows the models of each run, and what is left of the budget."""

    def __init__(self) -> None:
        self._allowed = _gauge("requests_per_minute_allowed", "Requests a minute that the gate lets pass.", "annotator")
        self._left = _gauge("budget_left_usd", "US dollars left of the stage's budget, those under way held back.")

    def show(self, whom: Origin, gate: Gate) -> None:
        """The books of one run, as they stand."""
        for annotator, figures in gate.figures().items():
            if figures["requests_per_minute_allowed"] is not None:
                self._allowed.set(figures["requests_per_minute_allowed"], {**whom.labels, "annotator": annotator})
        if gate.budget_usd is not None:
            self._left.set(gate.budget_usd - gate.spent_usd - gate.held_usd, whom.labels)


class RewardMetrics:
    """Counts of one process of the reward service, by the model and by how a request came (`http` or `handle`)."""

    def __init__(self) -> None:
        tags = (*_LABELS, "model", "path")
        passes = (*_LABELS, "model")
        self._requests = Counter("vp_reward_requests", "Requests that are through.", tags)
        self._images = Counter("vp_reward_images", "Images of these requests.", tags)
        self._failures = Counter(
            "vp_reward_failures", "Images without a score, by why; 1 for a body without images.", (*tags, "type")
        )
        self._latency = Histogram("vp_reward_latency_seconds", "From request to answer.", _SECONDS, tags)
        self._batch_images = Histogram("vp_reward_batch_images", "Images of a forward pass.", _SIZES, passes)
        self._batch_prompts = Histogram(
            "vp_reward_batch_prompts", "Distinct prompts of a forward pass: each is read once.", _SIZES, passes
        )
        self._batch_requests = Histogram(
            "vp_reward_batch_requests", "Requests that share a forward pass.", _SIZES, passes
        )
        self._batch_seconds = Histogram("vp_reward_batch_seconds", "Seconds of a forward pass.", _SECONDS, passes)

    def request(self, path: str, model: str, images: int, seconds: float, failures: Mapping[str, int]) -> None:
        """One request is through."""
        tags = {**origin().labels, "model": model, "path": path}
        self._requests.inc(1, tags)
        if images:
            self._images.inc(images, tags)
        for kind, count in failures.items():
            self._failures.inc(count, {**tags, "type": str(kind)})
        self._latency.observe(seconds, tags)

    def batch(self, model: str, images: int, prompts: int, requests: int, seconds: float) -> None:
        """One forward pass is through."""
        tags = {**origin().labels, "model": model}
        self._batch_images.observe(images, tags)
        self._batch_prompts.observe(prompts, tags)
        self._batch_requests.observe(requests, tags)
        self._batch_seconds.observe(seconds, tags)
