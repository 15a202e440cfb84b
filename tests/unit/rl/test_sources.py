from typing import Any

import numpy as np
import pytest

from vp_ray.errors import SettingsError
from vp_ray.models.rewards import LocalRewards
from vp_ray.rl.sources import joined, rewarding

from .conftest import Brightness, settings_of

SOURCES = {"": ("brightness", "contrast"), "pick": ("overall",), "taste": ("preference",)}


def names(**changes: Any) -> list[str]:
    return rewarding(settings_of("nowhere", **changes), SOURCES)


def test_only_scorers_that_are_weighed_or_constrained_see_training_images() -> None:
    assert names() == [""]
    assert names(reward_weights={"pick.overall": 1.0, "contrast": 0.0}) == ["pick"]
    assert names(constraints={"taste.preference": {"at_least": 0.0}}) == ["", "taste"]
    with pytest.raises(SettingsError, match=r"no aspect 'overall'.*pick\.overall"):
        names(reward_weights={"overall": 1.0})
    with pytest.raises(SettingsError, match=r"rl\.held_out_weights"):
        names(held_out_weights={"beauty": 1.0})


def test_all_of_them_see_held_out_images() -> None:
    settings = settings_of("nowhere", reward_weights={"b.contrast": 1.0})
    training, watching = joined(settings, {"": LocalRewards(Brightness()), "b": LocalRewards(Brightness())})
    assert training.aspects == ("b.brightness", "b.contrast")
    assert watching.aspects == ("brightness", "contrast", "b.brightness", "b.contrast")
    images = np.full((2, 4, 4, 3), 7, np.uint8)
    assert watching.request(images, ["", ""]).result(1.0).tolist() == [[7.0, 0.0, 7.0, 0.0]] * 2
