"""What one item has been through, what its replies and failures mean, and the row that is kept in the end.

The same for requests that are sent one by one and for those of batches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from vp_ray.judging.config import ModelSettings
from vp_ray.judging.forms import Form, Item
from vp_ray.judging.image_tokens import text_tokens
from vp_ray.judging.outcomes import Failing, Reply
from vp_ray.judging.parsing import UnreadableReplyError
from vp_ray.judging.prices import Price
from vp_ray.records import Status
from vp_ray.redaction import redact, without_secrets

FINAL_STATUS: Final[Mapping[Failing, Status]] = {
    "filtered": Status.CONTENT_FILTERED,
    "rejected": Status.REJECTED,
    "timeout": Status.TIMED_OUT,
}
"""What a failure is called that stands; any other is given up."""


@dataclass(slots=True)
class Course:
    """What one item has been through so far."""

    attempts: int = 0
    refusals: int = 0
    """Attempts that were turned away by rate."""
    said: list[dict[str, str]] = field(default_factory=list)
    """The reply that could not be read and what the model was told about it; empty before that."""
    request_tokens: int = 0
    reply_tokens: int = 0
    cost_usd: float = 0.0
    reply: str | None = None
    """What the model, or the server in its place, said last, whatever became of it."""

    def book(self, reply: Reply, sent_tokens: int, price: Price) -> float:
        """Counts a reply, by our own estimates where the server counted nothing; what it cost."""
        request = sent_tokens if reply.request_tokens is None else reply.request_tokens
        replied = text_tokens(reply.text) if reply.reply_tokens is None else reply.reply_tokens
        cost = price.cost_usd(request, replied, reply.cached_tokens)
        self.request_tokens += request
        self.reply_tokens += replied
        self.cost_usd += cost
        return cost


class Registrar(Generic[Item]):
    """Writes the rows of one model."""

    def __init__(self, settings: ModelSettings, form: Form[Item], price: Price | None) -> None:
        self._settings, self._form, self._price = settings, form, price

    def read(self, item: Item, course: Course, reply: Reply) -> dict[str, Any] | None:
        """The row for a reply, or None when the model is asked once more for one that can be read."""
        course.attempts += 1
        course.reply = reply.refusal or reply.text
        if reply.refusal:
            return self.row(item, course, Status.REFUSED)
        if reply.finish_reason == "content_filter":
            return self.row(item, course, Status.CONTENT_FILTERED)
        try:
            answer = self._form.read(item, reply.text)
        except UnreadableReplyError as error:
            if reply.finish_reason == "length":
                return self.row(item, course, Status.TRUNCATED, error=str(error))
            if course.said or course.attempts >= self._settings.max_attempts:
                return self.row(item, course, Status.UNREADABLE, error=str(error))
            course.said = [
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": f"This cannot be read: {error}. Give the whole answer in the schema."},
            ]
            return None
        return self.row(item, course, Status.SCORED, answer=answer)

    def row(
        self,
        item: Item,
        course: Course,
        status: Status,
        *,
        error: str | None = None,
        answer: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The row of an item with this status; `latency_seconds` is for the caller to fill in.

        What the server said is redacted: it was sent the key, and may give it back.
        """
        return {
            **self._form.row(item),
            **without_secrets(answer or {}),
            "annotator": self._settings.name,
            "status": str(status),
            "reply": None if course.reply is None else redact(course.reply),
            "error": None if error is None else redact(error),
            "request_tokens": course.request_tokens,
            "reply_tokens": course.reply_tokens,
            "cost_usd": None if self._price is None else course.cost_usd,
            "latency_seconds": None,
            "attempts": course.attempts + course.refusals,
            "answered_at": time.time(),
        }
