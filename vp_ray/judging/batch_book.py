"""What is known of the batches of a stage, on disk before anything is waited for.

    BATCHES/NAME.json     one batch: its file and its id at the provider, its requests and what they have been through
    BATCHES/ANNOTATOR.index    on an object store: the names of an annotator's batches, so that no listing is needed

A record is written when the file is uploaded and before the batch is created, again with the batch's id, and a last
time when every answer of the batch is in the ledger. So a process may be killed at any point: a batch whose id was not
written yet is found at the provider by its file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vp_ray.errors import BudgetError
from vp_ray.ids import content_id
from vp_ray.judging.courses import Course
from vp_ray.judging.ledger import ledger_rows
from vp_ray.storage import Folder

BATCH: str = "batch_id"
"""The key of a ledger's line that names the batch which its answer came in."""


@dataclass(slots=True)
class BatchRecord:
    """One batch of one annotator."""

    name: str
    annotator: str
    input_file_id: str
    created_at: float
    estimate_usd: float
    """The most that it can cost."""
    tokens: dict[str, int]
    """Our estimate of each request's tokens, by key."""
    courses: dict[str, dict[str, Any]]
    """What requests had been through when they were sent, where that is anything."""
    state: Literal["uploaded", "open", "collected"] = "uploaded"
    batch_id: str | None = None
    ended_as: str | None = None
    """The provider's word for how it ended."""
    asked_again: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What requests without a final answer have been through since, by key."""

    def course(self, key: str) -> Course:
        """What a request had been through when it was sent."""
        return Course(**self.courses.get(key, {}))


class BatchBook:
    """The records of one annotator's batches in a folder that annotators share."""

    def __init__(self, folder: Folder, annotator: str) -> None:
        self._folder = folder
        self._index = f"{content_id('annotator', annotator)}.index"
        names = folder.read_json(self._index) if folder.exists(self._index) else folder.listed()
        read = (json.loads(folder.read_bytes(name)) for name in names if name.endswith(".json"))
        records = (BatchRecord(**values) for values in read if values["annotator"] == annotator)
        self.records = sorted(records, key=lambda record: record.created_at)

    def write(self, record: BatchRecord) -> None:
        """Makes a record safe."""
        data = json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":")).encode()
        self._folder.make().write_bytes(f"{record.name}.json", data)
        if record not in self.records:
            self.records.append(record)
            self._write_index()

    def _write_index(self) -> None:
        if not self._folder.is_local:
            self._folder.write_json(self._index, [f"{record.name}.json" for record in self.records])

    def forget(self, record: BatchRecord) -> None:
        """Removes the record of a batch that was never created."""
        self.records.remove(record)
        self._write_index()
        self._folder.delete(f"{record.name}.json")

    @property
    def open(self) -> list[BatchRecord]:
        """Batches whose answers are not all in the ledger, the oldest first."""
        return [record for record in self.records if record.state != "collected"]

    def under_way(self) -> set[str]:
        """Keys of the requests in them."""
        return {key for record in self.open for key in record.tokens}

    def courses(self, pending: Collection[str]) -> dict[str, Course]:
        """What those of `pending` have been through that earlier batches gave no final answer."""
        latest: dict[str, Mapping[str, Any]] = {}
        for record in self.records:
            for key in record.tokens:
                latest.pop(key, None)
            latest.update(record.asked_again)
        return {key: Course(**values) for key, values in latest.items() if key in pending}

    @property
    def held_usd(self) -> float:
        """The most that the open batches can cost, beside what their requests cost before."""
        return sum(record.estimate_usd for record in self.open)


@dataclass(slots=True)
class Purse:
    """The money of a stage, batches under way counted as spent."""

    budget_usd: float | None
    spent_usd: float
    books: list[BatchBook] = field(default_factory=list)

    @property
    def held_usd(self) -> float:
        """The most that the batches under way can cost."""
        return sum(book.held_usd for book in self.books)

    @property
    def left_usd(self) -> float:
        """What a further batch may cost."""
        return float("inf") if self.budget_usd is None else self.budget_usd - self.spent_usd - self.held_usd

    def spent_error(self) -> BudgetError:
        """What stops a stage that cannot pay its next request."""
        return BudgetError(
            f"the next request could pass the budget, of which {max(0.0, self.left_usd):.2f} US dollars are left",
            "Every answer that was paid for is kept: raise the stage's budget_usd and start the run again.",
        )


def collected_keys(ledger: Folder) -> Iterator[tuple[str, str]]:
    """The batch and the key of every answer in a ledger that came in a batch."""
    for row in ledger_rows(ledger):
        if BATCH in row:
            yield row[BATCH], row["judgement_id"]
