"""Every paid answer on disk before it is counted: JSON lines, one file a writer, and none is ever rewritten.

    LEDGER/WRITER.jsonl             local: appended and fsynced
    LEDGER/WRITER-000001.jsonl      object stores, which cannot append: one object a flush

A line that a killed process left unfinished is passed over; what it held is asked again.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from io import FileIO
from typing import Any, Final

import pyarrow as pa

from vp_ray.records import JUDGEMENTS, Status
from vp_ray.storage import Folder, explained

UNANSWERED: Final = frozenset({Status.TIMED_OUT, Status.GIVEN_UP})
"""What nobody answered and nobody was paid for: asked again when the run goes on."""

_CHUNK_ROWS: Final = 4096
_REMOTE_FLUSH_SECONDS: Final = 1.0


class LedgerWriter:
    """Appends judgement rows for one event loop; `append` returns when its row is safe.

    Rows that come while others are written go together, so that one fsync serves many.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder.make()
        self._writer = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._file: FileIO | None = None
        self._parts = 0
        self._torn = False

    async def append(self, row: Mapping[str, Any]) -> None:
        """Writes one row of `records.JUDGEMENTS`; raises `StorageError` when it could not be made safe."""
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, safe))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_waiting())
        await safe

    async def _write_waiting(self) -> None:
        while self._waiting:
            if not self._folder.is_local:
                await asyncio.sleep(_REMOTE_FLUSH_SECONDS)
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, b"".join(line for line, _ in batch))
            except Exception as error:
                for _, safe in batch:
                    safe.set_exception(error)
            else:
                for _, safe in batch:
                    safe.set_result(None)

    def _write(self, data: bytes) -> None:
        if not self._folder.is_local:
            self._parts += 1
            self._folder.write_bytes(f"{self._writer}-{self._parts:06d}.jsonl", data)
            return
        path = self._folder.local_path / f"{self._writer}.jsonl"
        with explained(str(path)):
            if self._file is None:
                self._file = path.open("ab", buffering=0)
            # After a write that failed half-way, its torn line is ended first.
            rest = memoryview(b"\n" + data if self._torn else data)
            self._torn = True
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
            self._torn = False

    def close(self) -> None:
        """Closes the file; what was appended is safe already."""
        if self._file is not None:
            self._file.close()
            self._file = None


def ledger_rows(folder: Folder) -> Iterator[dict[str, Any]]:
    """Every row that is whole, file by file, also those that a better answer replaced."""
    for name in folder.names():
        if not name.endswith(".jsonl"):
            continue
        for line in folder.read_bytes(name).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and "judgement_id" in row:
                yield row


def answered(folder: Folder) -> set[str]:
    """Ids of the judgements that need not be asked again."""
    return {row["judgement_id"] for row in ledger_rows(folder) if row["status"] not in UNANSWERED}


def open_retry(folder: Folder, statuses: Collection[str]) -> dict[str, int]:
    """What is to be asked again: judgements that ended with one of these statuses, and how often each was asked."""
    counts: Counter[str] = Counter()
    rows: dict[str, dict[str, Any]] = {}
    for row in ledger_rows(folder):
        counts[row["judgement_id"]] += 1
        rows[row["judgement_id"]] = _better(rows.get(row["judgement_id"]), row)
    return {name: counts[name] for name, row in rows.items() if row["status"] in statuses}


def asked_again(folder: Folder, retry: Mapping[str, int]) -> set[str]:
    """Those of a retry that have an answer since it was opened."""
    counts = Counter(row["judgement_id"] for row in ledger_rows(folder) if row["status"] not in UNANSWERED)
    return {name for name, before in retry.items() if counts[name] > before}


def _standing(status: str) -> int:
    return 2 if status == Status.SCORED else 0 if status in UNANSWERED else 1


def _better(kept: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    return row if kept is None or _standing(row["status"]) >= _standing(kept["status"]) else kept


def best_rows(folder: Folder) -> dict[str, dict[str, Any]]:
    """One row for each id, the one that `read_ledger` would keep."""
    rows: dict[str, dict[str, Any]] = {}
    for row in ledger_rows(folder):
        rows[row["judgement_id"]] = _better(rows.get(row["judgement_id"]), row)
    return rows


def spent_usd(folder: Folder) -> float:
    """What all answers in the ledger cost; unknown costs count as nothing."""
    return sum(row["cost_usd"] or 0.0 for row in ledger_rows(folder))


def read_ledger(folder: Folder) -> pa.Table:
    """All judgements, one row an id, in `records.JUDGEMENTS`.

    Levels stand before another answer of the same id, and that before none; among equals, the one read last.
    """
    chunks, rows = [], []
    for row in ledger_rows(folder):
        rows.append({name: row.get(name) for name in JUDGEMENTS.names})
        if len(rows) == _CHUNK_ROWS:
            chunks.append(pa.Table.from_pylist(rows, schema=JUDGEMENTS))
            rows = []
    chunks.append(pa.Table.from_pylist(rows, schema=JUDGEMENTS))
    table = pa.concat_tables(chunks)
    chosen: dict[str, int] = {}
    ids, statuses = table["judgement_id"].to_pylist(), table["status"].to_pylist()
    for place, (judgement, status) in enumerate(zip(ids, statuses, strict=True)):
        if judgement not in chosen or _standing(status) >= _standing(statuses[chosen[judgement]]):
            chosen[judgement] = place
    return table.take(pa.array(chosen.values(), pa.int64()))
