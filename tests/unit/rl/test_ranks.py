"""Two DeepSpeed ranks against one process of plain torch: the same images, the same rewards, the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.distributed.conftest import on_two_ranks
from vp_ray.distributed.collectives import SingleProcess, TorchCollective
from vp_ray.distributed.engines import DeepSpeedEngine, TorchEngine
from vp_ray.errors import RewardError
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Scores
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.shapeworld import architectures
from vp_ray.storage import Folder

from .conftest import HELD_OUT, PROMPTS, Rewards, numbers_of, settings_of

__all__ = ["on_two_ranks"]

TOLERANCE = 1e-5
# After the first update the weights agree to rounding only, and rounding may turn one level of one pixel, which moves
# the mean brightness of its image, and no reward by more, by one part of all its values.
ONE_LEVEL = 1 / (3 * architectures.IMAGE_SIDE**2)


def trained_on(collective: Collective, generator: Path, folder: Path, rewards: Rewards) -> None:
    settings = settings_of(generator, samples_per_prompt=8, epochs=2, evaluate_every=1, keep="last")
    policy = DiffusionPolicy.from_pretrained(settings.generator, settings.lora)
    count = micro_batches_per_update(settings, policy.steps(settings.steps, settings.eta), collective.world_size)
    engine_of = TorchEngine if collective.world_size == 1 else DeepSpeedEngine
    train(
        settings,
        policy,
        engine_of(policy.denoiser, settings.optimizer, count),
        rewards=rewards,
        held_out=HeldOut(HELD_OUT, rewards),
        collective=collective,
        prompts=PROMPTS,
        folder=Folder.at(folder),
    )


def out_on_rank_1(number: int, scores: Scores) -> Scores:
    if number == 4:
        raise RewardError("the service does not answer")
    return scores


def on_a_rank(rank: int, generator: Path, folder: Path) -> None:
    trained_on(TorchCollective(), generator, folder / "two", Rewards())
    rewards = Rewards(out_on_rank_1) if rank == 1 else Rewards()
    expected = "does not answer" if rank == 1 else "another rank"
    with pytest.raises(RewardError, match=expected):
        trained_on(TorchCollective(), generator, folder / "out", rewards)


def test_two_ranks_learn_what_one_learns_and_stop_together(
    tiny_pipeline: Path, tmp_path: Path, on_two_ranks: Callable[..., None]
) -> None:
    trained_on(SingleProcess(), tiny_pipeline, tmp_path / "one", Rewards())
    on_two_ranks(on_a_rank, tiny_pipeline, tmp_path)
    one, two = numbers_of(tmp_path / "one"), numbers_of(tmp_path / "two")
    assert one[:1] == two[:1]
    assert one[1]["reward_mean"] == two[1]["reward_mean"]
    for ours, theirs in zip(two, one, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            tolerance = ONE_LEVEL if key.startswith(("reward", "brightness", "contrast", "held_out")) else TOLERANCE
            assert ours[key] == pytest.approx(value, rel=TOLERANCE, abs=tolerance), key
    weights = [load_file(tmp_path / name / "adapter" / "pytorch_lora_weights.safetensors") for name in ("one", "two")]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=TOLERANCE)
    states = [path.parent.name for path in (tmp_path / "out" / "checkpoints").glob("*/state.json")]
    assert states == ["epoch_001"]
