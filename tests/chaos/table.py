"""The table of faults, recoveries and seconds lost, as Markdown, from the notes of the rounds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.rounds import Bill, Story
from tests.chaos.schedule import HITS


@dataclass(slots=True)
class Note:
    """What is told of one round."""

    number: int
    calm_seconds: float
    """What the undisturbed run took."""
    story: Story = field(default_factory=Story)
    bill: Bill | None = None
    faults: dict[str, int] = field(default_factory=dict)
    """The judge's faults by name."""
    passed: bool = False


HEADING = "## The last run"

_API_NAMES = {"rate_limited": "429", "server_error": "500", "reset": "reset connection", "malformed": "malformed reply"}


def table(notes: Sequence[Note], seed: int) -> str:
    """Two tables: by kind of fault, and by round."""
    passed = sum(note.passed for note in notes)
    calm = statistics.mean(note.calm_seconds for note in notes)
    lines = [
        f"{passed} of {len(notes)} rounds (seed {seed}) ended as the undisturbed run, which took {calm:.0f} s. "
        f"{sum(len(note.story.missed) for note in notes)} planned losses found their stage over.",
        "",
        "| fault | times | recovered | seconds until the next sign of progress: median | longest |",
        "|---|---:|---:|---:|---:|",
    ]
    by_kind = defaultdict(list)
    for note in notes:
        for one in note.story.struck:
            by_kind[one.kind].append(one.recovered_seconds)
    for kind in HITS:
        seconds = [value for value in by_kind[kind] if value is not None]
        spread = f"{statistics.median(seconds):.1f} | {max(seconds):.1f}" if seconds else "- | -"
        lines.append(f"| {kind} killed | {len(by_kind[kind])} | {len(seconds)} | {spread} |")
    for name, words in _API_NAMES.items():
        times = sum(note.faults.get(name, 0) for note in notes)
        lines.append(f"| {words} of the judge's API | {times} | {times if passed == len(notes) else '?'} | - | - |")
    lines += [
        "",
        "| round | killed (stage, second) | API faults | seconds | lost | paid again / in flight at kills | equal |",
        "|---:|---|---:|---:|---:|---:|---|",
        *(_row(note) for note in notes),
    ]
    return "\n".join(lines) + "\n"


def _row(note: Note) -> str:
    killed = ", ".join(f"{one.kind} ({one.stage}, {one.at:.0f})" for one in note.story.struck) or "nothing"
    cells: list[Any] = [
        note.number,
        killed,
        sum(note.faults.values()),
        f"{note.story.seconds:.0f}",
        f"{note.story.seconds - note.calm_seconds:.0f}",
        f"{note.bill.paid_again if note.bill else '?'} / {note.story.in_flight}",
        "yes" if note.passed else "**no**",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def put_into(page: Path, told: str) -> None:
    """Puts the table into a document, in place of all that comes after its heading `HEADING`."""
    text = page.read_text()
    head, found, _ = text.partition(HEADING)
    if not found:
        raise ValueError(f"{page} has no line {HEADING!r}")
    page.write_text(f"{head}{HEADING}\n\n{told}")
