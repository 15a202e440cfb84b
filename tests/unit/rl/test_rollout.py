from pathlib import Path

import numpy as np
import pytest
import torch

from vp_ray.errors import RewardError
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Scores
from vp_ray.rl.plan import batches_of_epoch
from vp_ray.rl.rollout import Drawn, draw_epoch

from .conftest import PROMPTS, Rewards, settings_of


def drawn_with(policy: DiffusionPolicy, generator: Path, rewards: Rewards, **changes: object) -> Drawn:
    settings = settings_of(generator, samples_per_prompt=8, **changes)
    batches = batches_of_epoch(PROMPTS, 0, settings)
    steps = policy.steps(settings.steps, settings.eta)
    return draw_epoch(settings, policy, steps, rewards=rewards, batches=batches, epoch=0)


def test_scores_are_requested_at_once_and_collected_after_the_next_batch(
    policy: DiffusionPolicy, tiny_pipeline: Path
) -> None:
    rewards = Rewards()
    drawn = drawn_with(policy, tiny_pipeline, rewards)
    assert rewards.events == [
        "request 0", "request 1", "result 0", "request 2", "result 1", "request 3", "result 2", "result 3",
    ]  # fmt: skip
    assert [rollout.batch.number for rollout in drawn.rollouts] == [0, 1, 2, 3]
    expected = rewards.scorer.score(policy.decode(drawn.rollouts[2].trajectory.final), ["", "", "", ""])
    assert np.array_equal(drawn.rollouts[2].scores, expected)


def test_images_of_a_prompt_start_alike_only_where_that_is_wanted(policy: DiffusionPolicy, tiny_pipeline: Path) -> None:
    for same in (False, True):
        drawn = drawn_with(policy, tiny_pipeline, Rewards(), same_start_noise=same)
        trajectory = drawn.rollouts[0].trajectory
        assert drawn.rollouts[0].batch.prompts[0] == drawn.rollouts[0].batch.prompts[2]
        assert torch.equal(trajectory.latents[0, 0], trajectory.latents[2, 0]) is same
        assert not torch.equal(trajectory.latents[0, 1], trajectory.latents[2, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_a_number_is_refused_by_its_aspect(
    policy: DiffusionPolicy, tiny_pipeline: Path, value: float
) -> None:
    def spoilt(number: int, scores: Scores) -> Scores:
        if number == 1:
            scores[2, 1] = value
        return scores

    with pytest.raises(RewardError, match="contrast of image 2"):
        drawn_with(policy, tiny_pipeline, Rewards(spoilt))
