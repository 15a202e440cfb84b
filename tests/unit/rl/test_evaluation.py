import io
from pathlib import Path

import numpy as np
from PIL import Image

from vp_ray.distributed.collectives import SingleProcess
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.rl.evaluation import HeldOut, evaluate, grid_png

from .conftest import HELD_OUT, Rewards, settings_of


def test_a_list_that_fills_no_batch_gives_one_score_a_prompt_and_the_same_each_time(
    policy: DiffusionPolicy, tiny_pipeline: Path
) -> None:
    held_out = HeldOut([*HELD_OUT, "a red circle", "a blue circle"], Rewards())
    settings, steps = settings_of(tiny_pipeline), policy.steps(3, 0.0)
    scores, images = evaluate(settings, policy, held_out, steps, SingleProcess())
    assert scores.shape == (5, 2)
    assert len(images) == 8
    again, _ = evaluate(settings, policy, held_out, steps, SingleProcess())
    assert np.array_equal(scores, again)
    assert len(np.unique(scores[:, 0])) == 5


def test_the_grid_shows_sixteen_images_eight_in_a_row() -> None:
    images = np.stack([np.full((2, 3, 3), number, np.uint8) for number in range(20)])
    grid = np.asarray(Image.open(io.BytesIO(grid_png(images))))
    assert grid.shape == (4, 24, 3)
    assert grid[::2, ::3, 0].tolist() == [list(range(8)), list(range(8, 16))]
    assert np.asarray(Image.open(io.BytesIO(grid_png(images[:3])))).shape == (2, 9, 3)
