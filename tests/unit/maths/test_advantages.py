import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp_ray.maths.advantages import PromptStatistics, group_advantages, zero_variance_share

rewards_of_one_prompt = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def test_two_groups_by_hand() -> None:
    result = group_advantages([1.0, 10.0, 3.0, 40.0, 10.0], ["a", "b", "a", "b", "b"], clip=5)
    assert result == pytest.approx([-1, -0.7071, 1, 1.4142, -0.7071], abs=1e-4)


def test_on_the_epochs_scale_a_group_of_small_differences_gives_small_advantages() -> None:
    result = group_advantages([1.0, 3.0, 0.0, 0.2], ["a", "a", "b", "b"], scale="epoch")
    std = np.sqrt((1 + 1 + 0.01 + 0.01) / 4)
    assert result == pytest.approx(np.array([-1, 1, -0.1, 0.1]) / std, abs=1e-5)


@given(rewards_of_one_prompt, rewards_of_one_prompt)
def test_every_prompt_has_mean_0(first: list[float], second: list[float]) -> None:
    prompts = ["a"] * len(first) + ["b"] * len(second)
    result = group_advantages(first + second, prompts, clip=1e9)
    assert result[: len(first)].mean() == pytest.approx(0, abs=1e-6)
    assert result[len(first) :].mean() == pytest.approx(0, abs=1e-6)


@given(st.floats(-1e6, 1e6), st.integers(2, 9))
def test_equal_rewards_give_exactly_0(reward: float, count: int) -> None:
    assert not group_advantages([reward] * count, ["a"] * count).any()
    assert zero_variance_share([reward] * count, ["a"] * count) == 1.0


def test_whole_numbers_are_not_cut_to_whole_advantages() -> None:
    assert group_advantages(np.array([1, 2, 2]), ["a"] * 3) == pytest.approx([-1.41421, 0.70711, 0.70711], abs=1e-4)


def test_an_outlier_is_clipped_at_5() -> None:
    assert group_advantages([0.0] * 99 + [1.0], ["a"] * 100, clip=5)[-1] == 5.0


def test_one_of_three_prompts_without_variance_is_a_third() -> None:
    assert zero_variance_share([1, 1, 1, 2, 0, 5], ["a", "a", "b", "b", "c", "c"]) == pytest.approx(1 / 3)


def test_the_buffer_holds_the_last_rewards_of_each_prompt_alone() -> None:
    statistics = PromptStatistics(window=4, minimum=2)
    statistics.advantages([0.0, 0.0, 9.0, 9.0], ["a", "a", "b", "b"])
    statistics.advantages([2.0, 2.0], ["a", "a"])
    assert statistics.state() == {"a": [0.0, 0.0, 2.0, 2.0], "b": [9.0, 9.0]}
    assert statistics.advantages([4.0, 4.0], ["a", "a"]) == pytest.approx([1.0, 1.0], abs=1e-5)
    assert statistics.state()["a"] == [2.0, 2.0, 4.0, 4.0]


def test_a_prompt_with_few_rewards_is_compared_with_the_whole_epoch() -> None:
    result = PromptStatistics(window=8, minimum=2).advantages([0.0, 4.0], ["a", "b"])
    assert result == pytest.approx([-1.0, 1.0], abs=1e-5)


def test_statistics_that_were_saved_as_json_go_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(0)
    prompts = ["a", "b", "a", "b"] * 4
    epochs = [rng.normal(size=16) for _ in range(4)]
    undisturbed, first = (PromptStatistics(window=12, minimum=8) for _ in range(2))
    expected = [undisturbed.advantages(epoch, prompts) for epoch in epochs]
    for epoch in epochs[:2]:
        first.advantages(epoch, prompts)
    second = PromptStatistics(window=12, minimum=8, state=json.loads(json.dumps(first.state())))
    for epoch, wanted in zip(epochs[2:], expected[2:], strict=True):
        assert np.array_equal(second.advantages(epoch, prompts), wanted)
