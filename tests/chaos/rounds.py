"""One run of the whole loop through a schedule of losses, and what became of it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tests.chaos.machines import Machines
from tests.chaos.schedule import TITLES, Loss
from tests.end_to_end.driver import Driver
from vp_ray.judging.ledger import ledger_rows
from vp_ray.records import Status
from vp_ray.storage import MANIFEST, RunFolder

LOOP = Path(__file__).parent / "loop.yaml"
CONCURRENCY = 2
"""Requests that each of the actors that ask has under way, as the loop says; the evaluation's judge has as many."""
ACTORS = 2
_RESTART_SECONDS = 1.0
_REPLACE_SECONDS = 3.0
_LIMIT_SECONDS = 3600.0
_POLL_SECONDS = 0.05

Item = TypeVar("Item")


@dataclass(slots=True)
class Struck:
    """One loss that happened."""

    kind: str
    stage: str
    at: float
    """Seconds after the run was started."""
    recovered_seconds: float | None = None
    """Until the run showed the next sign of progress."""


@dataclass(slots=True)
class Story:
    """What a run went through."""

    seconds: float = 0.0
    struck: list[Struck] = field(default_factory=list)
    missed: list[Loss] = field(default_factory=list)
    """Losses whose victim was not there before their stage ended."""
    in_flight: int = 0
    """Requests that may have been under way when those died who had sent them."""


def arguments(run: Path, address: str, judge: str) -> list[str]:
    """The loop on a cluster, with a judge that outlives its drivers."""
    places = {"run": run, "ray.address": address}
    judges = {f"{stage}.0.base_url": judge for stage in ("annotate.annotators", "evaluate.judges")}
    sets = [word for key, value in {**places, **judges}.items() for word in ("--set", f"{key}={value}")]
    return ["run", str(LOOP), *sets]


def tell(
    machines: Machines,
    run: Path,
    judge: str,
    story: Story,
    losses: Sequence[Loss] = (),
    seconds: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Runs the loop to its end, through the losses, and notes them in the story; `seconds` is what each stage takes
    undisturbed. Raises `AssertionError` where a driver ends by itself and not well."""
    _Round(machines, run, judge, story, losses, seconds).go()


class _Round:
    def __init__(
        self,
        machines: Machines,
        run: Path,
        judge: str,
        story: Story,
        losses: Sequence[Loss],
        seconds: Mapping[str, float],
    ) -> None:
        self._machines, self._run, self._losses, self._seconds = machines, run, list(losses), seconds
        self._arguments = arguments(run, machines.address, judge)
        self._story = story
        self._driver = Driver(self._arguments)
        self._began = time.monotonic()
        self._began_stage: dict[str, float] = {}
        self._restart_at = self._replace_at = float("inf")
        self._seen: object = None

    def go(self) -> None:
        try:
            while self._goes_on():
                assert time.monotonic() - self._began < _LIMIT_SECONDS, f"no end:\n{self._driver.said()}\n{self._story}"
                time.sleep(_POLL_SECONDS)
            ended = self._driver.ended()
            assert ended.code == 0, f"the run failed:\n{ended.out}\n{ended.err}\n{self._story}"
        finally:
            self._story.seconds = time.monotonic() - self._began
            self._driver.__exit__()
            if self._replace_at < float("inf"):
                self._machines.add_node()
        self._note_progress()

    def _goes_on(self) -> bool:
        now = time.monotonic()
        if now >= self._replace_at:
            self._machines.add_node()
            self._replace_at = float("inf")
        if now >= self._restart_at:
            self._driver.__exit__()
            self._driver = Driver(self._arguments)
            self._restart_at = float("inf")
        self._note_progress()
        if self._losses and self._is_due(self._losses[0]):
            loss = self._losses[0]
            if self._strike(loss):
                self._story.struck.append(Struck(loss.kind, loss.stage, time.monotonic() - self._began))
                self._seen = self._signs()
                self._losses.pop(0)
        self._pass_over()
        return self._restart_at < float("inf") or self._driver.is_running

    def _is_due(self, loss: Loss) -> bool:
        """Whether the loss's stage has run so long; not while a driver is gone, or a node that is replaced soon."""
        if loss.stage not in self._began_stage and (self._run / loss.stage / "started.json").exists():
            self._began_stage[loss.stage] = time.monotonic()
        began = self._began_stage.get(loss.stage, float("inf"))
        whole = self._restart_at == self._replace_at == float("inf")
        return whole and time.monotonic() >= began + loss.share * self._seconds[loss.stage]

    def _pass_over(self) -> None:
        """Drops losses whose stage has ended without them."""
        while self._losses and (self._run / self._losses[0].stage / MANIFEST).exists():
            self._story.missed.append(self._losses.pop(0))

    def _strike(self, loss: Loss) -> bool:
        """Whether there was something to lose, and is no more."""
        if loss.kind == "driver":
            self._driver.kill()
            self._restart_at = time.monotonic() + _RESTART_SECONDS
            asking = ACTORS if loss.stage == "annotate" else 1
        elif loss.kind == "node":
            self._machines.lose_node(chosen(self._machines.nodes, loss.choice))
            self._replace_at = time.monotonic() + _REPLACE_SECONDS
            asking = ACTORS
        else:
            found = self._machines.processes(TITLES[loss.kind])
            if not found:
                return False
            chosen(found, loss.choice).kill()
            asking = 1 if loss.kind == "actor" else 0
        if loss.stage in ("annotate", "evaluate") and (loss.stage == "annotate" or loss.kind == "driver"):
            self._story.in_flight += asking * CONCURRENCY
        return True

    def _note_progress(self) -> None:
        waiting = [one for one in self._story.struck if one.recovered_seconds is None]
        if waiting and self._signs() != self._seen:
            self._seen = self._signs()
            for one in waiting:
                one.recovered_seconds = time.monotonic() - self._began - one.at

    def _signs(self) -> object:
        """What grows while the run makes progress: its files, and rows of ledgers and curves."""
        lines = sum(file.stat().st_size for file in self._run.glob("*/**/*.jsonl"))
        patterns = ("*/*.parquet", "*/*/*.parquet", f"*/{MANIFEST}", "*/started.json", "*/checkpoints/*/state.json")
        return lines, sum(1 for pattern in patterns for _ in self._run.glob(pattern))


def chosen(items: Sequence[Item], place: float) -> Item:
    """The item at a place from 0 to 1."""
    return items[min(int(place * len(items)), len(items) - 1)]


@dataclass(frozen=True, slots=True)
class Bill:
    """The judge's own count of sound replies against the run's ledgers."""

    sound: int
    """Replies that the judge gave; malformed ones are among them, since the client reads their kind."""
    kept: int
    """Scored answers in the ledgers."""
    distinct: int
    """Judgements that they answer."""

    @property
    def paid_again(self) -> int:
        """Replies beyond one a judgement: lost with a process that died, or asked for by two."""
        return self.sound - self.distinct


def stats_of(judge: str) -> dict[str, Any]:
    """The judge's counts, once all that it was asked is answered."""
    while True:
        with urllib.request.urlopen(judge.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
            found: dict[str, Any] = json.loads(reply.read())
        if found["requests"] == sum(found["answers"].values()):
            return found
        time.sleep(0.1)


def bill_of(run: RunFolder, stats: dict[str, Any]) -> Bill:
    """What was paid for."""
    rows = [row for stage in ("annotate", "evaluate") for row in ledger_rows(run.stage(stage) / "ledger")]
    scored = Counter(row["judgement_id"] for row in rows if row["status"] == Status.SCORED)
    return Bill(stats["answers"]["200"], sum(scored.values()), len(scored))
