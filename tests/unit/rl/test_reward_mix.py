from typing import Any

import numpy as np
import pytest

from vp_ray.errors import SettingsError
from vp_ray.maths.advantages import group_advantages
from vp_ray.rl.config import RlSettings
from vp_ray.rl.reward_mix import RewardMix

from .conftest import settings_of as any_settings_of

ASPECTS = ("brightness", "contrast", "pick.overall")
OWNERS = ["a", "a", "b", "b"]
SCORES = np.array([[1, 10, 0], [3, 0, 0], [2, 5, 0], [2, 9, 0]], np.float32)


def settings_of(**changes: Any) -> RlSettings:
    return any_settings_of("nowhere", **changes)


def test_aspects_of_several_scorers_are_summed_and_the_sum_is_normalised() -> None:
    settings = settings_of(reward_weights={"brightness": 1.0, "contrast": 0.5, "pick.overall": 2.0})
    mixed = RewardMix(settings, ASPECTS).mix(SCORES, OWNERS)
    assert mixed.reward.tolist() == [6.0, 3.0, 4.5, 6.5]
    np.testing.assert_allclose(mixed.advantages, [1, -1, -1, 1], atol=1e-5)
    assert mixed.figures == {"zero_variance_share": 0.0}


def test_mixed_by_advantage_the_scale_of_an_aspect_does_not_count() -> None:
    weights = {"brightness": 3.0, "contrast": -1.0}
    settings = settings_of(reward_weights=weights, advantage_mixing="advantage")
    mixed = RewardMix(settings, ASPECTS).mix(SCORES, OWNERS)
    # prompt a: (3 x -1 - 1 x 1) / 4 and its opposite; prompt b: brightness says nothing, contrast -1 and 1
    np.testing.assert_allclose(mixed.advantages, [-1, 1, 0.25, -0.25], atol=1e-5)
    larger = SCORES * np.array([1, 1000, 1], np.float32)
    np.testing.assert_allclose(RewardMix(settings, ASPECTS).mix(larger, OWNERS).advantages, mixed.advantages, atol=1e-5)


@pytest.mark.parametrize("mixing", ["reward", "advantage"])
def test_a_multiplier_adds_to_the_weight_and_follows_the_mean_while_the_reward_leaves_it_out(mixing: str) -> None:
    settings = settings_of(
        constraints={"contrast": {"at_least": 8.0, "rate": 0.5, "start": 1.0}}, advantage_mixing=mixing
    )
    mix = RewardMix(settings, ASPECTS)
    first = mix.mix(SCORES, OWNERS)
    assert first.reward.tolist() == [1.0, 3.0, 2.0, 2.0]
    assert first.figures["multiplier_contrast"] == 1.0
    summed = group_advantages([11, 3, 7, 11], OWNERS)
    halves = (group_advantages(SCORES[:, 0], OWNERS) + group_advantages(SCORES[:, 1], OWNERS)) / 2
    np.testing.assert_allclose(first.advantages, summed if mixing == "reward" else halves, atol=1e-6)
    assert mix.mix(SCORES, OWNERS).figures["multiplier_contrast"] == 2.0  # 1 + 0.5 (8 - 6)


def test_what_it_learnt_goes_on_from_its_state() -> None:
    options = {
        "reward_weights": {"brightness": 1.0, "contrast": 1.0}, "constraints": {"pick.overall": {"at_least": 1.0}},
        "advantage_mixing": "advantage", "statistics_window": 3,
    }  # fmt: skip
    whole, cut = (RewardMix(settings_of(**options), ASPECTS) for _ in range(2))
    rng = np.random.default_rng(0)
    epochs = [rng.normal(size=(4, 3)).astype(np.float32) for _ in range(4)]
    expected = [whole.mix(scores, OWNERS) for scores in epochs]
    for scores in epochs[:2]:
        cut.mix(scores, OWNERS)
    resumed = RewardMix(settings_of(**options), ASPECTS)
    resumed.restore(cut.state())
    for scores, one in zip(epochs[2:], expected[2:], strict=True):
        again = resumed.mix(scores, OWNERS)
        assert np.array_equal(again.advantages, one.advantages)
        assert again.figures == one.figures
    assert expected[3].figures["multiplier_pick.overall"] > 0


def test_names_that_no_scorer_has_and_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"rl\.constraints: the scorer has no aspect 'beauty'"):
        RewardMix(settings_of(constraints={"beauty": {"at_least": 0.0}}), ASPECTS)
    with pytest.raises(SettingsError, match="rewards of other multipliers"):
        settings_of(constraints={"contrast": {"at_least": 0.0}}, statistics_window=8)
    with pytest.raises(SettingsError, match="give either app or source"):
        settings_of(scorers={"pick": {}})
    with pytest.raises(SettingsError, match="has no dot"):
        settings_of(scorers={"pick.v1": {"app": "pick"}})
