import pytest
import torch

from vp_ray.errors import NumericsError, SettingsError
from vp_ray.maths.policy_gradient import clipped_loss
from vp_ray.rl.guards import EarlyStop, aspect_weights, check_first_ratios, held_out_weights
from vp_ray.rl.losses.interface import RATIO_DEVIATION, Seen


def statistics_at(log_ratio: float) -> Seen:
    _, ratio = clipped_loss(torch.tensor([0.0, log_ratio]), torch.zeros(2), torch.ones(2), 1.0)
    return {RATIO_DEVIATION: ratio.largest_deviation}


def test_a_first_ratio_beyond_a_millionth_of_1_is_an_error() -> None:
    check_first_ratios([statistics_at(0.0), statistics_at(5e-7)])
    with pytest.raises(NumericsError, match="before the first update a ratio differs from 1 by 2"):
        check_first_ratios([statistics_at(0.0), statistics_at(2e-6)])
    with pytest.raises(NumericsError):
        check_first_ratios([statistics_at(float("nan"))])


def test_training_ends_when_the_held_out_score_falls_while_the_reward_rises() -> None:
    guard = EarlyStop(patience=2, tolerance=0.1)
    assert guard.observe(0, 1.0, None)
    assert guard.observe(1, 2.0, 5.0)
    assert not guard.observe(2, 1.8, 6.0)
    assert not guard.stopped
    guard.observe(3, 1.8, 7.0)
    assert guard.stopped
    assert (guard.best_score, guard.best_epoch) == (2.0, 1)


@pytest.mark.parametrize(("score", "reward"), [(1.95, 9.0), (1.0, 4.0), (2.5, 4.0)])
def test_a_small_fall_a_falling_reward_or_a_new_best_starts_the_count_anew(score: float, reward: float) -> None:
    guard = EarlyStop(patience=2, tolerance=0.1)
    for epoch, (seen, rewarded) in enumerate([(2.0, 5.0), (1.0, 6.0), (score, reward), (1.0, 6.0)]):
        guard.observe(epoch, seen, rewarded)
    assert guard.below == 1
    assert not guard.stopped


def test_a_guard_that_was_saved_goes_on_with_its_count_and_patience_0_never_stops() -> None:
    guard, restored = EarlyStop(patience=2, tolerance=0.0), EarlyStop(patience=2, tolerance=0.0)
    for epoch, score in enumerate([2.0, 1.0]):
        guard.observe(epoch, score, float(epoch))
    restored.restore(guard.state())
    restored.observe(2, 1.0, 2.0)
    assert restored.stopped
    never = EarlyStop(patience=0, tolerance=0.0)
    never.restore(restored.state())
    assert not never.stopped


def test_weights_follow_the_scorers_order_and_an_unknown_aspect_is_named() -> None:
    assert aspect_weights({"b": 2.0}, ("a", "b"), "rl.reward_weights") == [0.0, 2.0]
    with pytest.raises(SettingsError, match=r"rl\.reward_weights: the scorer has no aspect 'c'.*a, b"):
        aspect_weights({"c": 1.0}, ("a", "b"), "rl.reward_weights")


def test_the_held_out_score_is_of_what_the_reward_leaves_out_if_it_leaves_out_anything() -> None:
    assert held_out_weights({}, {"a": 1.0}, ("a", "b", "c")) == {"b": 1.0, "c": 1.0}
    assert held_out_weights({}, {"a": 1.0, "b": 0.5}, ("a", "b")) == {"a": 1.0, "b": 0.5}
    assert held_out_weights({"a": 3.0}, {"a": 1.0}, ("a", "b")) == {"a": 3.0}


def test_images_that_grow_alike_end_the_training_and_their_score_is_never_the_best() -> None:
    guard = EarlyStop(patience=2, tolerance=0.1, diversity_floor=0.5)
    assert guard.observe(0, 1.0, None, 8.0)
    assert guard.observe(1, 2.0, 5.0, 4.0)
    assert not guard.observe(2, 9.0, 6.0, 3.9)
    assert not guard.stopped
    resumed = EarlyStop(patience=2, tolerance=0.1, diversity_floor=0.5)
    resumed.restore(guard.state())
    assert not resumed.observe(3, 9.0, 6.0, 3.0)
    assert resumed.stopped
    assert (resumed.best_score, resumed.best_epoch) == (2.0, 1)


def test_images_that_differ_again_start_the_count_anew() -> None:
    guard = EarlyStop(patience=2, tolerance=0.1, diversity_floor=0.5)
    for epoch, diversity in enumerate([8.0, 3.0, 5.0, 3.0]):
        guard.observe(epoch, 1.0, float(epoch), diversity)
    assert (guard.alike, guard.stopped) == (1, False)
