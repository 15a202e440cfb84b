"""What the shipped generators are worth, by the noise-free judge, on prompts that neither was trained on."""

from collections import defaultdict

import numpy as np
import pytest

from vp_ray.models.config import GeneratorSettings
from vp_ray.models.generators import TextToImage
from vp_ray.models.sampler import ImageRequest
from vp_ray.records import ASPECTS
from vp_ray.shapeworld.judgement import score_images
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import Scene, all_scenes, category_of, prompt_of, split_of


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    by_category: dict[str, list[Scene]] = defaultdict(list)
    for scene in all_scenes():
        if split_of(scene) == "held_out":
            by_category[category_of(scene)].append(scene)
    return [scene for found in by_category.values() for scene in found[:: max(1, len(found) // 16)][:16]]


def levels(name: str, prompts: list[str]) -> dict[str, np.ndarray]:
    model = TextToImage(GeneratorSettings(name=name, source=f"embedded:{name}", steps=10))
    requests = [ImageRequest(prompt, seed, 3.0) for seed, prompt in enumerate(prompts)]
    drawn = [one for first in range(0, len(requests), 16) for one in model.draw(requests[first : first + 16])]
    return dict(zip(ASPECTS, score_images(np.stack([one.pixels for one in drawn]), prompts).T, strict=True))


def test_the_strong_model_reaches_three_quarters_of_perfect_renders_and_the_weak_one_visibly_less(
    scenes: list[Scene],
) -> None:
    prompts, rng = [prompt_of(scene) for scene in scenes], np.random.default_rng(0)
    perfect = score_images(np.stack([render(arrange(scene, rng)) for scene in scenes]), prompts)
    strong, weak = levels("strong", prompts), levels("weak", prompts)

    def share(found: dict[str, np.ndarray], aspects: tuple[str, ...]) -> float:
        """The score above the lowest level, over that of perfect renders."""
        columns = [ASPECTS.index(aspect) for aspect in aspects]
        return float(np.mean([found[aspect] - 1 for aspect in aspects]) / (perfect[:, columns] - 1).mean())

    assert share(strong, ASPECTS) >= 0.75
    assert share(strong, ("prompt_following",)) >= 0.75
    assert share(weak, ASPECTS) < share(strong, ASPECTS) - 0.08
    assert (strong["harmlessness"] < 2).mean() == 0
    assert 0.1 < (weak["harmlessness"] < 2).mean() < 0.5
