"""Tokens of images by model, and the alarm when bills part from them."""

from __future__ import annotations

import logging

import pytest

from tests.unit.judging.conftest import annotator, make_questions
from vp_ray.judging.image_tokens import TokenEstimate, image_tokens
from vp_ray.judging.requests import message
from vp_ray.judging.rubric import Rubric


@pytest.mark.parametrize(
    ("model", "at_512", "at_1024"),
    [
        ("gpt-4o", 255, 765),
        ("gpt-4o-mini", 8500, 25501),
        ("gpt-4.1", 255, 765),
        ("gpt-4.1-mini", 415, 1659),
        ("gpt-4.1-nano-2025-04-14", 630, 2520),
        ("o3", 225, 675),
        ("gpt-5", 210, 630),
        ("gpt-5.1", 210, 630),
        ("gpt-5-mini-2025-08-07", 308, 1229),
        ("gpt-5-nano", 384, 1536),
        ("o4-mini", 441, 1762),
        ("gpt-5.2", 308, 1229),
        ("gpt-5.4", 308, 1229),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 18 * 18 + 2, 37 * 37 + 2),
        ("Qwen/Qwen3-VL-32B-Instruct", 16 * 16 + 2, 32 * 32 + 2),
    ],
)
def test_tokens_of_an_image_by_model(model: str, at_512: int, at_1024: int) -> None:
    assert (image_tokens(model, 512, 512), image_tokens(model, 1024, 1024)) == (at_512, at_1024)


def test_settings_override_the_table(rubric: Rubric) -> None:
    (question, _) = make_questions(1, annotator(), rubric)
    tokens = [message(question, rubric, annotator(image_tokens=count)).tokens for count in (0, 1000)]
    assert tokens[1] - tokens[0] == 4000


def test_bills_that_part_by_more_than_a_fifth_raise_one_alarm(caplog: pytest.LogCaptureFixture) -> None:
    near, far = TokenEstimate("near"), TokenEstimate("far")
    with caplog.at_level(logging.WARNING):
        assert not any(near.settle(1000, 1190) for _ in range(50))
        assert sum(far.settle(1000, 1210) for _ in range(50)) == 1
    assert near.ratio == pytest.approx(1.19)
    assert "'far' bills 1.21 times" in caplog.text


def test_the_first_answer_settles_the_estimate_and_one_without_a_count_changes_nothing() -> None:
    estimate = TokenEstimate("judge")
    estimate.settle(1000, 900)
    estimate.settle(1000, None)
    assert estimate.ratio == pytest.approx(0.9)
