"""How many requests may be under way, at servers whose latency is set by hand."""

from __future__ import annotations

from vp_ray.maths.congestion import Congestion


def answers(congestion: Congestion, now: float, latency: float, under_way: int, count: int = 16) -> list[bool]:
    return [congestion.answered(now, latency, under_way) for _ in range(count)]


def test_latency_of_twice_the_least_cuts_a_quarter_once_an_episode() -> None:
    congestion = Congestion()
    answers(congestion, 1.0, 1.0, 1)
    assert sum(answers(congestion, 10.0, 3.0, 16)) == 1
    assert congestion.limit == 12
    # What left before the cut says nothing of what the cut brought.
    assert sum(answers(congestion, 12.0, 3.0, 16)) == 0
    assert sum(answers(congestion, 20.0, 3.0, 16)) == 1
    assert congestion.limit == 9


def test_it_grows_while_four_fifths_are_used_and_not_below() -> None:
    idle, busy = Congestion(), Congestion()
    answers(idle, 1.0, 1.0, 12)
    answers(busy, 1.0, 1.0, 13)
    assert (idle.limit, busy.limit) == (16, 24)


def test_after_a_cut_it_grows_by_one() -> None:
    congestion = Congestion()
    answers(congestion, 1.0, 1.0, 1)
    answers(congestion, 10.0, 3.0, 16)
    answers(congestion, 20.0, 1.0, 12)
    assert congestion.limit == 13


def test_the_users_limit_is_never_passed() -> None:
    congestion = Congestion(most=8)
    for now in range(1, 20):
        answers(congestion, float(now), 1.0, 8)
    assert congestion.limit == 8
