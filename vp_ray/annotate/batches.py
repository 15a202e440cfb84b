"""The annotate stage's batches: those of annotators with `batch`, and those that earlier processes left under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import pyarrow as pa

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.planning import Planned, places
from vp_ray.judging.batch_book import BatchBook, Purse, collected_keys
from vp_ray.judging.batch_office import BatchOffice, Tell
from vp_ray.judging.batch_run import BatchRun
from vp_ray.judging.config import BatchSettings
from vp_ray.judging.forms import JudgementForm
from vp_ray.judging.ledger import spent_usd
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.pictures import ImageReader
from vp_ray.storage import Folder

FOLDER: Final = "batches"


def under_way(settings: AnnotateSettings, folder: Folder) -> set[str]:
    """Ids of the judgements that batches of this stage's folder are to answer."""
    books = (BatchBook(folder / FOLDER, item.name) for item in settings.annotators)
    return {key for book in books for key in book.under_way()}


class BatchDesk:
    """What a stage has to do with batches; `done` are the judgements that are not asked."""

    def __init__(
        self,
        settings: AnnotateSettings,
        rubric: Rubric,
        urls: Mapping[str, str],
        images: Folder,
        folder: Folder,
        planned: Sequence[Planned],
        done: Collection[str],
        index: pa.Table,
    ) -> None:
        self._ledger, self._reader, self._places = folder / "ledger", ImageReader(images), places(index)
        self._planned = {item.judgement_id: item for item in planned}
        books = {item.name: BatchBook(folder / FOLDER, item.name) for item in settings.annotators}
        self._purse = Purse(settings.budget_usd, 0.0, list(books.values()))
        concerned = [item for item in settings.annotators if item.batch is not None or books[item.name].open]
        known: dict[str, list[tuple[str, str]]] = {}
        if concerned:
            for batch, key in collected_keys(self._ledger):
                if key in self._planned:
                    known.setdefault(self._planned[key].annotator, []).append((batch, key))
        self._runs = {
            item.name: BatchRun(
                item,
                urls[item.name],
                JudgementForm(item, rubric),
                books[item.name],
                self._purse,
                self._question,
                self._filled,
                known.get(item.name, ()),
            )
            for item in concerned
        }
        self._sending = {item.name for item in concerned if item.batch is not None}
        self.keys = {item.judgement_id for item in planned if item.annotator in self._sending}
        """The judgements that go in batches, done or not."""
        self.pending = self.keys - set(done)
        self._carried_usd = sum(
            run.plan(
                [item.judgement_id for item in planned if item.annotator == name and item.judgement_id not in done]
            )
            for name, run in self._runs.items()
        )
        polls = [(item.batch or BatchSettings()).poll_seconds for item in concerned]
        self._poll_seconds = min(polls, default=0.0)

    @property
    def left_over(self) -> bool:
        """Whether batches are under way of annotators that send none any more."""
        return any(run.book.open for name, run in self._runs.items() if name not in self._sending)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent, and nothing under way."""
        return not self.pending and not any(run.book.open for run in self._runs.values())

    @property
    def is_under_way(self) -> bool:
        """Whether batches are under way."""
        return any(run.book.open for run in self._runs.values())

    @property
    def held_usd(self) -> float:
        """What must be kept back for batches under way, and for answers that were paid and are asked for once more."""
        return self._purse.held_usd + self._carried_usd

    def figures(self) -> dict[str, dict[str, int]]:
        """For each annotator, batches and requests that this process sent, and batches by how they ended."""
        counts: dict[str, Counter[str]] = {name: run.counts for name, run in self._runs.items()}
        return {name: dict(count) for name, count in counts.items()}

    def collect_left_over(self, tell: Tell) -> None:
        """Waits for the batches of annotators that send none any more, so that their answers are not paid twice."""
        self._office([name for name in self._runs if name not in self._sending]).finish(tell)

    def submit(self) -> None:
        """Sends what the budget and the providers' queues allow now."""
        self._office(self._sending).submit()

    def finish(self, tell: Tell) -> None:
        """Waits until every judgement that goes in batches has an answer or a status."""
        self._office(self._sending).finish(tell)

    def _office(self, names: Collection[str]) -> BatchOffice:
        self._purse.spent_usd = spent_usd(self._ledger) + self._carried_usd
        runs = [self._runs[name] for name in self._runs if name in names]
        return BatchOffice(runs, self._ledger, self._purse, self._poll_seconds)

    def _question(self, key: str) -> Question:
        item = self._planned[key]
        return item.question(dict.fromkeys(item.order, b""))

    def _filled(self, key: str) -> Question:
        item = self._planned[key]
        return item.question({image_id: self._reader.read(*self._places[image_id]) for image_id in item.order})
