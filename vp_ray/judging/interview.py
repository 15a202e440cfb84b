"""One question until it has an answer or a status: attempts, backoff, one re-ask, and the row that is kept."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

import openai

from vp_ray.errors import AnnotatorError, InputError
from vp_ray.ids import uniform_from
from vp_ray.judging.client import Failure, Reply, ask
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.departures import Departures
from vp_ray.judging.gate import RateLimiter, Settled, Wanted
from vp_ray.judging.image_tokens import TokenEstimate, text_tokens
from vp_ray.judging.parsing import UnreadableReplyError, parse_reply
from vp_ray.judging.prices import FREE, price_of
from vp_ray.judging.requests import Message, Question, message
from vp_ray.judging.rubric import Rubric
from vp_ray.records import Status

_BACKOFF_SECONDS: Final = (0.5, 30.0)
_REFUSALS_PER_ATTEMPT: Final = 10
"""Refusals by rate are the server's way of saying when, so a question may meet many before it is given up."""
_REJECTED_IN_A_ROW: Final = 8
"""When the first so many requests are all rejected, it is not the requests."""

_FINAL_STATUS: Final = {"filtered": Status.CONTENT_FILTERED, "rejected": Status.REJECTED, "timeout": Status.TIMED_OUT}


def backoff_seconds(judgement_id: str, attempt: int) -> float:
    """Doubling from half a second to 30 s, times 0.5 to 1.5 as drawn by the question and the attempt."""
    first, most = _BACKOFF_SECONDS
    return min(most, first * 2.0**attempt) * (0.5 + uniform_from("backoff", judgement_id, attempt))


@dataclass(slots=True)
class _Course:
    """What one question has been through so far."""

    messages: list[dict[str, Any]]
    attempts: int = 0
    refusals: int = 0
    asked_again: bool = False
    request_tokens: int = 0
    reply_tokens: int = 0
    cost_usd: float = 0.0
    started: float = field(default_factory=time.monotonic)
    left: float = 0.0
    """When the latest attempt left."""


