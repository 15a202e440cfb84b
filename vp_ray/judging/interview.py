"""One item until it has an answer or a status: attempts, backoff, one re-ask, and the row that is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic

import openai

from vp_ray.errors import AnnotatorError, InputError
from vp_ray.ids import uniform_from
from vp_ray.judging.client import ask
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.courses import FINAL_STATUS, Course, Registrar
from vp_ray.judging.departures import Departures
from vp_ray.judging.forms import Form, Item
from vp_ray.judging.grants import RateLimiter, Settled, Wanted
from vp_ray.judging.image_tokens import TokenEstimate, text_tokens
from vp_ray.judging.outcomes import Failure, Reply
from vp_ray.judging.prices import FREE, price_of
from vp_ray.judging.requests import Message
from vp_ray.judging.watching import RequestWatch, Unwatched
from vp_ray.records import Status

_BACKOFF_SECONDS: Final = (0.5, 30.0)
_REFUSALS_PER_ATTEMPT: Final = 10
"""Refusals by rate are the server's way of saying when, so a question may meet many before it is given up."""
_REJECTED_IN_A_ROW: Final = 8
"""When the first so many requests are all rejected, it is not the requests."""

Send = Callable[
    [openai.AsyncOpenAI, ModelSettings, list[dict[str, Any]], dict[str, Any]],
    Awaitable[Reply | Failure],
]
"""Sends messages with a response format to an endpoint; raises nothing that a server could cause."""


def backoff_seconds(key: str, attempt: int) -> float:
    """Doubling from half a second to 30 s, times 0.5 to 1.5 as drawn by the question and the attempt."""
    first, most = _BACKOFF_SECONDS
    return min(most, first * 2.0**attempt) * (0.5 + uniform_from("backoff", key, attempt))


class Interviewer(Generic[Item]):
    """Asks one model, from one event loop, and knows what all its answers have in common."""

    def __init__(
        self,
        settings: ModelSettings,
        form: Form[Item],
        client: openai.AsyncOpenAI,
        limiter: RateLimiter,
        departures: Departures,
        send: Send = ask,
        watch: RequestWatch | None = None,
    ) -> None:
        self._settings, self._form, self._client, self._send = settings, form, client, send
        self._limiter, self._departures, self._watch = limiter, departures, watch or Unwatched()
        self._price = price_of(settings)
        self._registrar = Registrar(settings, form, self._price)
        self._estimate = TokenEstimate(settings.name)
        self._last_sign = float("-inf")
        self._accepted = False
        self._rejected = 0

    async def row(self, item: Item) -> dict[str, Any]:
        """The row for an item; raises `AnnotatorError` or `BudgetError` to stop the run."""
        course, started = Course(), time.monotonic()
        try:
            request = await asyncio.to_thread(self._form.message, item)
        except InputError as error:
            return self._registrar.row(item, course, Status.REJECTED, error=str(error))
        while True:
            left, outcome = await self._attempt(request, course)
            if isinstance(outcome, Reply):
                self._last_sign, self._accepted = time.monotonic(), True
                row = self._registrar.read(item, course, outcome)
            else:
                row = self._judge_failure(item, course, outcome, started)
                if row is None:
                    wait = outcome.retry_after_seconds or backoff_seconds(self._form.key(item), course.attempts)
                    await asyncio.sleep(0.0 if outcome.failing == "rate" and outcome.retry_after_seconds else wait)
            if row is not None:
                return {**row, "latency_seconds": time.monotonic() - left}

    async def _attempt(self, request: Message, course: Course) -> tuple[float, Reply | Failure]:
        """One request through the gate and back, with the books kept; when it left, and what came of it."""
        settings, price = self._settings, self._price or FREE
        sent_tokens = request.tokens + sum(text_tokens(said["content"]) for said in course.said)

        def wanted() -> Wanted:
            ratio = self._estimate.ratio
            held = price.cost_usd(round(sent_tokens * max(1.0, ratio)), settings.max_reply_tokens)
            return Wanted(round(sent_tokens * ratio) + settings.max_reply_tokens, held)

        lease, booked = await self._departures.wait(wanted)
        left = time.monotonic()
        messages = [*request.messages, *course.said]
        self._watch.left()
        outcome = await self._send(self._client, settings, messages, request.response_format)
        self._watch.came_back("answered" if isinstance(outcome, Reply) else outcome.failing, time.monotonic() - left)
        age, cost = time.monotonic() - left, 0.0
        refused = turned_away = False
        retry_after = 0.0
        if isinstance(outcome, Reply):
            cost = course.book(outcome, sent_tokens, price)
            self._estimate.settle(sent_tokens, outcome.request_tokens)
        elif outcome.failing == "rate":
            refused, retry_after = True, outcome.retry_after_seconds
        elif outcome.failing == "busy":
            turned_away = True
        elif outcome.failing == "timeout":
            # An answer that comes too late may be billed all the same: the budget counts it at its dearest.
            cost = booked.cost_usd
            course.cost_usd += cost
        settled = Settled(
            lease,
            cost,
            booked.tokens,
            age,
            isinstance(outcome, Reply),
            refused,
            turned_away,
            retry_after,
            *outcome.stated,
            estimated_tokens=sent_tokens,
            billed_tokens=outcome.request_tokens if isinstance(outcome, Reply) else None,
        )
        await self._limiter.settle(settings.name, settled)
        return left, outcome

    def _judge_failure(self, item: Item, course: Course, failure: Failure, started: float) -> dict[str, Any] | None:
        """The row for a failure that stands, or None for one that is tried again."""
        if failure.error is not None:
            raise failure.error
        course.reply = failure.reply or course.reply
        if failure.failing in ("rate", "busy"):
            self._last_sign = time.monotonic()
            course.refusals += 1
            if course.refusals < _REFUSALS_PER_ATTEMPT * self._settings.max_attempts:
                return None
            return self._registrar.row(item, course, Status.GIVEN_UP, error=failure.detail)
        course.attempts += 1
        if failure.failing in ("filtered", "rejected"):
            self._last_sign = time.monotonic()
            self._rejected += failure.failing == "rejected"
            if not self._accepted and self._rejected >= _REJECTED_IN_A_ROW:
                raise AnnotatorError(
                    f"the annotator '{self._settings.name}' rejects every request ({failure.detail})",
                    "Check that the model takes images and JSON schemas, and the annotator's settings.",
                )
        elif course.attempts < self._settings.max_attempts:
            return None
        elif self._last_sign < started:
            raise self._silent(failure)
        status = FINAL_STATUS.get(failure.failing, Status.GIVEN_UP)
        return self._registrar.row(item, course, status, error=failure.detail)

    def _silent(self, failure: Failure) -> AnnotatorError:
        return AnnotatorError(
            f"the annotator '{self._settings.name}' gives no answer at {self._client.base_url} ({failure.detail})",
            "Nothing is lost: wait until it is back, or correct its base_url, then start the run again.",
        )
