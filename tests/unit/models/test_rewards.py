"""Rewards are numbers of the stated shape or an error."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from vp_ray.errors import RewardError
from vp_ray.models.rewards import BackgroundRewards, JoinedRewards, LocalRewards
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


class Slow:
    aspects = ("brightness",)

    def __init__(self, go: threading.Event) -> None:
        self.go = go

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        assert self.go.wait(60)
        return images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)


def test_scores_of_the_background_are_collected_later_and_lateness_is_an_error() -> None:
    go = threading.Event()
    rewards = BackgroundRewards(Slow(go))
    images = np.stack([np.full((2, 2, 3), level, np.uint8) for level in (5, 9)])
    pending = rewards.request(images, ["a", "b"])
    with pytest.raises(RewardError, match="2 images were not there in time"):
        pending.result(0.0)
    go.set()
    assert pending.result(60).tolist() == [[5.0], [9.0]]


def test_several_sources_give_their_columns_side_by_side_and_a_failure_names_its_source() -> None:
    held, free = threading.Event(), threading.Event()
    free.set()
    images = np.full((1, 2, 2, 3), 5, np.uint8)
    both = JoinedRewards({"": BackgroundRewards(Slow(free)), "pick": BackgroundRewards(Slow(free))})
    assert both.aspects == ("brightness", "pick.brightness")
    assert both.request(images, ["a"]).result(60).tolist() == [[5.0, 5.0]]
    late = JoinedRewards({"": BackgroundRewards(Slow(free)), "pick": BackgroundRewards(Slow(held))})
    with pytest.raises(RewardError, match="scorer 'pick'"):
        late.request(images, ["a"]).result(0.2)
    held.set()
