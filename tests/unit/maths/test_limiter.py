"""Departures under a simulated clock: the limit in every window, even spacing, full use, one cut an episode."""

from __future__ import annotations

import numpy as np
import pytest

from vp_ray.maths.limiter import RateLimit, Throttle, cut_share
from vp_ray.maths.pacing import DAY, Pacer
from vp_ray.shapeworld.judge_limits import Gcra, SlidingWindow

MINUTE = 60.0


def started(requests: float, tokens: float, **more: float) -> RateLimit:
    """A limit whose slow start is over."""
    limit = RateLimit(requests, tokens, **more)
    limit.answered()
    return limit


def departures(limit: RateLimit, asked_at: list[float], tokens: list[int]) -> list[float]:
    return [limit.reserve(now, amount) for now, amount in zip(asked_at, tokens, strict=True)]


def most_in_a_window(times: list[float], amounts: list[float], seconds: float) -> float:
    """The largest sum in any half-open window, which begins at one of the times."""
    array, sums = np.array(times), np.concatenate([[0.0], np.cumsum(amounts)])
    ends = np.searchsorted(array, array + seconds, side="left")
    return float((sums[ends] - sums[np.arange(len(array))]).max())


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_holds_more_requests_or_tokens_than_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(50, 4000, 600).tolist()
    asked = np.cumsum(rng.exponential(rng.choice([0.01, 0.5]), 600)).tolist()
    times = departures(started(120, 100_000), asked, tokens)
    assert times == sorted(times)
    assert most_in_a_window(times, [1.0] * 600, MINUTE) <= 120
    assert most_in_a_window(times, tokens, MINUTE) <= 100_000


def test_departures_keep_the_spacing_of_the_generic_cell_rate_algorithm() -> None:
    times = departures(started(600, 0), [0.0] * 50 + [20.0] * 50, [0] * 100)
    assert min(np.diff(times)) >= MINUTE / 600


def test_a_busy_client_uses_at_least_99_5_percent_of_either_limit() -> None:
    by_requests = departures(started(600, 0), [0.0] * 6000, [0] * 6000)
    assert 6000 / (by_requests[-1] / MINUTE) >= 0.995 * 600
    by_tokens = departures(started(0, 450_000), [0.0] * 2000, [1200] * 2000)
    assert 2000 * 1200 / (by_tokens[-1] / MINUTE) >= 0.995 * 450_000


def test_an_idle_minute_saves_nothing_up() -> None:
    limit = started(60, 0)
    departures(limit, [0.0], [0])
    assert np.diff(departures(limit, [600.0] * 3, [0] * 3)).min() >= 1.0


@pytest.mark.parametrize(("waited", "least", "most"), [(10.0, 0.99, 1.0), (0.0, 0.8, 0.95)])
def test_who_was_ready_and_asks_a_little_late_keeps_its_place_and_who_was_not_does_not(
    waited: float, least: float, most: float
) -> None:
    rng, limit, times = np.random.default_rng(0), started(300, 0), [0.0]
    for _ in range(3000):
        times.append(limit.reserve(times[-1] + rng.uniform(0.0, 0.3), 0, waited_seconds=waited))
    assert least <= 3000 / (times[-1] / MINUTE) / 300 <= most
    assert most_in_a_window(times[1:], [1.0] * 3000, MINUTE) <= 300


def test_who_asks_half_a_minute_late_has_the_places_of_the_last_moments_alone() -> None:
    limit = started(600, 0)
    limit.reserve(0.0, 0)
    times = [limit.reserve(30.0, 0, waited_seconds=30.0) for _ in range(10)]
    assert times[:5] == pytest.approx([30.0, 30.0, 30.0, 30.0, 30.0016])
    assert np.diff(times[4:]) == pytest.approx([60.24 / 600] * 5)


def test_a_request_above_the_token_limit_leaves_alone() -> None:
    times = departures(started(0, 1000), [0.0, 0.0, 0.0], [900, 5000, 900])
    assert times[1] >= MINUTE
    assert times[2] >= times[1] + 5 * MINUTE


def test_without_limits_everything_leaves_at_once_but_still_waits_as_long_as_a_server_asks() -> None:
    limit = started(0, 0)
    assert departures(limit, [0.0, 0.0], [10**9, 10**9]) == [0.0, 0.0]
    limit.refused(now=1.0, sent_at=0.5, retry_after_seconds=7.0)
    assert limit.reserve(2.0, 1) == 8.0


@pytest.mark.parametrize("server", [SlidingWindow, Gcra])
def test_servers_of_both_kinds_refuse_nothing_that_comes_up_to_a_fifth_of_a_second_late(
    server: type[SlidingWindow] | type[Gcra],
) -> None:
    rng = np.random.default_rng(0)
    limit, keeper = started(300, 0), server(300, 60.0)
    arrivals = np.sort(np.array(departures(limit, [0.0] * 3000, [0] * 3000)) + rng.uniform(0, 0.2, 3000))
    refused = 0
    for now in arrivals:
        refused += keeper.wait_seconds(1, now) > 0
        keeper.take(1, now)
    assert refused == 0


def test_stated_limits_are_followed_down_and_up_but_never_above_what_the_user_allows() -> None:
    limit = RateLimit(600, 0)
    limit.learn(60, 3000)
    assert (limit.requests.limit, limit.tokens.limit) == (60, 3000)
    limit.learn(300, None)
    assert (limit.requests.limit, limit.tokens.limit) == (300, 3000)
    limit.learn(10_000, None)
    assert limit.requests.limit == 600


