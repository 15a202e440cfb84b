"""Two and four DeepSpeed ranks against one process of plain torch: the same images, rewards and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.distributed.conftest import on_ranks
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

__all__ = ["on_ranks"]

TOLERANCE = 1e-5
# After the first update the weights agree to rounding only, and rounding may turn one level of one pixel, which moves
# the mean brightness of its image, and no reward by more, by one part of all its values.
ONE_LEVEL = 1 / (3 * architectures.IMAGE_SIDE**2)


def trained_on(collective: Collective, generator: Path, folder: Path, rewards: Rewards) -> None:
    # Adam moves a weight of hardly any gradient as far as any other; with this epsilon, rounding does not decide where.
    optimizer = {"learning_rate": 3e-3, "epsilon": 1e-6}
    settings = settings_of(
        generator, samples_per_prompt=16, epochs=2, evaluate_every=1, keep="last", optimizer=optimizer
    )
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
    if number == 6:
        raise RewardError("the service does not answer")
    return scores


def on_a_rank(rank: int, generator: Path, folder: Path) -> None:
    collective = TorchCollective()
    trained_on(collective, generator, folder / str(collective.world_size), Rewards())
    if collective.world_size > 2:
        return
    rewards = Rewards(out_on_rank_1) if rank == 1 else Rewards()
    expected = "does not answer" if rank == 1 else "another rank"
    with pytest.raises(RewardError, match=expected):
        trained_on(collective, generator, folder / "out", rewards)


@pytest.fixture(scope="module")
def trained(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory, on_ranks: Callable[..., None]) -> Path:
    """A folder of trainings by one process and by two and four ranks, and of one that was left by its rewards."""
    folder = tmp_path_factory.mktemp("ranks")
    trained_on(SingleProcess(), tiny_pipeline, folder / "1", Rewards())
    for ranks in (2, 4):
        on_ranks(ranks, on_a_rank, tiny_pipeline, folder)
    return folder


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_draw_the_images_of_one_process_and_learn_what_it_learns(trained: Path, ranks: int) -> None:
    one, several = numbers_of(trained / "1"), numbers_of(trained / str(ranks))
    assert one[:1] == several[:1]
    assert one[1]["reward_mean"] == several[1]["reward_mean"]
    for ours, theirs in zip(several, one, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            tolerance = ONE_LEVEL if key.startswith(("reward", "brightness", "contrast", "held_out")) else TOLERANCE
            # Steps of small deviation enlarge what rounding did to the weights, and the KL squares it.
            relative = 1e-4 if key == "kl" else TOLERANCE
            assert ours[key] == pytest.approx(value, rel=relative, abs=tolerance), key
    weights = [load_file(trained / name / "adapter" / "pytorch_lora_weights.safetensors") for name in ("1", str(ranks))]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=TOLERANCE)


def test_ranks_stop_together_after_a_checkpoint_when_the_rewards_of_one_stay_out(trained: Path) -> None:
    states = [path.parent.name for path in (trained / "out" / "checkpoints").glob("*/state.json")]
    assert states == ["epoch_001"]
