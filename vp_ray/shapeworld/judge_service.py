"""One chat request from bytes to outcome: limits, faults, latency and the reply, without knowing of HTTP servers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from vp_ray.ids import content_id
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_faults import Fault, draw_fault, draw_latency
from vp_ray.shapeworld.judge_limits import RateLimits
from vp_ray.shapeworld.judge_prompts import asks_for_polish, moderation_of, moderation_tokens, polish_reply
from vp_ray.shapeworld.judge_replies import MeasuredImages, canned_reply, reply_to
from vp_ray.shapeworld.judge_requests import JudgeRequest, read_request, reserved_tokens, sent_tokens
from vp_ray.shapeworld.judge_responses import as_chat, as_response
from vp_ray.shapeworld.judge_stats import JudgeStats

_BROKEN_REPLIES = (Fault.MALFORMED, Fault.TRUNCATED, Fault.REFUSED, Fault.CONTENT_FILTERED)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status, the JSON body and headers; status 0 closes the connection without a word."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class JudgeService:
    """The judge behind its server: answers bodies of chat requests, alone or from batches."""

    def __init__(self, settings: JudgeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.stats = JudgeStats()
        self._clock = clock
        self._limits = RateLimits(settings)
        self._images = MeasuredImages()
        self._admitted = 0
        self._asked: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1), thread_name_prefix="judge")

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def chat(self, raw: bytes) -> Reply:
        """The outcome of one live request."""
        return await self._live(raw, reserved_tokens, self._judge)

    async def respond(self, raw: bytes) -> Reply:
        """The outcome of one live request of the Responses API."""
        return await self._live(raw, lambda body: reserved_tokens(as_chat(body)), self._respond)

    async def moderate(self, raw: bytes) -> Reply:
        """The outcome of one request for a moderation."""
        return await self._live(raw, moderation_tokens, self._moderate)

    async def _live(
        self,
        raw: bytes,
        tokens: Callable[[Any], int],
        work: Callable[[bytes, Any, Fault | None], Awaitable[dict[str, Any]]],
    ) -> Reply:
        number = self.stats.arrived(self._clock())
        fault = draw_fault(self.settings, number)
        headers = {"x-request-id": f"req_{number}"}
        try:
            body = _parsed(raw)
            self._admit(tokens(body), headers, fault)
            if fault in (Fault.RESET, Fault.TIMEOUT):
                if fault == Fault.TIMEOUT:
                    await asyncio.sleep(self.settings.faults.timeout_seconds)
                self.stats.answered(fault.value)
                return Reply(0, {})
            started = self._clock()
            payload = await work(raw, body, fault)
            await asyncio.sleep(max(0.0, draw_latency(self.settings, number) - (self._clock() - started)))
        except RequestError as error:
            self.stats.answered(str(error.status))
            return Reply(error.status, error.body(), headers)
        self.stats.answered("200")
        return Reply(200, payload, headers)

    async def batched(self, body: Any, responses: bool = False) -> Reply:
        """The outcome of one line of a batch, of chat completions or `responses`: the same, without limits and latency;
        what breaks a connection is 500."""
        number = self.stats.arrived(self._clock())
        fault = draw_fault(self.settings, number)
        if fault is not None:
            self.stats.faulted(fault)
        try:
            if fault is not None and fault not in _BROKEN_REPLIES:
                raise _server_error()
            work = self._respond if responses else self._judge
            payload = await work(json.dumps(body, sort_keys=True).encode(), body, fault)
        except RequestError as error:
            self.stats.answered(str(error.status))
            return Reply(error.status, error.body())
        self.stats.answered("200")
        return Reply(200, payload)

    def _admit(self, tokens: int, headers: dict[str, str], fault: Fault | None) -> None:
        quota = self.settings.quota_requests
        if quota and self._admitted >= quota:
            raise RequestError("You exceeded your current quota", "insufficient_quota", status=429)
        if fault == Fault.RATE_LIMITED:
            # A server that is too busy turns requests away before its limits count them.
            self.stats.faulted(fault)
            headers.update(self._limits.headers(self._clock()))
            raise RequestError("Too many requests, try again", "rate_limit_exceeded", status=429)
        admission = self._limits.admit(tokens, self._clock())
        headers.update(admission.headers)
        if admission.blocked_by is not None:
            raise RequestError(
                f"Rate limit reached on {admission.blocked_by} per minute; try again in {admission.wait_seconds:.3f}s",
                "rate_limit_exceeded",
                status=429,
            )
        self._admitted += 1
        self.stats.admitted(tokens)
        if fault is not None:
            self.stats.faulted(fault)

    async def _moderate(self, raw: bytes, body: Any, fault: Fault | None) -> dict[str, Any]:
        if fault == Fault.SERVER_ERROR:
            raise _server_error()
        payload = moderation_of(body)
        self.stats.judged(raw, 0)
        return payload

    async def _respond(self, raw: bytes, body: Any, fault: Fault | None) -> dict[str, Any]:
        return as_response(await self._judge(raw, as_chat(body), fault))

    async def _judge(self, raw: bytes, body: Any, fault: Fault | None) -> dict[str, Any]:
        if fault == Fault.SERVER_ERROR:
            raise _server_error()
        if asks_for_polish(body):
            payload = polish_reply(body, fault, int(time.time()))
            if fault is None:
                self.stats.judged(raw, 0)
            return payload
        if self.settings.canned:
            return canned_reply(body, sent_tokens(body), fault, int(time.time()))

        repeat = self._repeat(raw, body)

        def work() -> tuple[JudgeRequest, dict[str, Any]]:
            request = read_request(body, self.settings.models)
            return request, reply_to(self.settings, request, self._images, fault, int(time.time()), repeat)

        request, payload = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        if fault is None:
            self.stats.judged(raw, len(request.images))
        return payload

    def _repeat(self, raw: bytes, body: Any) -> int:
        """How often the same was asked before; 0 at temperature 0, where the same question has the same answer."""
        temperature = body.get("temperature") if isinstance(body, dict) else None
        if not isinstance(temperature, int | float) or temperature <= 0:
            return 0
        name = content_id(raw)
        self._asked[name] += 1
        return self._asked[name] - 1


def _server_error() -> RequestError:
    return RequestError("The server had an error while processing your request", "server_error", status=500)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise RequestError("The body is not valid JSON", "invalid_json") from None
