"""A policy small enough to train in a second, and a scorer whose reward it can learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Pixels, Scores
from vp_ray.rl.config import RlSettings

PROMPTS = [f"{count} {colour} circles" for count in ("two", "three") for colour in ("red", "green", "blue", "yellow")]
HELD_OUT = ["a cyan circle", "an orange square", "a cyan square"]


class Brightness:
    """Scores an image by its mean brightness and by its contrast, both in 0..255."""

    aspects = ("brightness", "contrast")

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        values = images.reshape(len(prompts), -1).astype(np.float64)
        return np.stack([values.mean(axis=1), values.std(axis=1)], axis=1).astype(np.float32)


class Rewards:
    """A reward source in this process that keeps a record, and may be told what becomes of each result."""

    def __init__(self, on_result: Callable[[int, Scores], Scores] = lambda _, scores: scores) -> None:
        self.scorer, self.on_result = Brightness(), on_result
        self.events: list[str] = []
        self.requests = 0
        self.aspects = self.scorer.aspects

    def request(self, images: Pixels, prompts: Sequence[str]) -> Any:
        number, self.requests = self.requests, self.requests + 1
        self.events.append(f"request {number}")
        return Pending(self, number, self.scorer.score(images, prompts))


class Pending:
    def __init__(self, rewards: Rewards, number: int, scores: Scores) -> None:
        self.rewards, self.number, self.scores = rewards, number, scores

    def result(self, timeout_seconds: float) -> Scores:
        self.rewards.events.append(f"result {self.number}")
        return self.rewards.on_result(self.number, self.scores)


def settings_of(generator: Path, **changes: Any) -> RlSettings:
    """Two prompts of four images an epoch in batches of four, three steps, one update a batch."""
    small = {
        "generator": str(generator),
        "lora": {"rank": 2, "alpha": 2},
        "reward_weights": {"brightness": 1.0},
        "epochs": 4,
        "prompts_per_epoch": 2,
        "samples_per_prompt": 4,
        "batch_size": 4,
        "updates_per_epoch": 2,
        "steps": 3,
        "held_out_prompts": 3,
        "evaluate_every": 2,
        "checkpoint_every": 2,
        "early_stop_patience": 0,
    }
    return RlSettings.load({**small, **changes})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics without their timings."""
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows_of(folder)]


@pytest.fixture
def policy(tiny_pipeline: Path) -> DiffusionPolicy:
    settings = settings_of(tiny_pipeline)
    return DiffusionPolicy.from_pretrained(settings.generator, settings.lora)
