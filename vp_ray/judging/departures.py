"""Lets one judge's requests leave at the times that the gate gives them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vp_ray.errors import BudgetError, VpRayError
from vp_ray.judging.grants import Grant, RateLimiter, Wanted

_LEASE_SECONDS: Final = 0.05
_LEASE_MOST: Final = 64
_PATIENCE_SECONDS: Final = 1.0
"""The gate is asked again after so long at most, since limits may have risen."""

_Waiting = tuple[Callable[[], Wanted], float, asyncio.Future[tuple[int, Wanted]]]
"""What a request wants, as far as is known when it is asked; since when it waits; and its place."""


class Departures:
    """A queue in front of the gate, served by one task of the judge's event loop.

    It books no further ahead than a lease of about 50 ms, so that after a refusal hardly anything that was booked
    before still leaves. At low rates a lease is one request; it grows with the rate, to save round trips.
    """

    def __init__(self, limiter: RateLimiter, annotator: str) -> None:
        self._limiter, self._annotator = limiter, annotator
        self._queue: deque[_Waiting] = deque()
        self._booked: list[asyncio.Future[tuple[int, Wanted]]] = []
        self._lease = 1
        self._task: asyncio.Task[None] | None = None
        self._stopped: VpRayError | None = None

    async def wait(self, wanted: Callable[[], Wanted]) -> tuple[int, Wanted]:
        """The lease of a request that may leave now, and what it was booked for.

        `wanted` is called when the gate is asked, which may be long after: by then, replies may have told better what
        requests cost. Raises `BudgetError` when the budget does not allow it.
        """
        if self._stopped is not None:
            raise self._stopped
        loop = asyncio.get_running_loop()
        place: asyncio.Future[tuple[int, Wanted]] = loop.create_future()
        self._queue.append((wanted, loop.time(), place))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        return await place

    def stop(self, error: VpRayError) -> None:
        """Raises `error` in all that wait, now and later."""
        self._stopped = error
        if self._task is not None:
            self._task.cancel()
        for place in (*self._booked, *(place for *_, place in self._queue)):
            _fail(place, error)
        self._queue.clear()

    async def _serve(self) -> None:
        while self._queue:
            lease = [self._queue.popleft() for _ in range(min(self._lease, len(self._queue)))]
            self._booked = [place for *_, place in lease]
            try:
                await self._serve_lease(lease)
            except Exception as error:  # nobody may wait for ever, whatever happened to the gate
                for place in self._booked:
                    _fail(place, error)

    async def _serve_lease(self, lease: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        all_wanted = [replace(wanted(), waited_seconds=asked - ready) for wanted, ready, _ in lease]
        grants = await self._limiter.reserve(self._annotator, all_wanted)
        start = loop.time()
        for (wanted, ready, place), booked, first in zip(lease, all_wanted, grants, strict=True):
            grant, told = first, start
            while grant.barrier in ("later", "others"):
                await asyncio.sleep(min(_PATIENCE_SECONDS, max(0.0, told + grant.wait_seconds - loop.time())))
                booked = replace(wanted(), waited_seconds=loop.time() - ready)  # noqa: PLW2901
                (grant,) = await self._limiter.reserve(self._annotator, [booked])
                told = loop.time()
            if grant.barrier == "budget":
                _fail(place, _spent(grant))
                continue
            await asyncio.sleep(max(0.0, told + grant.wait_seconds - loop.time()))
            if not place.done():
                place.set_result((grant.lease, booked))
        self._adapt(len(lease), loop.time() - start)

    def _adapt(self, served: int, seconds: float) -> None:
        if seconds < _LEASE_SECONDS / 2 and served == self._lease:
            self._lease = min(_LEASE_MOST, 2 * self._lease)
        elif seconds > 2 * _LEASE_SECONDS:
            self._lease = max(1, self._lease // 2)


def _spent(grant: Grant) -> BudgetError:
    return BudgetError(
        f"the next request could pass the budget, of which {max(0.0, grant.left_usd):.2f} US dollars are left",
        "Every answer that was paid for is kept: raise the stage's budget_usd and start the run again.",
    )


def _fail(place: asyncio.Future[tuple[int, Wanted]], error: Exception) -> None:
    if not place.done():
        place.set_exception(error)
