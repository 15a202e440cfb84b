"""What a run says while it works: one live line a stage in a terminal, plain lines elsewhere, JSONL for curves.

The stage that runs also notes how far it is in its folder, for `vp-ray status` from any machine.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from vp_ray.errors import StorageError
from vp_ray.storage import Folder

_PLAIN_EVERY_SECONDS = 10.0
_LOGGED_EVERY_SECONDS = 60.0
"""Where nothing moves; what moves is logged with every note."""
_LOG = logging.getLogger(__name__)

NOTE: Final = "progress.json"
"""The file of a stage's folder that holds a `Note` while the stage runs."""
NOTE_EVERY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Note:
    """How far a stage is, as its folder tells. Times are seconds since 1970."""

    unit: str
    done: int
    total: int | None
    first: int
    """What was done when it began, or went on."""
    began_at: float
    noted_at: float
    """Written every 10 s while the stage lives, whether anything was done or not."""


_noted_in: ContextVar[Folder | None] = ContextVar("noted_in", default=None)


@contextmanager
def noted_in(folder: Folder) -> Iterator[None]:
    """Notes the progress of what runs in the context in this folder, and removes the note with the context."""
    token = _noted_in.set(folder)
    try:
        yield
    finally:
        _noted_in.reset(token)
        with suppress(StorageError):
            folder.delete(NOTE)


Observer = Callable[[str, str, int, int | None], None]
"""Takes stage, unit, what is done and how much there is."""
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Tells the observer how far every stage is that runs in the context."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


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


class _NotedProgress:
    """Shows progress as another does, and notes it in a folder from a thread."""

    def __init__(self, shown: Progress, folder: Folder, unit: str, total: int | None) -> None:
        self._shown, self._folder, self._unit, self._total = shown, folder, unit, total
        self._done, self._first = 0, -1
        self._began = time.time()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._note, name="progress", daemon=True)
        self._thread.start()

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        self._first = done if self._first < 0 else self._first
        self._done, self._total = done, total or self._total
        self._shown.update(done, total, note)

    def _note(self) -> None:
        logged, logged_at = -1, 0.0
        while True:
            first = max(0, self._first)
            note = Note(self._unit, self._done, self._total, first, self._began, time.time())
            # A stage does not end because nobody can look at how far it is.
            with suppress(StorageError):
                self._folder.write_json(NOTE, asdict(note))
            if note.done != logged or note.noted_at - logged_at > _LOGGED_EVERY_SECONDS:
                logged, logged_at = note.done, note.noted_at
                _LOG.info("progress", extra={"fields": {"unit": note.unit, "done": note.done, "total": note.total}})
            if self._ended.wait(NOTE_EVERY_SECONDS):
                return

    def end(self) -> None:
        """Writes no more notes."""
        self._ended.set()
        self._thread.join()


class _ObservedProgress:
    def __init__(self, shown: Progress, observer: Observer, stage: str, unit: str, total: int | None) -> None:
        self._shown, self._observer = shown, observer
        self._stage, self._unit, self._total = stage, unit, total
        observer(stage, unit, 0, total)

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        self._total = total or self._total
        self._observer(self._stage, self._unit, done, self._total)
        self._shown.update(done, total, note)


@contextmanager
def progress(stage: str, unit: str, total: int | None = None) -> Iterator[Progress]:
    """A progress display for one stage: a live line in a terminal, a plain line every 10 s elsewhere."""
    folder, observer = _noted_in.get(), _observer.get()
    with _shown(stage, unit, total) as bare:
        shown = bare if observer is None else _ObservedProgress(bare, observer, stage, unit, total)
        if folder is None:
            yield shown
            return
        noted = _NotedProgress(shown, folder, unit, total)
        try:
            yield noted
        finally:
            noted.end()


@contextmanager
def _shown(stage: str, unit: str, total: int | None) -> Iterator[Progress]:
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
