"""A judge that likes the first picture better, over HTTP: its bias is found, and ratings rank as without it.

Truth is the noise-free judge. One order, so that nothing but the correction can remove the bias; both judges have the
same noise, which depends on the picture and its place.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.small_runs import small_run
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.figures import level_figures
from vp_ray.annotate.planning import index_images, plan
from vp_ray.annotate.ratings import Levels, collect, rate, slot_effects
from vp_ray.judging.engine import Judge
from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.judging.rubric import Rubric
from vp_ray.maths.intervals import clustered_standard_error
from vp_ray.records import ASPECTS, JUDGEMENTS
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.shapeworld.judgement import score_images

PROMPTS, BIAS = 220, 0.5
SETTINGS = AnnotateSettings.load(
    {
        "annotators": [
            {"name": "judge", "model": "shapeworld-judge", "base_url": "embedded", "requests_per_minute": 0}
        ],
        "orders": 1,
    }
)


class World:
    """Pictures, what they are worth, and what two judges say of them."""

    def __init__(self, folder: Path) -> None:
        images = small_run(folder, PROMPTS).stage("generate") / "images"
        self.index = index_images(images)
        table = images.read_table(".").to_pylist()
        self._pictures = {row["image_id"]: row["image"]["bytes"] for row in table}
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in self._pictures.values()])
        truth = score_images(pixels, [row["prompt"] for row in table])
        self.truth = dict(zip(self._pictures, truth, strict=True))
        self.fair = self._judged(JudgeSettings())
        self.biased = self._judged(JudgeSettings(position_bias=(BIAS,)))

    def _judged(self, judge: JudgeSettings) -> Levels:
        rubric, annotator = Rubric.load("visionprefer"), SETTINGS.annotators[0]
        questions = [item.question(self._pictures) for item in plan(self.index, SETTINGS, rubric)]
        limiter = LocalLimiter(Gate([annotator]))
        with running_judge(judge) as url, Judge(annotator, url, rubric, limiter) as engine:
            rows: list[dict[str, Any]] = engine(questions)
        return collect(pa.Table.from_pylist(rows, schema=JUDGEMENTS))

    def accuracy(self, levels: Levels, removed_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each decided pair of a prompt and aspect whether the ratings put it right, ties one half; its prompt."""
        means: dict[str, dict[str, dict[str, float]]] = {}
        for row in rate(levels, removed_N, self.index).to_pylist():
            means.setdefault(row["prompt_id"], {}).setdefault(row["aspect"], {})[row["image_id"]] = row["mean"]
        right, prompts = [], []
        for prompt_id, by_aspect in means.items():
            for aspect, rated in by_aspect.items():
                names = sorted(rated)
                for place, one in enumerate(names):
                    for other in names[place + 1 :]:
                        column = ASPECTS.index(aspect)
                        true = self.truth[one][column] - self.truth[other][column]
                        if abs(true) > 0.05:
                            right.append((1 + np.sign(true) * np.sign(round(rated[one] - rated[other], 6))) / 2)
                            prompts.append(prompt_id)
        return np.array(right), np.array(prompts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("run"))


def test_a_bias_of_half_a_level_on_the_first_slot_is_estimated_as_half_a_level(world: World) -> None:
    effects, _ = slot_effects(world.biased)
    figures = level_figures(world.biased, effects)
    for aspect in ASPECTS:
        first, error = (figures[name]["judge"][aspect][0] for name in ("slot_bias", "slot_bias_error"))
        assert abs(first - BIAS) < 3 * error
    weight = {aspect: figures["slot_bias_error"]["judge"][aspect][0] ** -2 for aspect in ASPECTS}
    pooled = sum(weight[aspect] * figures["slot_bias"]["judge"][aspect][0] for aspect in ASPECTS) / sum(weight.values())
    assert abs(pooled - BIAS) < 0.1


def test_corrected_ratings_rank_as_well_as_an_unbiased_judges_and_uncorrected_ones_do_not(world: World) -> None:
    _, removed = slot_effects(world.biased)
    fair, prompts = world.accuracy(world.fair, np.zeros_like(world.fair.level_N))
    raw, _ = world.accuracy(world.biased, np.zeros_like(removed))
    corrected, _ = world.accuracy(world.biased, removed)
    lost_raw, lost = raw - fair, corrected - fair
    error_raw, error = (clustered_standard_error(values, prompts) for values in (lost_raw, lost))
    assert error_raw is not None
    assert error is not None
    assert lost_raw.mean() < -2 * error_raw
    assert lost.mean() > -2 * error
