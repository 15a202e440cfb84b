"""How far a run is, read from its directory: from any machine that reaches it, without Ray."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from vp_ray.errors import StorageError
from vp_ray.judging.ledger import spent_usd
from vp_ray.pipeline.stages import STAGE_NAMES
from vp_ray.storage import STARTED, RunFolder, StageFolder
from vp_ray.telemetry import NOTE, NOTE_EVERY_SECONDS, Note

State = Literal["finished", "running", "stopped"]

_SILENT_SECONDS: Final = 6 * NOTE_EVERY_SECONDS
"""A stage that has not noted its progress for so long is not running any more."""
_LEDGER: Final = "ledger"


@dataclass(frozen=True, slots=True)
class StageStatus:
    """What the directory tells of one stage that was started."""

    stage: str
    state: State
    rows: dict[str, int]
    """Rows by status or table; empty until the stage is finished."""
    seconds: float | None
    """How long it took, or has been running since it was last started."""
    cost_usd: float
    unit: str = ""
    done: int | None = None
    total: int | None = None
    per_second: float | None = None
    """Units a second since it was last started."""
    seconds_left: float | None = None
    silent_seconds: float | None = None
    """Since it last noted its progress."""


def status_of(run: RunFolder, now: float | None = None) -> list[StageStatus]:
    """The stages of a run that were started, in their order.

    Raises `StorageError` where nothing was started, which is also what a misspelt directory looks like.
    """
    now = time.time() if now is None else now
    stages = [run.stage(name) for name in STAGE_NAMES]
    found = [_stage_status(folder, now) for folder in stages if folder.exists(STARTED)]
    if not found:
        raise StorageError("there is no run here", "Give the `run` of a job, for instance runs/demo.", run.uri)
    return found


def _stage_status(folder: StageFolder, now: float) -> StageStatus:
    manifest = folder.manifest()
    if manifest is not None:
        return StageStatus(folder.stage, "finished", manifest.rows, manifest.seconds, manifest.cost_usd)
    cost = spent_usd(folder / _LEDGER) if folder.exists(_LEDGER) else 0.0
    note = _note_of(folder)
    if note is None:
        return StageStatus(folder.stage, "stopped", {}, None, cost)
    silent = max(0.0, now - note.noted_at)
    rate = (note.done - note.first) / max(note.noted_at - note.began_at, 1e-9)
    running = silent < _SILENT_SECONDS
    left = (note.total - note.done) / rate if running and note.total and rate > 0 else None
    return StageStatus(
        folder.stage,
        "running" if running else "stopped",
        {},
        note.noted_at - note.began_at,
        cost,
        unit=note.unit,
        done=note.done,
        total=note.total,
        per_second=rate if rate > 0 else None,
        seconds_left=left,
        silent_seconds=silent,
    )


def _note_of(folder: StageFolder) -> Note | None:
    try:
        values: dict[str, Any] = folder.read_json(NOTE) if folder.exists(NOTE) else {}
        return Note(**values) if values else None
    except (StorageError, TypeError):
        # Removed between the two calls, or of another version.
        return None


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 05 s` or `2 h 10 min`; nothing for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def sentence(status: StageStatus) -> str:
    """What a stage has done, in words: its rows, or how far it is and how fast."""
    if status.state == "finished":
        return ", ".join(f"{count:,} {kind}" for kind, count in status.rows.items())
    if status.done is None:
        return "cut off: the same command goes on with it"
    parts = [f"{status.done:,}" + (f" of {status.total:,}" if status.total else "") + f" {status.unit}"]
    if status.per_second is not None:
        fast = status.per_second >= 1
        parts.append(f"{status.per_second:.3g}/s" if fast else f"{60 * status.per_second:.3g}/min")
    if status.state == "stopped":
        parts.append(f"no sign of life for {duration(status.silent_seconds)}")
    return ", ".join(parts)
