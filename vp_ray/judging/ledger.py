"""Every paid answer is safe before it is counted: JSON lines, one file a writer.

    LEDGER/WRITER.jsonl             on a disk: appended and fsynced, never rewritten
    LEDGER/WRITER-000001.jsonl      on an object store, which cannot append: an object that is replaced as a whole by
                                    itself and the new lines once a second, until it is full and the next one begins
    LEDGER/writers.json             on an object store: the writers whose files must be there, whatever a listing shows

A line that a killed process left unfinished is passed over; what it held is asked again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from typing import Any, Final

import pyarrow as pa

from vp_ray.records import JUDGEMENTS, Status
from vp_ray.storage import Folder, explained

UNANSWERED: Final = frozenset({Status.TIMED_OUT, Status.GIVEN_UP})
"""What nobody answered and nobody was paid for: asked again when the run goes on."""

_CHUNK_ROWS: Final = 4096
_REMOTE_FLUSH_SECONDS: Final = 1.0
_OBJECT_BYTES: Final = 1 << 20
"""An object of a ledger is full with so many: few enough to be sent again and again, and enough to be read quickly."""
_READ_AT_ONCE: Final = 16
_WRITERS: Final = "writers.json"
_OBJECT: Final = re.compile(r"(.+)-(\d{6})\.jsonl")


class LedgerWriter:
    """Appends judgement rows for one event loop; `append` returns when its row is safe.

    Rows that come while others are written go together, so that one fsync serves many.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder.make()
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        """What its files are named by."""
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._file: FileIO | None = None
        self._part = 0
        self._content = b""
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
            self._replace(data)
            return
        path = self._folder.local_path / f"{self.name}.jsonl"
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

    def _replace(self, data: bytes) -> None:
        """Puts the present object's lines and the new ones in its place, or begins the next object."""
        if not self._content or len(self._content) + len(data) > _OBJECT_BYTES:
            self._part, self._content = self._part + 1, b""
        # After a write that failed the next object is begun, since that write may still arrive.
        content, self._content = self._content + data, b""
        self._folder.write_bytes(_object(self.name, self._part), content)
        self._content = content

    def close(self) -> None:
        """Closes the file; what was appended is safe already."""
        if self._file is not None:
            self._file.close()
            self._file = None


def ledger_rows(folder: Folder) -> Iterator[dict[str, Any]]:
    """Every row that is whole, file by file, also those that a better answer replaced."""
    for data in _files_of(folder):
        for line in data.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and "judgement_id" in row:
                yield row


def _files_of(folder: Folder) -> Iterator[bytes]:
    """The content of every file, in the order of their names."""
    names = [name for name in folder.listed() if name.endswith(".jsonl")]
    if folder.is_local:
        yield from map(folder.read_bytes, names)
        return
    last = dict.fromkeys(registered(folder), 0)
    for match in filter(None, map(_OBJECT.fullmatch, names)):
        last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        counts = zip(last, pool.map(partial(_count, folder), last, last.values()), strict=True)
        known = (_object(writer, part) for writer, count in counts for part in range(1, count + 1))
        objects = sorted({*names, *known})
        for first in range(0, len(objects), _READ_AT_ONCE):
            yield from pool.map(folder.read_bytes, objects[first : first + _READ_AT_ONCE])


def _object(writer: str, part: int) -> str:
    return f"{writer}-{part:06d}.jsonl"


def _count(folder: Folder, writer: str, listed: int) -> int:
    """How many objects a writer has: they follow one another, and whether one is there is known at once, while a
    listing may be late."""
    count = listed
    while folder.exists(_object(writer, count + 1)):
        count += 1
    return count


def registered(folder: Folder) -> list[str]:
    """The writers that `register` named."""
    if folder.is_local or not folder.exists(_WRITERS):
        return []
    return [str(name) for name in folder.read_json(_WRITERS)]


def register(folder: Folder, writers: Iterable[str | None]) -> None:
    """Has the objects of these writers read whatever a listing shows.

    One thread of the one process that has the run calls it, since the register is replaced as a whole.
    """
    if folder.is_local:
        return
    known, new = registered(folder), {name for name in writers if name is not None}
    if not new <= set(known):
        folder.write_json(_WRITERS, sorted({*known, *new}))


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
