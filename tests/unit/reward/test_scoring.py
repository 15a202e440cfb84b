"""Requests share one pass and fail alone; a score that is no number becomes its error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_models
from vp_ray.errors import InputError, VpRayError
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels, Scores
from vp_ray.reward.failures import Kind, kind_of
from vp_ray.reward.scoring import Part, fitted, rows_of, score_parts

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip)).eval()


def pictures(count: int, side: int = 32) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


class Picky:
    """A scorer that takes no prompt 'bad', and finds no number for 'odd'."""

    aspects = ("length", "brightness")

    def __init__(self) -> None:
        self.passes: list[int] = []

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        self.passes.append(len(prompts))
        if "bad" in prompts:
            raise ValueError("bad word")
        lengths = [np.nan if prompt == "odd" else len(prompt) for prompt in prompts]
        return np.column_stack([lengths, images.mean(axis=(1, 2, 3))]).astype(np.float32)


def test_requests_of_several_image_sizes_share_a_pass_and_keep_their_order(model: VPScore) -> None:
    small, large = pictures(3), pictures(2, 64)
    ready = [fitted(model, image) for image in [*small, *large]]
    answers = score_parts(model, [Part(ready[:2], ["a", "b"]), Part(ready[2:], ["c", "a", "b"])])
    np.testing.assert_allclose(np.concatenate(answers)[:3], model.score(small, ["a", "b", "c"]), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(answers)[3:], model.score(large, ["a", "b"]), atol=1e-5)


def test_sizes_that_a_scorer_does_not_fit_are_scored_size_by_size() -> None:
    scorer = Picky()
    images = [*pictures(2), *pictures(1, 16), *pictures(1)]
    prompts = ["a", "bb", "ccc", "dddd"]
    (scores,) = score_parts(scorer, [Part(images, prompts)])
    assert scorer.passes == [3, 1]
    np.testing.assert_allclose(scores, [(len(p), i.mean()) for p, i in zip(prompts, images, strict=True)], rtol=1e-5)


def test_a_request_that_makes_the_model_fail_fails_alone() -> None:
    images = [*pictures(4)]
    parts = [Part(images[:1], ["a"]), Part(images[1:3], ["b", "bad"]), Part(images[3:], ["c"])]
    first, second, third = score_parts(Picky(), parts)
    assert isinstance(second, VpRayError)
    assert kind_of(second) is Kind.FAILED
    assert "bad word" in str(second)
    assert [first[0, 0], third[0, 0]] == [1, 1]  # type: ignore[index]


def test_a_row_that_is_not_finite_is_an_error_and_its_neighbours_are_numbers() -> None:
    scorer = Picky()
    scores = scorer.score(pictures(3), ["a", "odd", "ccc"])
    answer = rows_of(scorer, scores)
    assert answer.columns == ("length", "brightness")
    assert answer.rows[0] == tuple(float(value) for value in scores[0])
    assert answer.rows[2] == tuple(float(value) for value in scores[2])
    assert isinstance(answer.rows[1], VpRayError)
    assert kind_of(answer.rows[1]) is Kind.NOT_FINITE
    assert "length" in str(answer.rows[1])


def test_rows_end_with_the_overall_score(model: VPScore) -> None:
    scores = model.score(pictures(2), ["a", "b"])
    answer = rows_of(model, scores)
    assert answer.columns == (*model.aspects, "overall")
    np.testing.assert_allclose([row[-1] for row in answer.rows], model.overall(scores))  # type: ignore[index]


def test_errors_of_the_input_are_of_their_own_kind() -> None:
    assert kind_of(InputError("wrong")) is Kind.INVALID_REQUEST


def test_a_pass_reads_each_prompt_once_where_the_network_allows(tmp_path: Path) -> None:
    scorer = VPScore.from_backbone(str(tiny_models.clip_model(tmp_path))).eval()
    read: list[int] = []
    scorer.backbone.text.register_forward_pre_hook(
        lambda _, __, given: read.append(len(given["input_ids"])), with_kwargs=True
    )
    images, prompts = pictures(6), ["a red circle", "two squares", "a red circle"] * 2
    (together,) = score_parts(scorer, [Part(list(images), prompts)])
    assert read == [2]
    alone = [scorer.score(images[place : place + 1], [prompt])[0] for place, prompt in enumerate(prompts)]
    np.testing.assert_allclose(together, alone, atol=1e-5)  # type: ignore[arg-type]
