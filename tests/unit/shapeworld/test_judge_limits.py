from __future__ import annotations

import math

import numpy as np
import pytest

from vp_ray.errors import SettingsError
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_limits import Gcra, RateLimits, SlidingWindow, duration


def arrivals(limit: SlidingWindow | Gcra, amounts: list[int], start: float = 0.0) -> list[float]:
    """When each amount is let in by one who asks again exactly after the wait that was named."""
    now, times = start, []
    for amount in amounts:
        now += limit.wait_seconds(amount, now)
        assert limit.wait_seconds(amount, now) == pytest.approx(0, abs=1e-6)
        now += limit.wait_seconds(amount, now)
        limit.take(amount, now)
        times.append(now)
    return times


def test_a_window_of_a_minute_lets_three_of_three_in_at_once_and_the_fourth_a_minute_after_the_first() -> None:
    assert arrivals(SlidingWindow(3, 60), [1, 1, 1, 1]) == [0, 0, 0, 60]


def test_a_bucket_of_a_minute_lets_the_fourth_of_three_in_after_a_third_of_it() -> None:
    assert arrivals(Gcra(3, 60), [1, 1, 1, 1]) == pytest.approx([0, 0, 0, 20])


def test_no_sliding_window_holds_more_than_the_limit_and_the_limit_is_used_up() -> None:
    amounts = np.random.default_rng(0).integers(1, 40, 400).tolist()
    times = np.array(arrivals(SlidingWindow(6000, 1), amounts))
    sums = [sum(a for t, a in zip(times, amounts, strict=True) if end - 1 < t <= end) for end in times]
    assert max(sums) <= 100
    assert sum(amounts) / (times[-1] + 1) > 0.8 * 100


def test_a_bucket_never_gives_more_than_its_burst_plus_its_rate_over_any_time() -> None:
    amounts = np.random.default_rng(1).integers(1, 40, 200).tolist()
    times = arrivals(Gcra(6000, 1), amounts)
    for first in range(len(times)):
        for last in range(first, len(times), 7):
            assert sum(amounts[first : last + 1]) <= 100 + 100 * (times[last] - times[first]) + 1e-6
    assert sum(amounts) / times[-1] == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("limiter", [SlidingWindow, Gcra])
@pytest.mark.parametrize(("per_minute", "burst"), [(30, 1.0), (90, 1.0), (7, 0.5), (3000, 0.1)])
def test_the_long_run_rate_is_the_limit_whatever_the_burst(
    limiter: type[SlidingWindow | Gcra], per_minute: int, burst: float
) -> None:
    times = arrivals(limiter(per_minute, burst), [1] * 200)
    assert 199 / times[-1] * 60 == pytest.approx(per_minute, rel=0.03)


@pytest.mark.parametrize("limiter", [SlidingWindow, Gcra])
def test_what_remains_and_when_all_is_free_again_is_told(limiter: type[SlidingWindow | Gcra]) -> None:
    limit = limiter(60, 60)
    assert (limit.remaining(5), limit.reset_seconds(5)) == (60, 0)
    limit.take(15, 5)
    assert limit.remaining(5) == 45
    assert limit.reset_seconds(5) == {SlidingWindow: 60, Gcra: 15}[limiter]
    assert limit.wait_seconds(61, 5) == math.inf


def test_a_request_takes_of_both_limits_or_of_neither() -> None:
    limits = RateLimits(JudgeSettings(requests_per_minute=10, tokens_per_minute=100))
    assert limits.admit(80, 0).blocked_by is None
    turned_away = limits.admit(30, 0)
    assert turned_away.blocked_by == "tokens"
    assert turned_away.headers["x-ratelimit-remaining-requests"] == "9"
    assert turned_away.headers["retry-after"] == "60"
    assert limits.admit(20, 0).headers["x-ratelimit-remaining-tokens"] == "0"


def test_without_limits_there_are_no_headers() -> None:
    assert RateLimits(JudgeSettings()).admit(10**9, 0).headers == {}


def test_a_request_larger_than_the_limit_is_given_no_time_to_come_back() -> None:
    admission = RateLimits(JudgeSettings(tokens_per_minute=100)).admit(101, 0)
    assert admission.blocked_by == "tokens"
    assert "retry-after" not in admission.headers


def test_times_in_headers_are_written_as_providers_do() -> None:
    assert [duration(s) for s in (0, 0.12, 1, 1.5, 59.9995, 360)] == ["0ms", "120ms", "1s", "1.5s", "1m0s", "6m0s"]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingsError, match="more than 1"):
        JudgeSettings.load({"faults": {"reset": 0.6, "timeout": 0.6}})
    with pytest.raises(SettingsError, match="did you mean 'noise'"):
        JudgeSettings.load({"nois": 1})
    with pytest.raises(SettingsError, match="no effect"):
        JudgeSettings.load({"latency_spread": 1.0})
