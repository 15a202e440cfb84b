"""What the processes of a run write of their work: JSON lines with run and stage, through the `logging` module.

RUN/logs/PROCESS-HOST-PID-START.jsonl    one file a process, appended to; object stores get parts `....0000.jsonl`

Records with `extra={"told": True}` are what a command says on its console anyway: they stand in the files alone.

Every process knows the `Origin` that it works for: the driver sets it for each stage, and hands it on to actors and
ranks with their work, so that logs and metrics of all of them carry the same labels.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from vp_ray.config import LogSettings
from vp_ray.errors import StorageError
from vp_ray.redaction import redact, without_secrets
from vp_ray.storage import Folder

FOLDER: Final = "logs"
LOGGER: Final = "vp_ray"
_PART_LINES: Final = 1000
_PART_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Origin:
    """The run and stage that a process works for, and how it logs."""

    run: str = ""
    """The last part of the run directory's name."""
    stage: str = ""
    uri: str = ""
    """The run directory."""
    level: str = "warning"
    files: bool = False
    stderr: bool = False

    @classmethod
    def of(cls, uri: str, settings: LogSettings) -> Origin:
        """The origin of a run before its first stage."""
        return cls(uri.rstrip("/").rpartition("/")[2], "", uri, settings.level, settings.files, settings.stderr)

    @property
    def labels(self) -> dict[str, str]:
        """What every metric is tagged with."""
        return {"run": self.run, "stage": self.stage}


_NOWHERE: Final = Origin()
_now: list[Origin] = [_NOWHERE]
_handlers: list[logging.Handler] = []


def origin() -> Origin:
    """What this process works for now; empty outside a run."""
    return _now[0]


@contextmanager
def working_for(whom: Origin) -> Iterator[None]:
    """Logs as this origin says while the block runs, in every thread of this process."""
    before = _now[0]
    _begin(whom, "driver")
    try:
        yield
    finally:
        _begin(before, "driver")


@contextmanager
def in_stage(stage: str) -> Iterator[None]:
    """What this process does in the block belongs to the stage."""
    before = _now[0]
    _now[0] = replace(before, stage=stage)
    try:
        yield
    finally:
        _now[0] = before


def take_over(whom: Origin, process: str) -> None:
    """Makes this process one that works for the origin until it ends: an actor, a rank or a replica."""
    if whom != _now[0]:
        _begin(whom, process)


def _begin(whom: Origin, process: str) -> None:
    before, _now[0] = _now[0], whom
    if replace(before, stage="") == replace(whom, stage=""):
        return
    logger = logging.getLogger(LOGGER)
    for handler in _handlers:
        logger.removeHandler(handler)
        handler.close()
    _handlers.clear()
    # Others may have set the root logger up, as Ray's modules do, and would write every line once more.
    logger.propagate = whom == _NOWHERE
    if whom == _NOWHERE:
        logger.setLevel(logging.NOTSET)
        return
    logger.setLevel(whom.level.upper())
    if whom.files:
        _handlers.append(RunLog(Folder(whom.uri) / FOLDER, process))
    stream = logging.StreamHandler(sys.stderr)
    if whom.stderr:
        stream.setFormatter(JsonFormatter())
    else:
        stream.setLevel(logging.WARNING)
        stream.setFormatter(_PlainFormatter("%(message)s"))
        stream.addFilter(lambda record: not getattr(record, "told", False))
    _handlers.append(stream)
    for handler in _handlers:
        logger.addHandler(handler)


class JsonFormatter(logging.Formatter):
    """One JSON object a record. `extra={"fields": {...}}` of a call adds to it; secrets are redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **origin().labels,
            "logger": record.name,
            "message": record.getMessage(),
            "host": _HOST,
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(without_secrets(line), ensure_ascii=False, default=lambda value: redact(str(value)))


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


_HOST: Final = socket.gethostname()


class RunLog(logging.Handler):
    """Lines in a file of the run directory. A log that cannot be written ends no run: it is told once on stderr."""

    def __init__(self, folder: Folder, process: str) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        # Containers give every start the same host and number.
        began = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self._folder, self._name = folder, f"{process}-{_HOST}-{os.getpid()}-{began}"
        self._waiting: list[str] = []
        self._part, self._flushed = 0, time.monotonic()
        self._failed = False
        self._writing = threading.Lock()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record; a local file has it at once, an object store with the next part."""
        self._waiting.append(self.format(record))
        full = len(self._waiting) >= _PART_LINES or time.monotonic() - self._flushed > _PART_SECONDS
        if self._folder.is_local or full or record.levelno >= logging.WARNING:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        with self._writing:
            lines, self._waiting = self._waiting, []
            if not lines or self._failed:
                return
            self._flushed = time.monotonic()
            text = "".join(f"{line}\n" for line in lines)
            try:
                self._write(text)
            except (StorageError, OSError) as error:
                self._failed = True
                with suppress(OSError, ValueError):
                    print(f"the log cannot be written: {error}", file=sys.stderr)

    def _write(self, text: str) -> None:
        if self._folder.is_local:
            path = self._folder.local_path
            path.mkdir(parents=True, exist_ok=True)
            with (path / f"{self._name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(text)
            return
        self._folder.write_bytes(f"{self._name}.{self._part:04d}.jsonl", text.encode())
        self._part += 1

    def close(self) -> None:
        """Writes what waits and takes nothing more."""
        self.flush()
        atexit.unregister(self.flush)
        super().close()
