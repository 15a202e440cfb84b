"""All batches of a stage together: sent as far as money and queues allow, and waited for until nothing is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from vp_ray.judging.batch_book import Purse
from vp_ray.judging.batch_run import BatchRun
from vp_ray.storage import Folder

Result = TypeVar("Result")

Tell = Callable[[int, str], None]
"""Takes how many answers are in the ledger since this process began, and a note on what is under way."""


class BatchOffice:
    """Batch runs that share a ledger and a purse; every call has an event loop of its own.

    Whatever ends the process, the batches go on at their providers, and the next process collects them.
    """

    def __init__(self, runs: Sequence[BatchRun[Any]], ledger: Folder, purse: Purse, poll_seconds: float) -> None:
        self._runs, self._ledger, self._purse, self._poll_seconds = runs, ledger, purse, poll_seconds

    @property
    def answered(self) -> int:
        """Rows that went into the ledger since this process began."""
        return sum(run.answered for run in self._runs)

    def submit(self) -> None:
        """Sends what can be sent now, and does not wait for it; raises `AnnotatorError`."""
        if self._runs:
            asyncio.run(self._submit())

    def finish(self, tell: Tell) -> None:
        """Sends, polls and collects until every request has an answer or a status.

        Raises `AnnotatorError`, or `BudgetError` once nothing is under way and the next request costs too much.
        """
        if self._runs:
            asyncio.run(self._finish(tell))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncio.Lock]:
        async with AsyncExitStack() as stack:
            for run in self._runs:
                await stack.enter_async_context(run.connected(self._ledger))
            await _all([run.recover() for run in self._runs])
            yield asyncio.Lock()

    async def _submit(self) -> None:
        async with self._connected() as money:
            await _all([run.submit(money) for run in self._runs])

    async def _finish(self, tell: Tell) -> None:
        async with self._connected() as money:
            while True:
                short = await _all([run.submit(money) for run in self._runs])
                tell(self.answered, self._note())
                if not any(run.book.open for run in self._runs):
                    if any(short):
                        raise self._purse.spent_error()
                    return
                await asyncio.sleep(self._poll_seconds)
                await _all([run.poll() for run in self._runs])

    def _note(self) -> str:
        batches, requests, done = (sum(counts) for counts in zip(*(run.under_way for run in self._runs), strict=True))
        return f"{batches} batches under way, {done} of their {requests} requests done" if batches else ""


async def _all(calls: Sequence[Awaitable[Result]]) -> list[Result]:
    """The results of all calls; each may end before the first error is raised, so that none is cut off."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
