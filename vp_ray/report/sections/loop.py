"""The loop as it ran: what each stage made, by status, in how much time and for how much money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vp_ray.records import ImageStatus, Status
from vp_ray.report.formatting import is_number
from vp_ray.report.reading import STAGES, RunReader, State

WANTING: Final = frozenset(
    str(status) for status in (*Status, *ImageStatus) if status not in (Status.SCORED, ImageStatus.MADE)
)
"""Row counts under these names are of rows that did not succeed."""

_KINDS: Final = ("good", "dropped", "failed")
_DROPPED: Final = frozenset({"duplicate", "empty", "too_short", "too_long", "unpaired"})


@dataclass(frozen=True, slots=True)
class Count:
    """So many rows of one status or kind."""

    name: str
    rows: int
    kind: str
    """`good`, `dropped` (on purpose) or `failed`."""


@dataclass(frozen=True, slots=True)
class StageLine:
    """One stage in the table."""

    name: str
    state: State
    counts: tuple[Count, ...]
    seconds: float | None
    time_share: float
    """Of the slowest stage, 0..1."""
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Loop:
    """The table of stages and its sums."""

    stages: tuple[StageLine, ...]
    seconds: float
    cost_usd: float


def loop(reader: RunReader) -> Loop:
    """The stages that are planned or begun, in order."""
    manifests = {name: reader.manifest(name) for name in STAGES}
    times = [manifest.seconds for manifest in manifests.values() if manifest is not None]
    slowest = max(times, default=0.0)
    lines = []
    for name, manifest in manifests.items():
        if not reader.concerns(name):
            continue
        state = reader.state(name)
        rows = manifest.rows if manifest is not None else {}
        counts = [Count(key, number, _kind(key)) for key, number in rows.items() if is_number(number)]
        counts.sort(key=lambda one: (_KINDS.index(one.kind), -one.rows))
        seconds = manifest.seconds if manifest else None
        share = (seconds or 0.0) / slowest if slowest else 0.0
        lines.append(StageLine(name, state, tuple(counts), seconds, share, manifest.cost_usd if manifest else None))
    return Loop(
        tuple(lines), sum(times), sum(manifest.cost_usd for manifest in manifests.values() if manifest is not None)
    )


def reached(reader: RunReader) -> str | None:
    """The last finished stage."""
    return next((name for name in reversed(STAGES) if reader.state(name) == "finished"), None)


def _kind(name: str) -> str:
    if name in WANTING:
        return "failed"
    return "dropped" if name in _DROPPED else "good"
