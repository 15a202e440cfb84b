"""Rewards are numbers of the stated shape or an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vp_ray.errors import RewardError
from vp_ray.models.rewards import LocalRewards
from vp_ray.protocols import Pixels, Scores


class Brightness:
    """Scores the mean pixel, and not a number for a black image."""

    aspects = ("brightness",)

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        means = images.mean(axis=(1, 2, 3)).astype(np.float32)
        return np.where(means > 0, means, np.nan)[:, None]


class Wide(Brightness):
    """Gives one column more than it names."""

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return np.zeros((len(images), 2), np.float32)


def test_local_rewards_are_the_scorers_numbers() -> None:
    rewards = LocalRewards(Brightness())
    assert rewards.aspects == ("brightness",)
    assert rewards.request(np.full((2, 4, 4, 3), 7, np.uint8), ["a", "b"]).result(1.0).tolist() == [[7.0], [7.0]]


def test_a_reward_that_is_not_a_number_is_an_error_that_names_image_and_aspect() -> None:
    images = np.stack([np.ones((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)])
    with pytest.raises(RewardError, match="brightness of image 1"):
        LocalRewards(Brightness()).request(images, ["a", "b"])


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(RewardError, match=r"2 images got scores of shape \(2, 2\)"):
        LocalRewards(Wide()).request(np.ones((2, 4, 4, 3), np.uint8), ["a", "b"])
