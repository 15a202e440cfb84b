"""What goes wrong when: faults drawn from a seed, each in a stage that it can hit, at a random moment of that stage."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Final

from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_faults import Fault, draw_fault

STAGES: Final = ("generate", "annotate", "reward", "rl", "evaluate")

HITS: Final[Mapping[str, tuple[str, ...]]] = {
    "driver": STAGES,
    "node": STAGES,
    "actor": ("generate", "annotate", "evaluate"),
    "worker": ("reward", "rl"),
    "replica": ("rl",),
    "limiter": ("annotate",),
    "train controller": ("reward", "rl"),
    "serve controller": ("rl",),
}
"""The stages that each kind of loss can meet."""

TITLES: Final[Mapping[str, str]] = {
    "actor": "ray::MapWorker",
    "worker": "ray::RayTrainWorker",
    "replica": "ray::ServeReplica",
    "limiter": "ray::_LimiterActor",
    "train controller": "ray::TrainController",
    "serve controller": "ray::ServeController",
}
"""How the titles of the processes begin that are killed; a driver and a node are more than one."""

API_FAULTS: Final = {"rate_limited": 0.1, "server_error": 0.06, "reset": 0.06, "malformed": 0.03}
"""Shares of the judge's requests that go wrong, in every round."""

_APART: Final = 12
"""Requests that lie between two malformed replies, so that they are never two to one question."""
_REQUESTS: Final = 300


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss to come."""

    kind: str
    stage: str
    share: float
    """When: as a share of the time that the stage takes undisturbed."""
    choice: float
    """0 to 1: which of several is lost."""


def losses_of(rng: random.Random, kinds: list[str]) -> list[Loss]:
    """A loss of each kind at a random moment of a random stage that it can hit, in the order of their times."""
    losses = [Loss(kind, rng.choice(HITS[kind]), rng.random(), rng.random()) for kind in kinds]
    return sorted(losses, key=lambda loss: (STAGES.index(loss.stage), loss.share))


def dealt_kinds(seed: int, rounds: int, each: int) -> list[list[str]]:
    """The kinds of every round's losses, dealt from shuffled decks, so that each kind comes about equally often."""
    rng, cards = random.Random(seed), list[str]()
    while len(cards) < rounds * each:
        deck = list(HITS)
        rng.shuffle(deck)
        cards += deck
    return [cards[place : place + each] for place in range(0, rounds * each, each)]


def failing_judge(seed: int) -> JudgeSettings:
    """A judge without noise whose API fails as `API_FAULTS` says.

    What is unreadable twice is kept as such, which is right and no fault that a run recovers from: seeds by which two
    malformed replies come close together are passed over.
    """
    for offset in count():
        settings = JudgeSettings.load(
            {"seed": 1000 * seed + offset, "noise": 0.0, "latency_seconds": 0.3, "faults": API_FAULTS}
        )
        places = [number for number in range(_REQUESTS) if draw_fault(settings, number) == Fault.MALFORMED]
        if places and all(after - before > _APART for before, after in pairwise(places)):
            return settings
    raise AssertionError("count() has no end")