def cut_at(throttle: Throttle, now: float, sent_at: float, retry_after: float = 0.0) -> bool:
    opened = throttle.opens_episode(now, sent_at)
    if opened:
        throttle.cut(cut_share(retry_after))
    return opened


def test_one_episode_of_refusals_cuts_the_pace_once() -> None:
    throttle = Throttle()
    assert cut_at(throttle, now=10.0, sent_at=9.0)
    assert not cut_at(throttle, now=10.5, sent_at=9.5)
    assert throttle.pace(10.0) == 0.75
    assert throttle.episodes == 1
    assert cut_at(throttle, now=12.0, sent_at=11.0)
    assert throttle.episodes == 2


def test_a_cut_pace_is_whole_again_after_a_minute_and_half_way_after_half_of_it() -> None:
    throttle = Throttle()
    cut_at(throttle, now=0.0, sent_at=-1.0)
    assert throttle.pace(30.0) == pytest.approx(0.875)
    assert throttle.pace(60.0) == 1.0


@pytest.mark.parametrize(("retry_after", "share"), [(0.02, 0.005), (4.0, 0.1), (10.0, 0.25), (60.0, 0.25), (0.0, 0.25)])
def test_a_server_that_asks_for_milliseconds_costs_half_a_percent_and_one_that_asks_for_ten_seconds_a_quarter(
    retry_after: float, share: float
) -> None:
    assert cut_share(retry_after) == pytest.approx(share)


def test_half_the_pace_doubles_the_spacing() -> None:
    pacer = Pacer(60, window_seconds=60.0)
    pacer.commit(0.0, 1, pace=0.5)
    assert pacer.earliest(0.0, 1) == 2.0


def test_before_the_first_answer_the_pace_grows_from_a_quarter_to_a_half() -> None:
    limit = RateLimit(600, 0)
    gaps = np.diff([limit.reserve(now, 0) for now in [0.0] * 3])
    assert gaps[0] == pytest.approx(0.4, rel=0.01)
    later = RateLimit(600, 0)
    later.reserve(0.0, 0)
    gaps = np.diff([later.reserve(5.0, 0) for _ in range(5)])
    assert gaps == pytest.approx([0.2] * 4, rel=0.01)
    later.answered()
    later.reserve(10.0, 0)
    assert later.reserve(10.0, 0) == pytest.approx(10.1, rel=0.01)


def test_a_first_guess_is_raised_by_what_the_server_states_and_a_cap_is_not() -> None:
    guess, cap = RateLimit(60, 0, learns=True), RateLimit(60, 0)
    for limit in (guess, cap):
        limit.learn(6000, None)
    assert (guess.requests.limit, cap.requests.limit) == (6000, 60)


def test_a_limit_that_nobody_states_grows_only_while_it_is_well_used_and_shrinks_when_it_refuses() -> None:
    idle, busy = RateLimit(60, 0, learns=True), RateLimit(60, 0, learns=True)
    for limit, step in ((idle, 2.0), (busy, 1.0)):
        limit.answered()
        for now in np.arange(0.0, 40.0, step):
            limit.reserve(now, 0)
    assert idle.requests.limit == 60
    assert busy.requests.limit == pytest.approx(60 * 1.25**2)
    assert busy.refused(now=41.0, sent_at=40.5, retry_after_seconds=0.0)
    assert busy.requests.limit == pytest.approx(60 * 1.25**2 * 0.75)
    assert busy.throttle.pace(41.0) == 1.0


def test_where_neither_user_nor_server_tell_a_limit_the_first_refusal_does() -> None:
    limit = RateLimit(0, 0, learns=True)
    limit.answered()
    for now in np.arange(0.0, 6.0, 0.1):
        limit.reserve(now, 0)
    limit.refused(now=6.0, sent_at=5.9, retry_after_seconds=0.0)
    assert limit.requests.limit == pytest.approx(600 * 0.75, rel=0.02)


def test_a_day_holds_no_more_than_its_limits() -> None:
    rng = np.random.default_rng(1)
    limit = started(0, 0, requests_per_day=100, tokens_per_day=9000)
    asked = np.sort(rng.uniform(0, 2 * DAY, 400)).tolist()
    tokens = rng.integers(50, 200, 400).tolist()
    times = departures(limit, asked, tokens)
    assert most_in_a_window(times, [1.0] * 400, DAY) <= 100
    assert most_in_a_window(times, tokens, DAY) <= 9000
    assert times[0] == asked[0]


def test_what_a_server_turned_away_is_sent_again_without_a_loss_until_a_refusal_by_rate() -> None:
    limit = started(600, 0)
    assert [limit.reserve(0.0, 0) for _ in range(2)] == pytest.approx([0.0, 0.1], rel=0.01)
    limit.turned_away(0.0, 0)
    assert limit.reserve(0.0, 0) == pytest.approx(0.1, rel=0.01)
    limit.refused(now=0.2, sent_at=0.1, retry_after_seconds=0.0)
    before = limit.requests.earliest(0.2, 1)
    limit.turned_away(0.2, 0)
    assert limit.requests.earliest(0.2, 1) == before
