"""The headline says better only where the interval lies above zero, and never hides what speaks against it."""

from __future__ import annotations

from typing import Any

import pytest

from vp_ray.report.sections.headline import headline


def _row(gain: float, low: float | None, high: float | None, **changes: Any) -> dict[str, Any]:
    row = {"scorer": "oracle", "unit": "level", "aspect": "overall", "base": 3.5, "tuned": 3.5 + gain, "gain": gain}
    row |= {"low": low, "high": high, "wins": 5, "ties": 1, "losses": 2, "prompts": 8, "detectable": 0.3}
    return row | changes


@pytest.mark.parametrize(
    ("gain", "low", "high", "verdict"),
    [
        (0.2, 0.1, 0.3, "better"),
        (-0.2, -0.3, -0.1, "worse"),
        (0.2, -0.1, 0.5, "open"),
        (0.2, 0.0, 0.4, "open"),
        (0.0, 0.0, 0.0, "open"),
        (0.2, None, None, "open"),
    ],
)
def test_the_verdict_follows_the_interval_and_not_the_gain(
    gain: float, low: float | None, high: float | None, verdict: str
) -> None:
    assert headline([_row(gain, low, high)], "evaluate").verdict == verdict


def test_the_sentence_holds_the_numbers() -> None:
    found = headline([_row(0.214, 0.15, 0.27)], "evaluate")
    assert "Judged by oracle, the mean overall score went from 3.50 to 3.71: +0.21 levels" in found.sentence
    assert "(95 % interval +0.15 to +0.27) over 8 prompts" in found.sentence
    assert found.caveats == ()


def test_a_judge_comes_before_vp_score_and_vp_score_alone_is_said_to_flatter() -> None:
    own = _row(0.9, 0.8, 1.0, scorer="vp_score", unit="score")
    assert headline([own, _row(-0.2, -0.3, -0.1)], None).verdict == "worse"
    alone = headline([own], None)
    assert alone.verdict == "better"
    assert any("flatters" in caveat for caveat in alone.caveats)


def test_a_gain_that_only_the_reward_sees_is_called_over_optimisation() -> None:
    own = _row(0.9, 0.8, 1.0, scorer="vp_score", unit="score")
    found = headline([own, _row(0.05, -0.1, 0.2)], None)
    assert found.verdict == "open"
    assert any("Over-optimisation is likely: vp_score sees a gain of +0.90" in caveat for caveat in found.caveats)
    assert headline([own, _row(0.2, 0.1, 0.3)], None).caveats == ()
    unsure = _row(0.9, -0.1, 1.9, scorer="vp_score", unit="score")
    assert not any("Over-opt" in caveat for caveat in headline([unsure, _row(0.05, -0.1, 0.2)], None).caveats)


def test_an_aspect_that_was_lost_is_named_although_the_overall_gained() -> None:
    rows = [
        _row(0.2, 0.1, 0.3),
        _row(-0.4, -0.5, -0.3, aspect="prompt_following"),
        _row(-0.1, -0.3, 0.1, aspect="aesthetic"),
    ]
    assert headline(rows, None).caveats == ("It lost in prompt following by −0.40 (−0.50 to −0.30).",)


def test_no_difference_comes_with_the_gain_that_could_have_been_seen() -> None:
    assert headline([_row(0.1, -0.1, 0.3)], None).caveats == (
        "A comparison of this size finds a gain of 0.30 four times in five.",
    )


def test_a_run_that_was_not_evaluated_says_how_far_it_came() -> None:
    assert "'reward'" in headline([], "reward").sentence
    assert headline([], None).sentence == "No stage of it is finished."
    assert headline([], None).row is None
    assert headline([], "reward", "It agrees on 61 %.").sentence.endswith("'reward'. It agrees on 61 %.")
