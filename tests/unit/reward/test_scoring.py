"""Requests share one pass and fail alone; HTTP bodies become requests or typed errors."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vp_ray.errors import InputError
from vp_ray.models.reward import VPScore
from vp_ray.reward.scoring import as_json, read_items, score_requests

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip)).eval()


def pictures(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> str:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, kind)
    return base64.b64encode(sink.getvalue()).decode()


def test_a_bad_request_fails_alone(model: VPScore) -> None:
    first, second = pictures(3), pictures(2)
    answers = score_requests(
        model,
        [(first, ["a"] * 3), (first.astype(np.float32), ["a"] * 3), (second, ["b"] * 2), (second, ["b"])],  # type: ignore[list-item]
    )
    np.testing.assert_allclose(answers[0], model.score(first, ["a"] * 3), atol=1e-5)
    np.testing.assert_allclose(answers[2], model.score(second, ["b"] * 2), atol=1e-5)
    assert isinstance(answers[1], InputError)
    assert isinstance(answers[3], InputError)
    assert "1 prompts do not fit 2 images" in str(answers[3])


def test_requests_of_several_image_sizes_share_a_pass(model: VPScore) -> None:
    large = np.repeat(np.repeat(pictures(1), 2, axis=1), 2, axis=2)
    answers = score_requests(model, [(pictures(1), ["a"]), (large, ["a"])])
    np.testing.assert_allclose(answers[1], model.score(large, ["a"]), atol=1e-5)


def test_only_bad_requests_need_no_pass(model: VPScore) -> None:
    (answer,) = score_requests(model, [(pictures(1)[0], ["a"])])
    assert isinstance(answer, InputError)


def test_items_are_read_or_become_their_error(model: VPScore) -> None:
    image = pictures(1)[0]
    good = {"image": encoded(image), "prompt": "a red circle"}
    items = read_items(
        {"items": [good, {**good, "image": "%%%"}, {**good, "image": encoded(image)[:40]}, {"prompt": "a"}]}
    )
    assert isinstance(items[0], tuple)
    np.testing.assert_array_equal(items[0][0][0], image)
    assert [isinstance(item, InputError) for item in items[1:]] == [True, True, True]
    answer = as_json(model, model.score(image[None], ["a red circle"]))
    assert set(answer["scores"]) == set(model.aspects)
    assert answer["overall"] == pytest.approx(np.mean(list(answer["scores"].values())), abs=1e-5)
    assert as_json(model, items[3])["error"]["type"] == "InputError"  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [None, [], {}, {"items": []}, {"items": "a"}, {"items": [{}] * 1025}])
def test_a_body_without_items_is_refused(body: object) -> None:
    with pytest.raises(InputError, match="items"):
        read_items(body)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = encoded(np.zeros((4001, 4000, 3), np.uint8))
    (item,) = read_items({"items": [{"image": bomb, "prompt": "a"}]})
    assert isinstance(item, InputError)
    assert "4000 x 4001" in str(item)
