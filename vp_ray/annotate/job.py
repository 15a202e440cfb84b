"""The annotate stage: plan, ask over a pool of Ray Data actors, then judgements and ratings from the ledger."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from vp_ray.annotate.agreement import VERDICTS, agreement_figures, choice_table, level_table
from vp_ray.annotate.batches import BatchDesk
from vp_ray.annotate.comparisons import comparisons_of
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.figures import first_shown_figures, level_figures
from vp_ray.annotate.planning import Planned, index_images, plan, shards
from vp_ray.annotate.ratings import collect, rate, slot_effects
from vp_ray.annotate.truth import choice_figures, rated
from vp_ray.distributed.limiter import Books, ClusterLimiter, running_limiter
from vp_ray.distributed.metrics import AnswerMetrics
from vp_ray.distributed.shards import run_shards
from vp_ray.errors import BudgetError, SettingsError
from vp_ray.judging.client import check_annotator
from vp_ray.judging.config import EMBEDDED, AnnotatorSettings
from vp_ray.judging.costs import costs_by_day
from vp_ray.judging.engine import Judge
from vp_ray.judging.ledger import answered, asked_again, open_retry, read_ledger, register, spent_usd
from vp_ray.judging.prices import price_of
from vp_ray.judging.rubric import Rubric
from vp_ray.pictures import ImageReader
from vp_ray.records import COMPARISONS, JUDGEMENTS, LEVELS, RATINGS, Status
from vp_ray.storage import MANIFEST, Folder, RunFolder, StageOutcome
from vp_ray.telemetry import progress

RETRY: Final = "retry.json"
"""Which judgements are asked again, and how often each was asked before; there while a retry is not finished."""
DEAD_LETTERS: Final = "dead_letters.jsonl"


def run(settings: AnnotateSettings, run: RunFolder, embedded_url: str | None) -> StageOutcome:
    """Asks for every judgement that the ledger does not hold, then writes `judgements.parquet`, and `ratings.parquet`
    of levels or `comparisons.parquet` of choices.

    `embedded_url` is the address of the pipeline's own judge, for annotators that name it. Raises `AnnotatorError`,
    `BudgetError` or `InputError`; all answers so far stay in `ledger/`, and a second call goes on from them.
    """
    folder = run.stage("annotate")
    ledger = (folder / "ledger").make()
    rubric = Rubric.load(settings.rubric, settings.mode)
    urls = {item.name: _url(item, embedded_url) for item in settings.annotators}
    images = run.source("generate") / "images"
    index = index_images(images)
    planned = plan(index, settings, rubric)
    figures = _ask(settings, rubric, urls, images, folder, planned, index)

    judgements = _in_order(read_ledger(ledger), planned)
    folder.write_table("judgements.parquet", judgements, JUDGEMENTS)
    folder.write_bytes(DEAD_LETTERS, dead_letters(judgements))
    every, judgements = judgements, rated(judgements, settings)
    if settings.mode == "pairwise":
        folder.write_table("comparisons.parquet", comparisons_of(judgements), COMPARISONS)
        figures |= agreement_figures(choice_table(judgements), judgements, VERDICTS) | first_shown_figures(judgements)
    else:
        levels = collect(judgements)
        effects, removed = slot_effects(levels)
        folder.write_table("ratings.parquet", rate(levels, removed, index), RATINGS)
        figures |= agreement_figures(level_table(levels), judgements, len(LEVELS)) | level_figures(levels, effects)
    figures |= choice_figures(settings, every, figures, run)
    folder.delete(RETRY)
    figures["costs"] = [asdict(day) for day in costs_by_day(ledger, settings.annotators)]
    return StageOutcome(dict(Counter(every["status"].to_pylist())), spent_usd(ledger), figures)


def dead_letters(judgements: pa.Table) -> bytes:
    """JSON lines of the judgements without levels: id, prompt, annotator, status, error and the reply as it came."""
    rows = judgements.select(["judgement_id", "prompt", "annotator", "status", "error", "reply"]).to_pylist()
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows if row["status"] != Status.SCORED)
    return "".join(lines).encode()


def reopen(run: RunFolder, statuses: Sequence[str]) -> int:
    """How many judgements that ended with one of these statuses are asked again when the stage runs next.

    Raises `SettingsError` for a status that cannot be asked again.
    """
    known = [str(status) for status in Status if status != Status.SCORED]
    unknown = [status for status in statuses if status not in known]
    if unknown or not statuses:
        raise SettingsError(
            f"'{', '.join(unknown)}' cannot be asked again", f"Choose of: {', '.join(known)}.", "--retry"
        )
    folder = run.stage("annotate")
    retry = open_retry(folder / "ledger", statuses)
    if retry:
        folder.write_json(RETRY, retry)
        folder.delete(MANIFEST)
    return len(retry)


def _url(annotator: AnnotatorSettings, embedded_url: str | None) -> str:
    if annotator.base_url != EMBEDDED:
        return annotator.base_url
    if embedded_url is None:
        raise SettingsError(
            f"the annotator '{annotator.name}' is the embedded judge, which does not run here",
            "Run the stage through `vp-ray`, or give a base_url.",
            "annotate.annotators",
        )
    return embedded_url


def _ask(
    settings: AnnotateSettings,
    rubric: Rubric,
    urls: Mapping[str, str],
    images: Folder,
    folder: Folder,
    planned: Sequence[Planned],
    index: pa.Table,
) -> dict[str, Any]:
    """Asks what is missing; the figures of the traffic, None where nothing was asked."""
    ledger = folder / "ledger"
    done = _done(folder, planned)
    desk = BatchDesk(settings, rubric, urls, images, folder, planned, done, index)
    if desk.idle and len(done) == len(planned):
        return {"answers_per_minute": None, "traffic": None}
    _check_budget(settings, ledger, desk)
    for annotator in settings.annotators:
        check_annotator(annotator, urls[annotator.name])
    with progress("annotate", "answers", len(planned)) as bar:
        if desk.left_over:
            desk.collect_left_over(lambda answers, note: bar.update(len(done) + answers, note=note))
            done = _done(folder, planned)
            desk = BatchDesk(settings, rubric, urls, images, folder, planned, done, index)
        work = shards(planned, done | desk.keys, index, settings.requests_per_shard)
        if not work:
            desk.finish(lambda answers, note: bar.update(len(done) + answers, note=note))
            return {"answers_per_minute": None, "traffic": None, "batches": desk.figures()}
        desk.submit()
        budget = None if settings.budget_usd is None else settings.budget_usd - desk.held_usd
        asked, started, traffic = 0, time.monotonic(), {}
        # For each annotator one shard more than fills its slots, so that the stragglers of one leave no slot empty.
        shards_at_once = sum(-(-item.concurrency // settings.requests_per_shard) + 1 for item in settings.annotators)

        def on_result(result: Mapping[str, Any]) -> None:
            nonlocal asked
            asked += int(result["answers"])
            register(ledger, [result["writer"]])
            bar.update(len(done) + asked)

        with running_limiter(settings.annotators, budget, ledger, urls) as books:
            arguments = {"settings": settings, "rubric": rubric, "urls": dict(urls), "images": images, "ledger": ledger}
            run_shards(
                work,
                GroupAnnotator,
                {**arguments, "books": books},
                settings.actors,
                "annotate",
                on_result,
                concurrent_shards=shards_at_once,
            )
            traffic = ClusterLimiter(books).figures()
        seconds = time.monotonic() - started
        desk.finish(lambda answers, note: bar.update(len(done) + asked + answers, note=note))
    figures = {"answers_per_minute": asked * 60.0 / seconds, "traffic": traffic}
    return {**figures, "batches": desk.figures()} if desk.figures() else figures


def _done(folder: Folder, planned: Sequence[Planned]) -> set[str]:
    """Ids of the judgements that need not be asked."""
    ledger = folder / "ledger"
    retry = folder.read_json(RETRY) if folder.exists(RETRY) else {}
    done = answered(ledger) - (retry.keys() - asked_again(ledger, retry))
    return done & {item.judgement_id for item in planned}


def _check_budget(settings: AnnotateSettings, ledger: Folder, desk: BatchDesk) -> None:
    if settings.budget_usd is None:
        return
    for annotator in settings.annotators:
        if price_of(annotator) is None:
            raise SettingsError(
                f"a budget is set, but the price of '{annotator.model}' is not known",
                "Set the annotator's price.",
                "annotate.annotators",
            )
    spent = spent_usd(ledger)
    # Batches that are under way are paid for, and collected whatever is left.
    if spent >= settings.budget_usd and not desk.is_under_way:
        raise BudgetError(
            f"{spent:.2f} of {settings.budget_usd:.2f} US dollars are spent", "Raise annotate.budget_usd to go on."
        )


def _in_order(judgements: pa.Table, planned: Sequence[Planned]) -> pa.Table:
    """The judgements of the plan in its order; those of another rubric or plan are left out."""
    rows = {name: row for row, name in enumerate(judgements["judgement_id"].to_pylist())}
    kept = [rows[item.judgement_id] for item in planned if item.judgement_id in rows]
    return judgements.take(pa.array(kept, pa.int64()))


class GroupAnnotator:
    """A Ray Data actor that judges shards; its judges share the cluster's limiter and write to ledgers of their own."""

    def __init__(
        self,
        settings: AnnotateSettings,
        rubric: Rubric,
        urls: Mapping[str, str],
        images: Folder,
        ledger: Folder,
        books: Books,
    ) -> None:
        self._annotators = {item.name: item for item in settings.annotators}
        self._rubric, self._urls, self._ledger = rubric, urls, ledger
        self._images = ImageReader(images)
        self._limiter = ClusterLimiter(books)
        self._judges: dict[str, Judge] = {}
        self._lock = threading.Lock()

    def _judge(self, name: str) -> Judge:
        with self._lock:
            if name not in self._judges:
                watch = AnswerMetrics(name)
                judge = Judge(
                    self._annotators[name], self._urls[name], self._rubric, self._limiter, self._ledger, watch
                )
                self._judges[name] = judge
            return self._judges[name]

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """How many answers of the shard are in the ledger now, which is all of them, and who wrote them."""
        pictures = {image_id: self._images.read(*place) for image_id, place in shard["images"].items()}
        questions = [Planned.of(item).question(pictures) for item in shard["judgements"]]
        judge = self._judge(shard["annotator"])
        return {"answers": len(judge(questions)), "writer": judge.writer}
