"""What a run says while it works: one live line a stage in a terminal, plain lines elsewhere, JSONL for curves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from vp_ray.storage import Folder

_PLAIN_EVERY_SECONDS = 10.0


class Progress(Protocol):
    """Tells how far a stage is."""

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is shown beside them."""
        ...


class _PlainProgress:
    def __init__(self, stage: str, unit: str, total: int | None) -> None:
        self.stage, self.unit, self.total = stage, unit, total
        self.started = self.printed = time.monotonic()
        self._line(0, "")

    def _line(self, done: int, note: str) -> None:
        of = f"/{self.total}" if self.total else ""
        seconds = time.monotonic() - self.started
        print(f"[{self.stage}] {done}{of} {self.unit} {seconds:.0f}s {note}".rstrip(), flush=True)

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        self.total = total or self.total
        now = time.monotonic()
        if now - self.printed >= _PLAIN_EVERY_SECONDS:
            self.printed = now
            self._line(done, note)


class _LiveProgress:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        changes: dict[str, Any] = {"completed": done, "note": note}
        if total is not None:
            changes["total"] = total
        self._bar.update(self._task, **changes)


@contextmanager
def progress(stage: str, unit: str, total: int | None = None) -> Iterator[Progress]:
    """A progress display for one stage: a live line in a terminal, a plain line every 10 s elsewhere."""
    if not sys.stdout.isatty():
        yield _PlainProgress(stage, unit, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("[bold]{task.description:<12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Bar(*columns, transient=True) as bar:
        yield _LiveProgress(bar, bar.add_task(stage, total=total, note=""))


class JsonLines:
    """Rows of numbers as JSON lines, kept whole in memory and written atomically: curves are small."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self.rows: list[dict[str, Any]] = []
        if folder.exists(name):
            self.rows = [json.loads(line) for line in folder.read_bytes(name).splitlines()]

    def keep(self, count: int) -> None:
        """Forgets all but the first `count` rows: what came after a checkpoint is made again."""
        self.rows = self.rows[:count]

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row and writes the file."""
        self.rows.append(row)
        self._folder.write_bytes(self._name, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
