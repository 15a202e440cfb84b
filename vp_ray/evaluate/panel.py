"""The judges of the evaluation: each sees both images of a pair together, in every order, and is asked once.

Requests go out from this process: a judge answers far more slowly than one event loop sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

from vp_ray.errors import BudgetError, SettingsError
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.judging.client import check_annotator
from vp_ray.judging.config import EMBEDDED, AnnotatorSettings
from vp_ray.judging.engine import Judge
from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.judging.ledger import answered, register, spent_usd
from vp_ray.judging.orders import orders, permuted
from vp_ray.judging.prices import price_of
from vp_ray.judging.requests import Question, judgement_id
from vp_ray.judging.rubric import Rubric
from vp_ray.judging.watching import RequestWatch, Unwatched
from vp_ray.storage import Folder

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]

_CHUNK = 16
"""Questions that are handed to a judge at a time."""


def plan_orders(pair: Pair, count: int) -> list[tuple[str, ...]]:
    """The orders in which a pair is shown: one drawn by hash, and its reverse where two are wanted."""
    base, tuned = pair
    drawn = permuted(base["prompt_id"], (base["image_id"], tuned["image_id"]))
    return orders(drawn, 2 if count == 2 else 1)


class Panel:
    """All judges of a run, and the ledger of what they answered; `watch_of` gives who watches a judge's requests."""

    def __init__(
        self,
        settings: EvaluateSettings,
        ledger: Folder,
        embedded_url: str | None,
        watch_of: Callable[[str], RequestWatch] = lambda judge: Unwatched(),
    ) -> None:
        self._settings, self._ledger, self._embedded_url = settings, ledger, embedded_url
        self._watch_of = watch_of
        self._rubric = Rubric.load(settings.rubric)
        self._gate: LocalLimiter | None = None

    def _plan(self, pair: Pair) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """(judge, order, judgement id) of everything that is asked about a pair."""
        for order in plan_orders(pair, self._settings.orders):
            for judge in self._settings.judges:
                yield judge.name, order, judgement_id(judge, self._rubric, pair[0]["prompt_id"], order)

    def planned(self, pairs: Iterable[Pair]) -> list[str]:
        """The ids of all judgements of these pairs, in the order in which they are reported."""
        return [name for pair in pairs for _, _, name in self._plan(pair)]

    def ask(self, pairs: Iterable[Pair]) -> Iterator[int]:
        """Asks for what the ledger does not hold about pairs whose rows hold pixels; yields how many answers came.

        Pairs are taken as judges have room for them. Raises `AnnotatorError`, `BudgetError` or `StorageError`; what was
        under way is answered and in the ledger by then.
        """
        settings, spent = self._settings, spent_usd(self._ledger)
        _check_budget(settings, spent)
        self._gate = LocalLimiter(Gate(settings.judges, settings.budget_usd, spent))
        urls = {judge.name: _url(judge, self._embedded_url) for judge in settings.judges}
        for judge in settings.judges:
            check_annotator(judge, urls[judge.name])
        workers = sum(-(-judge.concurrency // _CHUNK) + 1 for judge in settings.judges)
        waiting: set[Future[list[dict[str, Any]]]] = set()
        with ExitStack() as stack:
            engines = {
                judge.name: stack.enter_context(
                    Judge(
                        judge,
                        urls[judge.name],
                        self._rubric,
                        self._gate,
                        self._ledger,
                        self._watch_of(judge.name),
                    )
                )
                for judge in settings.judges
            }
            register(self._ledger, [engine.writer for engine in engines.values()])
            threads = stack.enter_context(ThreadPoolExecutor(workers))
            try:
                for judge_name, questions in self._chunks(pairs):
                    waiting.add(threads.submit(engines[judge_name], questions))
                    if len(waiting) > workers:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        yield sum(len(future.result()) for future in done)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield sum(len(future.result()) for future in done)
            finally:
                for future in waiting:
                    future.cancel()

    def _chunks(self, pairs: Iterable[Pair]) -> Iterator[tuple[str, list[Question]]]:
        """What is not in the ledger, in chunks of one judge each."""
        done = answered(self._ledger)
        chunks: dict[str, list[Question]] = {judge.name: [] for judge in self._settings.judges}
        for pair in pairs:
            pictures = {image["image_id"]: image["image"]["bytes"] for image in pair}
            for judge, order, name in self._plan(pair):
                if name in done:
                    continue
                shown = tuple(pictures[image_id] for image_id in order)
                chunks[judge].append(Question(name, pair[0]["prompt_id"], pair[0]["prompt"], order, shown))
                if len(chunks[judge]) == _CHUNK:
                    yield judge, chunks[judge]
                    chunks[judge] = []
        yield from ((judge, questions) for judge, questions in chunks.items() if questions)

    def traffic(self) -> dict[str, Any] | None:
        """Requests, refusals by rate and the share of the allowed rate, by judge; None where nothing was asked."""
        return self._gate.figures() if self._gate is not None else None


def _url(judge: AnnotatorSettings, embedded_url: str | None) -> str:
    if judge.base_url != EMBEDDED:
        return judge.base_url
    if embedded_url is None:
        raise SettingsError(
            f"the judge '{judge.name}' is the embedded judge, which does not run here",
            "Run the stage through `vp-ray`, or give a base_url.",
            "evaluate.judges",
        )
    return embedded_url


def _check_budget(settings: EvaluateSettings, spent: float) -> None:
    if settings.budget_usd is None:
        return
    for judge in settings.judges:
        if price_of(judge) is None:
            raise SettingsError(
                f"a budget is set, but the price of '{judge.model}' is not known",
                "Set the judge's price.",
                "evaluate.judges",
            )
    if spent >= settings.budget_usd:
        raise BudgetError(
            f"{spent:.2f} of {settings.budget_usd:.2f} US dollars are spent", "Raise evaluate.budget_usd to go on."
        )
