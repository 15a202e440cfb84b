"""Tastes of users who like opposite things, on features of VP-Score."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vp_ray.errors import CheckpointError, InputError
from vp_ray.models.personal import (
    Choices,
    PersonalScore,
    accuracy,
    features_of,
    learn_tastes,
    load_tastes,
    save_tastes,
)
from vp_ray.models.reward import VPScore
from vp_ray.storage import Folder

USERS = ("anna", "ben")


def world(pairs: int = 300) -> tuple[Tensor, Tensor, Choices]:
    """Features of which everybody likes the first, Anna likes the second and Ben its opposite, without noise."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=generator) * 3 + 1
    rng = np.random.default_rng(0)
    user, a = rng.integers(0, 2, pairs), rng.integers(0, 200, pairs)
    b = (a + rng.integers(1, 200, pairs)) % 200
    own = np.where(user == 0, 1.0, -1.0)
    difference = (features[a] - features[b]).numpy()
    margin = 0.5 * difference[:, 0] + own * difference[:, 1]
    return features, features[:, 0], Choices(USERS, user, a, b, (margin > 0).astype(np.float32))


def test_opposite_tastes_are_opposite_directions_and_the_shared_opinion_is_in_neither() -> None:
    features, overall, choices = world()
    tastes = learn_tastes(features, overall, choices, dimensions=2)
    anna, ben = (torch.nn.functional.normalize(tastes.direction(user), dim=0) for user in USERS)
    assert anna[1] > 0.95
    assert ben[1] < -0.95
    assert abs(anna[0]) < 0.25
    for user in USERS:
        assert tastes.scores(features, user).std() == pytest.approx(1.0, abs=1e-4)
        assert tastes.scores(features, user).mean() == pytest.approx(0.0, abs=1e-4)


def test_choices_that_were_not_learnt_from_are_foretold_from_the_users_own_score() -> None:
    features, overall, choices = world(600)
    seen = np.arange(600) < 400
    tastes = learn_tastes(features, overall, choices.where(seen), dimensions=2)
    for user in USERS:
        own = accuracy(tastes, features, choices.where(~seen), user)
        assert own is not None
        assert own > 0.75  # where the shared opinion outweighs the taste, the taste alone is wrong
    assert accuracy(tastes, features, choices.where(np.zeros(600, bool)), "anna") is None


def test_the_scorer_gives_what_the_fit_gave_and_goes_through_its_files(tiny_blip: Path, tmp_path: Path) -> None:
    scorer = VPScore.from_backbone(str(tiny_blip))
    images = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    prompts = [f"a {colour} circle" for colour in ("red", "blue", "green")] * 4
    features, overall = features_of(scorer, images, prompts)
    np.testing.assert_allclose(overall, scorer.overall(scorer.score(images, prompts)), atol=1e-5)
    rng = np.random.default_rng(2)
    user, a, b = rng.integers(0, 2, 40), rng.integers(0, 12, 40), rng.integers(0, 12, 40)
    choices = Choices(USERS, user, a, b, (rng.random(40) > 0.5).astype(np.float32))
    tastes = learn_tastes(features, overall, choices, updates=20)
    save_tastes(tastes, Folder.at(tmp_path))
    taste = PersonalScore.from_pretrained(Folder.at(tmp_path), "ben", scorer)
    assert taste.aspects == ("preference",)
    np.testing.assert_allclose(taste.score(images, prompts)[:, 0], tastes.scores(features, "ben"), atol=1e-4)


def test_an_unknown_user_a_missing_file_and_no_choice_are_told(tiny_blip: Path, tmp_path: Path) -> None:
    features, overall, choices = world(10)
    tastes = learn_tastes(features, overall, choices, updates=1)
    with pytest.raises(InputError, match=r"nothing is known of the user 'carl'\. Users are: anna, ben"):
        PersonalScore(VPScore.from_backbone(str(tiny_blip)), tastes, "carl")
    with pytest.raises(CheckpointError, match="no tastes can be read"):
        load_tastes(Folder.at(tmp_path))
    with pytest.raises(InputError, match="no user has chosen"):
        learn_tastes(features, overall, choices.where(np.zeros(10, bool)))
