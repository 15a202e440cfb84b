from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from vp_ray.shapeworld.config import FaultSettings, JudgeSettings
from vp_ray.shapeworld.judge_faults import cut_short, draw_fault, draw_latency, malform
from vp_ray.shapeworld.judge_replies import noisy_level

ALL = FaultSettings(
    rate_limited=0.1,
    server_error=0.1,
    reset=0.05,
    timeout=0.05,
    malformed=0.1,
    truncated=0.1,
    refused=0.1,
    content_filtered=0.1,
)


def test_faults_come_at_their_shares_and_the_same_for_the_same_seed() -> None:
    settings = JudgeSettings(seed=3, faults=ALL)
    drawn = [draw_fault(settings, number) for number in range(5000)]
    assert drawn == [draw_fault(settings, number) for number in range(5000)]
    assert drawn != [draw_fault(JudgeSettings(seed=4, faults=ALL), number) for number in range(5000)]
    counts = Counter(fault.value for fault in drawn if fault is not None)
    for name, share in ALL.shares().items():
        assert counts[name] / 5000 == pytest.approx(share, abs=0.02)


def test_without_shares_nothing_goes_wrong_and_with_a_share_of_one_everything_does() -> None:
    assert {draw_fault(JudgeSettings(), number) for number in range(500)} == {None}
    refusing = JudgeSettings(faults=FaultSettings(refused=1))
    assert {draw_fault(refusing, number) for number in range(500)} == {"refused"}


def test_latency_is_log_normal_about_its_median() -> None:
    settings = JudgeSettings(latency_seconds=2.0, latency_spread=0.5)
    logs = np.log([draw_latency(settings, number) for number in range(4000)])
    assert np.median(logs) == pytest.approx(np.log(2), abs=0.05)
    assert logs.std() == pytest.approx(0.5, abs=0.03)
    assert draw_latency(JudgeSettings(latency_seconds=2.0), 7) == 2.0


def test_broken_replies_are_not_json() -> None:
    for text in (malform('{"a": "b"}'), cut_short('{"a": "b"}')):
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(text)


def test_noise_has_its_standard_deviation_and_a_mean_of_zero() -> None:
    settings = JudgeSettings(noise=0.7)
    levels = np.array([noisy_level(settings, 0.5, 0, "prompt", number) for number in range(4000)])
    assert levels.mean() == pytest.approx(3, abs=0.05)
    assert levels.std() == pytest.approx(np.sqrt(0.7**2 + 1 / 12), abs=0.03)


def test_a_bias_by_place_moves_only_that_place() -> None:
    settings = JudgeSettings(noise=0.0, position_bias=(1.0, 0.0, -1.0))
    assert [noisy_level(settings, 0.5, slot, "prompt") for slot in range(4)] == [4, 3, 2, 3]
    assert noisy_level(settings, 1.0, 0, "prompt") == 5
