"""Batches without Ray: questions about rendered scenes, an office, and a process that runs one until it is killed.

python -m tests.unit.judging.batching URL FOLDER GROUPS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.unit.judging.conftest import annotator, make_questions
from vp_ray.judging.batch_book import BatchBook, Purse, collected_keys
from vp_ray.judging.batch_office import BatchOffice
from vp_ray.judging.batch_run import BatchRun
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.forms import JudgementForm
from vp_ray.judging.ledger import answered, spent_usd
from vp_ray.judging.parsing import UnreadableReplyError
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.storage import Folder

DOLLAR = {"request_usd_per_million_tokens": 1000.0, "reply_usd_per_million_tokens": 1000.0}


class StrictForm(JudgementForm):
    """Reads JSON and nothing else, so that the judge's malformed replies are asked for once more."""

    def read(self, item: Question, text: str) -> Mapping[str, Any]:
        try:
            json.loads(text)
        except ValueError as error:
            raise UnreadableReplyError(f"the reply is not valid JSON: {error}") from None
        return super().read(item, text)


def batcher(**changes: Any) -> AnnotatorSettings:
    batch = {"requests_per_file": 5, "poll_seconds": 0.05, **changes.pop("batch", {})}
    return annotator(**{"batch": batch, "price": DOLLAR, **changes})


def office(
    settings: AnnotatorSettings,
    url: str,
    questions: Sequence[Question],
    folder: Folder,
    budget_usd: float | None = None,
) -> tuple[BatchOffice, BatchRun[Question]]:
    ledger = (folder / "ledger").make()
    by_key = {question.judgement_id: question for question in questions}
    book = BatchBook(folder / "batches", settings.name)
    purse = Purse(budget_usd, spent_usd(ledger), [book])
    form = StrictForm(settings, Rubric.load("visionprefer"))
    run = BatchRun(settings, url, form, book, purse, by_key.__getitem__, by_key.__getitem__, collected_keys(ledger))
    done = answered(ledger)
    purse.spent_usd += run.plan([key for key in by_key if key not in done])
    return BatchOffice([run], ledger, purse, poll_seconds=0.05), run


def silent(answers: int, note: str) -> None:
    """Tells nobody."""


if __name__ == "__main__":
    address, place, groups = sys.argv[1:]
    judge = batcher()
    asked = make_questions(int(groups), judge, Rubric.load("visionprefer"))
    office(judge, address, asked, Folder.at(place))[0].finish(silent)
