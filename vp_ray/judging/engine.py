"""A model that is asked: items in, rows out, over a private event loop that Ray's own threads never block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Generic, Self

from vp_ray.errors import VpRayError
from vp_ray.judging.client import ask, new_client
from vp_ray.judging.config import AnnotatorSettings, ModelSettings
from vp_ray.judging.departures import Departures
from vp_ray.judging.forms import Form, Item, JudgementForm
from vp_ray.judging.grants import RateLimiter
from vp_ray.judging.interview import Interviewer, Send
from vp_ray.judging.ledger import LedgerWriter
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.judging.watching import RequestWatch, Unwatched
from vp_ray.storage import Folder


class Asker(Generic[Item]):
    """One model, asked from any thread by one form; `concurrency` requests are under way at most."""

    def __init__(
        self,
        settings: ModelSettings,
        base_url: str,
        form: Form[Item],
        limiter: RateLimiter,
        ledger: Folder | None = None,
        send: Send = ask,
        watch: RequestWatch | None = None,
    ) -> None:
        client = new_client(settings, base_url)
        self._settings, self._client = settings, client
        self._departures = Departures(limiter, settings.name)
        self._watch = watch or Unwatched()
        self._interviewer = Interviewer(settings, form, client, limiter, self._departures, send, self._watch)
        self._ledger = LedgerWriter(ledger) if ledger is not None else None
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._stopped: VpRayError | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"judge-{settings.name}", daemon=True)
        self._thread.start()

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One row for each item, in their order, each in the ledger before this returns.

        Raises `AnnotatorError`, `BudgetError` or `StorageError` when the run must stop; by then everything that was
        under way has been answered and written.
        """
        return asyncio.run_coroutine_threadsafe(self._answer_all(items), self._loop).result()

    @property
    def writer(self) -> str | None:
        """The name of what writes to the ledger."""
        return None if self._ledger is None else self._ledger.name

    async def _answer_all(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        self._watch.asked(len(items))
        rows = await asyncio.gather(*(self._answer(item) for item in items))
        if self._stopped is not None:
            raise self._stopped
        return [row for row in rows if row is not None]

    async def _answer(self, item: Item) -> dict[str, Any] | None:
        try:
            async with self._slots:
                return await self._answer_now(item)
        finally:
            self._watch.ended()

    async def _answer_now(self, item: Item) -> dict[str, Any] | None:
        if self._stopped is not None:
            return None
        try:
            row = await self._interviewer.row(item)
            if self._ledger is not None:
                await self._ledger.append(row)
        except VpRayError as error:
            if self._stopped is None:
                self._stopped = error
                self._departures.stop(error)
            return None
        self._watch.through(row)
        return row

    def close(self) -> None:
        """Ends the connections and the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        if self._ledger is not None:
            self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Judge(Asker[Question]):
    """One annotator: rows of `records.JUDGEMENTS` for questions about groups of images."""

    def __init__(
        self,
        settings: AnnotatorSettings,
        base_url: str,
        rubric: Rubric,
        limiter: RateLimiter,
        ledger: Folder | None = None,
        watch: RequestWatch | None = None,
    ) -> None:
        super().__init__(settings, base_url, JudgementForm(settings, rubric), limiter, ledger, watch=watch)
