"""What a batch that ended means for each of its requests: a row, or another place in a later batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Generic

from openai.types import Batch

from vp_ray.errors import AnnotatorError
from vp_ray.judging.batch_book import BATCH, BatchRecord
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.courses import FINAL_STATUS, Course, Registrar
from vp_ray.judging.forms import Item
from vp_ray.judging.image_tokens import TokenEstimate, text_tokens
from vp_ray.judging.outcomes import Failure, Reply
from vp_ray.judging.prices import Price
from vp_ray.records import Status

REJECTED_TOGETHER: Final = 8
"""When so many requests or more are all rejected, and none was answered before, it is not the requests."""
QUEUE_CODES: Final = frozenset({"token_limit_exceeded", "request_limit_exceeded", "batch_limit_exceeded"})
"""Codes of a batch for which the provider's queue has no room."""


@dataclass(slots=True)
class Results:
    """What became of the requests of one batch."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """For the ledger."""
    asked_again: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What requests have been through that have no answer yet."""
    cost_usd: float = 0.0
    stop: AnnotatorError | None = None
    """What stops the run, once rows and record are safe."""


class BatchReader(Generic[Item]):
    """Reads the batches of one annotator."""

    def __init__(
        self,
        settings: ModelSettings,
        registrar: Registrar[Item],
        price: Price,
        estimate: TokenEstimate,
        item: Callable[[str], Item],
    ) -> None:
        self._settings, self._registrar, self._price, self._item = settings, registrar, price, item
        self._estimate = estimate
        self._accepted = False

    def ended(
        self,
        record: BatchRecord,
        batch: Batch,
        outcomes: Mapping[str, Reply | Failure | None],
        known: Collection[str] = (),
    ) -> Results:
        """The results of a batch that completed, expired or was cancelled; `known` are those in the ledger already."""
        results = Results()
        self._accepted = self._accepted or any(isinstance(outcome, Reply) for outcome in outcomes.values())
        everybody = self._everybody_rejected(record, outcomes)
        if everybody is not None:
            return Results(asked_again={key: asdict(record.course(key)) for key in record.tokens}, stop=everybody)
        for key in record.tokens:
            if key in known:
                continue
            course, outcome = record.course(key), outcomes.get(key)
            row: dict[str, Any] | None
            if isinstance(outcome, Reply):
                sent = record.tokens[key] + sum(text_tokens(said["content"]) for said in course.said)
                results.cost_usd += course.book(outcome, sent, self._price)
                self._estimate.settle(sent, outcome.request_tokens)
                row = self._registrar.read(self._item(key), course, outcome)
            elif outcome is not None and outcome.error is not None:
                results.stop, row = outcome.error, None
            else:
                row = self._failed_row(key, course, outcome, batch.status)
            self._keep(results, key, course, row, batch)
        return results

    def invalid(self, record: BatchRecord, batch: Batch, whole_files_before: int) -> Results:
        """The results of a batch that the provider did not take: its faulty lines, or all of it, are at fault.

        `whole_files_before` counts batches in a row that were refused as a whole; the third stops the run.
        """
        errors = (batch.errors.data if batch.errors else None) or []
        told = "; ".join(sorted({f"{error.code}: {error.message}" for error in errors})) or "no reason is given"
        if any(error.code in QUEUE_CODES for error in errors):
            return Results(asked_again={key: asdict(record.course(key)) for key in record.tokens})
        keys = list(record.tokens)
        faulty = {
            keys[error.line - 1]: f"{error.code}: {error.message}"
            for error in errors
            if error.line is not None and 1 <= error.line <= len(keys)
        }
        stop = AnnotatorError(
            f"the annotator '{self._settings.name}' takes no batch ({told})",
            "Check that its model is served in batches, or take `batch` out; nothing was asked and nothing is lost.",
        )
        results = Results(stop=stop if len(faulty) >= len(keys) >= REJECTED_TOGETHER else None)
        if not faulty and whole_files_before >= 2:
            results.stop = stop
        for key in keys:
            course = record.course(key)
            row = None
            if key in faulty and results.stop is None:
                course.attempts += 1
                row = self._registrar.row(self._item(key), course, Status.REJECTED, error=faulty[key])
            elif not faulty and results.stop is None:
                row = self._failed_row(key, course, Failure("server", told), batch.status)
            self._keep(results, key, course, row, batch)
        return results

    def _everybody_rejected(
        self, record: BatchRecord, outcomes: Mapping[str, Reply | Failure | None]
    ) -> AnnotatorError | None:
        rejected = [
            outcome.detail
            for outcome in outcomes.values()
            if isinstance(outcome, Failure) and outcome.failing == "rejected"
        ]
        if self._accepted or not REJECTED_TOGETHER <= len(record.tokens) <= len(rejected):
            return None
        return AnnotatorError(
            f"the annotator '{self._settings.name}' rejects every request ({rejected[0]})",
            "Check that the model takes images and JSON schemas, and the annotator's settings.",
        )

    def _failed_row(self, key: str, course: Course, failure: Failure | None, ended_as: str) -> dict[str, Any] | None:
        """The row of a request without a reply, or None for one that goes into another batch."""
        course.attempts += 1
        if failure is not None and failure.reply is not None:
            course.reply = failure.reply
        final = failure is not None and failure.failing in ("filtered", "rejected")
        if not final and course.attempts < self._settings.max_attempts:
            return None
        if failure is None:
            status = Status.TIMED_OUT if ended_as == "expired" else Status.GIVEN_UP
            return self._registrar.row(self._item(key), course, status, error=f"the batch ended as {ended_as}")
        status = FINAL_STATUS.get(failure.failing, Status.GIVEN_UP)
        return self._registrar.row(self._item(key), course, status, error=failure.detail)

    def _keep(self, results: Results, key: str, course: Course, row: dict[str, Any] | None, batch: Batch) -> None:
        if row is None:
            results.asked_again[key] = asdict(course)
            return
        times = (batch.completed_at, batch.expired_at, batch.cancelled_at, batch.failed_at)
        ended = next((float(time) for time in times if time), row["answered_at"])
        latency = max(0.0, ended - batch.created_at)
        results.rows.append({**row, "latency_seconds": latency, "answered_at": ended, BATCH: batch.id})
