"""Judgements of one annotator through `/v1/batches`: fill files, send them, poll, collect, and again what needs it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final, Generic

from openai.types import Batch

from vp_ray.errors import AnnotatorError
from vp_ray.judging.batch_book import BatchBook, BatchRecord, Purse
from vp_ray.judging.batch_files import read_output
from vp_ray.judging.batch_outbox import Filled, Outbox
from vp_ray.judging.batch_results import QUEUE_CODES, BatchReader, Results
from vp_ray.judging.batch_wire import BatchWire
from vp_ray.judging.client import new_client
from vp_ray.judging.config import AnnotatorSettings, BatchSettings
from vp_ray.judging.courses import Course, Registrar
from vp_ray.judging.forms import Form, Item
from vp_ray.judging.image_tokens import TokenEstimate
from vp_ray.judging.ledger import LedgerWriter, register
from vp_ray.judging.outcomes import Failure, Reply
from vp_ray.judging.prices import FREE, price_of
from vp_ray.storage import Folder

_QUEUE_FULL_IN_A_ROW: Final = 20


class BatchRun(Generic[Item]):
    """The batches of one annotator.

    `item` gives what was asked under a key, and `filled` the same with its pictures. `known` are the answers of batches
    that are in the ledger already, as batch and key.
    """

    def __init__(
        self,
        settings: AnnotatorSettings,
        base_url: str,
        form: Form[Item],
        book: BatchBook,
        purse: Purse,
        item: Callable[[str], Item],
        filled: Callable[[str], Item],
        known: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._settings, self._base_url, self._form, self.book, self._purse = settings, base_url, form, book, purse
        self._limits = settings.batch or BatchSettings()
        known_price, estimate = price_of(settings), TokenEstimate(settings.name)
        registrar = Registrar(settings, form, None if known_price is None else known_price.batched)
        price = (known_price or FREE).batched
        self._reader = BatchReader(settings, registrar, price, estimate, item)
        self._outbox = Outbox(settings, form, registrar, estimate, price, filled, self._write)
        self._known: dict[str, set[str]] = {}
        for batch, key in known:
            self._known.setdefault(batch, set()).add(key)
        self._most_requests = self._limits.requests_per_file
        self._queue_full = 0
        self._refused_whole = 0
        self._wire: BatchWire
        self._ledger: LedgerWriter
        self.answered = 0
        """Rows that this run put into the ledger."""
        self.counts: Counter[str] = Counter()
        """Batches sent and ended by their last state, and requests sent."""
        self._done_there: dict[str, int] = {}

    def plan(self, pending: Collection[str]) -> float:
        """Takes over what is to be asked and is not under way; what it has cost without being in the ledger yet."""
        under_way = self.book.under_way()
        courses = self._outbox.courses = self.book.courses(set(pending))
        self._outbox.pending = deque(key for key in pending if key not in under_way)
        collected = {key for record in self.book.open for key in self._known.get(record.batch_id or "", ())}
        carried = [course for key, course in courses.items() if key not in under_way]
        carried += [record.course(key) for record in self.book.open for key in record.courses if key not in collected]
        return sum(course.cost_usd for course in carried)

    @asynccontextmanager
    async def connected(self, ledger: Folder) -> AsyncIterator[None]:
        """With a client and a ledger for this event loop."""
        self._ledger = LedgerWriter(ledger)
        register(ledger, [self._ledger.name])
        try:
            async with new_client(self._settings, self._base_url) as client:
                self._wire = BatchWire(self._settings, client)
                yield
        finally:
            self._ledger.close()

    @property
    def under_way(self) -> tuple[int, int, int]:
        """Batches under way, requests in them, and how many of those the provider says are done."""
        records = self.book.open
        done = sum(self._done_there.get(record.name, 0) for record in records)
        return len(records), sum(len(record.tokens) for record in records), done

    async def recover(self) -> None:
        """Finds the batches of files that were uploaded when the last process ended, or creates them."""
        for record in [record for record in self.book.open if record.batch_id is None]:
            await self._create(record, recovering=True)

    async def submit(self, purse_lock: asyncio.Lock) -> bool:
        """Sends files while there is something to send, the budget allows it and the provider's queue has room.

        Whether money stands in the way of the rest; raises `AnnotatorError`. An annotator without `batch` sends
        nothing: its earlier batches are collected.
        """
        while self._settings.batch is not None and not self._outbox.is_empty:
            if self._queue_full and self.book.open:
                return False
            async with purse_lock:
                filled = await self._outbox.fill(self._purse.left_usd, self._most_requests)
                if not filled.tokens:
                    return filled.short
                await self._send(filled)
            if self._queue_full:
                return False
        return False

    async def poll(self) -> None:
        """Asks for the state of each batch, and collects those that ended."""
        for record in self.book.open:
            batch = await self._wire.retrieve(record)
            if batch is None:
                await self._forget(record)
                continue
            counts = batch.request_counts
            self._done_there[record.name] = counts.completed + counts.failed if counts else 0
            if batch.status in ("completed", "expired", "cancelled"):
                await self._collect(record, batch)
            elif batch.status == "failed":
                await self._refused(record, batch)

    async def _send(self, filled: Filled) -> None:
        name = f"{self._settings.name}-{uuid.uuid4().hex[:12]}"
        content, waiting = b"".join(filled.file.lines), self._outbox.courses
        created = time.time()
        file_id = await self._wire.upload(name, content)
        courses = {key: asdict(waiting.pop(key)) for key in filled.tokens if key in waiting}
        record = BatchRecord(name, self._settings.name, file_id, created, filled.estimate_usd, filled.tokens, courses)
        await asyncio.to_thread(self.book.write, record)
        await self._create(record)

    async def _create(self, record: BatchRecord, recovering: bool = False) -> None:
        batch = await self._wire.create(record, recovering)
        if batch is None:
            # The file is gone and no batch has it: nothing was asked.
            await self._forget(record)
            return
        record.batch_id, record.state = batch.id, "open"
        await asyncio.to_thread(self.book.write, record)
        self.counts["batches"] += not recovering
        self.counts["requests"] += 0 if recovering else len(record.tokens)

    async def _forget(self, record: BatchRecord) -> None:
        """Takes back the requests of a batch that nobody will answer."""
        known = self._known.get(record.batch_id or "", ())
        self._outbox.pending.extend(key for key in record.tokens if key not in known)
        self._outbox.courses |= {key: record.course(key) for key in record.courses}
        await asyncio.to_thread(self.book.forget, record)

    async def _collect(self, record: BatchRecord, batch: Batch) -> None:
        outcomes: dict[str, Reply | Failure | None] = {}
        for file_id in (batch.error_file_id, batch.output_file_id):
            if file_id is not None:
                content = await self._wire.content(file_id)
                outcomes |= await asyncio.to_thread(lambda data: dict(read_output(self._settings, data)), content)
        known = self._known.get(batch.id, ())
        results = await asyncio.to_thread(self._reader.ended, record, batch, outcomes, known)
        self._queue_full = self._refused_whole = 0
        await self._close(record, batch, results)

    async def _refused(self, record: BatchRecord, batch: Batch) -> None:
        """The provider did not take a batch: for want of room in its queue, or because something in it is wrong."""
        results = self._reader.invalid(record, batch, self._refused_whole)
        errors = (batch.errors.data if batch.errors else None) or []
        if any(error.code in QUEUE_CODES for error in errors):
            self._queue_full += 1
            if len(self.book.open) == 1:
                self._most_requests = max(1, min(self._most_requests, len(record.tokens)) // 2)
            if self._queue_full >= _QUEUE_FULL_IN_A_ROW:
                results.stop = AnnotatorError(
                    f"the batch queue of the annotator '{self._settings.name}' stays full ({errors[0].message})",
                    "Wait until other batches of the account are done, then start the run again.",
                )
        else:
            self._refused_whole += not any(error.line for error in errors)
        await self._close(record, batch, results)

    async def _close(self, record: BatchRecord, batch: Batch, results: Results) -> None:
        """Puts what is known into the ledger, then closes the record."""
        await self._write(results.rows)
        self._purse.spent_usd += results.cost_usd
        record.state, record.ended_as, record.asked_again = "collected", batch.status, results.asked_again
        await asyncio.to_thread(self.book.write, record)
        self.counts[batch.status] += 1
        self.counts["asked_again"] += len(results.asked_again)
        self._outbox.courses |= {key: Course(**values) for key, values in results.asked_again.items()}
        self._outbox.pending.extend(results.asked_again)
        await self._wire.delete(record.input_file_id)
        if results.stop is not None:
            raise results.stop

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        await asyncio.gather(*(self._ledger.append(row) for row in rows))
        self.answered += len(rows)