class Interviewer:
    """Asks one annotator, from one event loop, and knows what all its answers have in common."""

    def __init__(
        self,
        settings: AnnotatorSettings,
        rubric: Rubric,
        client: openai.AsyncOpenAI,
        limiter: RateLimiter,
        departures: Departures,
    ) -> None:
        self._settings, self._rubric, self._client = settings, rubric, client
        self._limiter, self._departures = limiter, departures
        self._price = price_of(settings)
        self._estimate = TokenEstimate(settings.name)
        self._last_sign = float("-inf")
        self._accepted = False
        self._rejected = 0

    async def row(self, question: Question) -> dict[str, Any]:
        """The row of `records.JUDGEMENTS` for a question; raises `AnnotatorError` or `BudgetError` to stop the run."""
        try:
            request = await asyncio.to_thread(message, question, self._rubric, self._settings)
        except InputError as error:
            return self._row(question, _Course([]), Status.REJECTED, error=str(error))
        course = _Course(list(request.messages))
        while True:
            outcome = await self._attempt(request, course)
            if isinstance(outcome, Reply):
                row = self._read(question, course, outcome)
            else:
                row = self._judge_failure(question, course, outcome)
                if row is None:
                    wait = outcome.retry_after_seconds or backoff_seconds(question.judgement_id, course.attempts)
                    await asyncio.sleep(0.0 if outcome.failing == "rate" and outcome.retry_after_seconds else wait)
            if row is not None:
                return row

    async def _attempt(self, request: Message, course: _Course) -> Reply | Failure:
        """One request through the gate and back, with the books kept."""
        settings, price = self._settings, self._price or FREE
        sent_tokens = request.tokens + sum(text_tokens(said["content"]) for said in course.messages[1:])
        ratio = self._estimate.ratio
        expected = round(sent_tokens * ratio) + settings.max_reply_tokens
        held = price.cost_usd(round(sent_tokens * max(1.0, ratio)), settings.max_reply_tokens)
        lease = await self._departures.wait(Wanted(expected, held))
        course.left = time.monotonic()
        outcome = await ask(self._client, settings, course.messages, request.response_format)
        age, cost = time.monotonic() - course.left, 0.0
        refused = turned_away = False
        retry_after = 0.0
        if isinstance(outcome, Reply):
            request_tokens = sent_tokens if outcome.request_tokens is None else outcome.request_tokens
            reply_tokens = text_tokens(outcome.text) if outcome.reply_tokens is None else outcome.reply_tokens
            cost = price.cost_usd(request_tokens, reply_tokens, outcome.cached_tokens)
            self._estimate.settle(sent_tokens, outcome.request_tokens)
            course.request_tokens += request_tokens
            course.reply_tokens += reply_tokens
            course.cost_usd += cost
        elif outcome.failing == "rate":
            refused, retry_after = True, outcome.retry_after_seconds
        elif outcome.failing == "busy":
            turned_away = True
        elif outcome.failing == "timeout":
            cost = held
        settled = Settled(
            lease,
            cost,
            expected,
            age,
            isinstance(outcome, Reply),
            refused,
            turned_away,
            retry_after,
            *outcome.stated,
        )
        await self._limiter.settle(settings.name, settled)
        return outcome

    def _read(self, question: Question, course: _Course, reply: Reply) -> dict[str, Any] | None:
        """The row for a reply, or None when the annotator is asked once more for one that can be read."""
        course.attempts += 1
        self._last_sign, self._accepted = time.monotonic(), True
        if reply.refusal:
            return self._row(question, course, Status.REFUSED, reply=reply.refusal)
        if reply.finish_reason == "content_filter":
            return self._row(question, course, Status.CONTENT_FILTERED, reply=reply.text)
        try:
            levels = parse_reply(reply.text, self._rubric, question.image_ids)
        except UnreadableReplyError as error:
            if reply.finish_reason == "length":
                return self._row(question, course, Status.TRUNCATED, reply=reply.text, error=str(error))
            if course.asked_again or course.attempts >= self._settings.max_attempts:
                return self._row(question, course, Status.UNREADABLE, reply=reply.text, error=str(error))
            course.asked_again = True
            course.messages += [
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": f"This cannot be read: {error}. Give the whole answer in the schema."},
            ]
            return None
        return self._row(question, course, Status.SCORED, reply=reply.text, levels=levels)

    def _judge_failure(self, question: Question, course: _Course, failure: Failure) -> dict[str, Any] | None:
        """The row for a failure that stands, or None for one that is tried again."""
        if failure.error is not None:
            raise failure.error
        if failure.failing in ("rate", "busy"):
            self._last_sign = time.monotonic()
            course.refusals += 1
            if course.refusals < _REFUSALS_PER_ATTEMPT * self._settings.max_attempts:
                return None
            return self._row(question, course, Status.GIVEN_UP, error=failure.detail)
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
        elif self._last_sign < course.started:
            raise self._silent(failure)
        status = _FINAL_STATUS.get(failure.failing, Status.GIVEN_UP)
        return self._row(question, course, status, error=failure.detail)

    def _silent(self, failure: Failure) -> AnnotatorError:
        return AnnotatorError(
            f"the annotator '{self._settings.name}' gives no answer at {self._client.base_url} ({failure.detail})",
            "Nothing is lost: wait until it is back, or correct its base_url, then start the run again.",
        )

    def _row(
        self,
        question: Question,
        course: _Course,
        status: Status,
        *,
        reply: str | None = None,
        error: str | None = None,
        levels: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        return {
            "judgement_id": question.judgement_id,
            "prompt_id": question.prompt_id,
            "prompt": question.prompt,
            "order": list(question.image_ids),
            "annotator": self._settings.name,
            "rubric_version": self._rubric.version,
            "status": str(status),
            "levels": levels or [],
            "reply": reply,
            "error": error,
            "request_tokens": course.request_tokens,
            "reply_tokens": course.reply_tokens,
            "cost_usd": None if self._price is None else course.cost_usd,
            "latency_seconds": time.monotonic() - course.left if course.left else None,
            "attempts": course.attempts + course.refusals,
            "answered_at": time.time(),
        }
