"""Questions about rendered scenes, and judges that answer them over HTTP on loopback."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from tests.small_runs import png
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.engine import Judge
from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.judging.orders import orders, permuted
from vp_ray.judging.requests import Question, judgement_id
from vp_ray.judging.rubric import Rubric
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, prompt_of
from vp_ray.storage import Folder


def annotator(**changes: Any) -> AnnotatorSettings:
    """The embedded judge, unlimited and quick to give up."""
    values = {"name": "judge", "model": "shapeworld-oracle", "base_url": "embedded", "requests_per_minute": 0}
    return AnnotatorSettings(**{**values, "timeout_seconds": 20.0, **changes})


def make_questions(groups: int, settings: AnnotatorSettings, rubric: Rubric, count: int = 2) -> list[Question]:
    """Groups of four renders of a scene, each in `count` orders."""
    scenes = list(all_scenes())[5::97][:groups]
    questions = []
    for number, scene in enumerate(scenes):
        prompt_id, rng = f"prompt{number}", np.random.default_rng(number)
        images = {f"image{number}-{place}": png(render(arrange(scene, rng, 0.3))) for place in range(4)}
        for order in orders(permuted(prompt_id, list(images)), count):  # type: ignore[arg-type]
            name = judgement_id(settings, rubric, prompt_id, order)
            shown = tuple(images[image_id] for image_id in order)
            questions.append(Question(name, prompt_id, prompt_of(scene), order, shown))
    return questions


@pytest.fixture(scope="session")
def rubric() -> Rubric:
    return Rubric.load("visionprefer")


JudgeAt = Callable[..., str]
"""Starts an embedded judge with these settings, or finds the one that has them, and gives its address."""


@pytest.fixture(scope="module")
def judge_at() -> Iterator[JudgeAt]:
    with ExitStack() as stack:
        running: dict[str, str] = {}

        def start(**settings: Any) -> str:
            key = json.dumps(settings, sort_keys=True)
            if key not in running:
                running[key] = stack.enter_context(running_judge(JudgeSettings.load(settings)))
            return running[key]

        yield start


def stats(url: str) -> dict[str, Any]:
    """What a judge says it was asked and answered."""
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
        return json.loads(reply.read())


@contextmanager
def open_judge(
    settings: AnnotatorSettings, url: str, rubric: Rubric, ledger: Folder | None = None, budget_usd: float | None = None
) -> Iterator[tuple[Judge, Gate]]:
    """A judge with a gate of its own in this process."""
    gate = Gate([settings], budget_usd)
    with Judge(settings, url, rubric, LocalLimiter(gate), ledger) as judge:
        yield judge, gate
