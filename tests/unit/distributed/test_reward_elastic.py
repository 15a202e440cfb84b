"""A whole training under ZeRO-3 with sharded checkpoints: two ranks begin it, one ends it, and all ranks validate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.unit.reward.conftest import write_run
from vp_ray.distributed.collectives import SingleProcess, TorchCollective
from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import TorchEngine
from vp_ray.distributed.sharded_engine import ShardedEngine
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Collective
from vp_ray.reward.checkpoints import TrainingState, newest_state
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import RewardData, read_data
from vp_ray.reward.forward import new_forward
from vp_ray.reward.loop import RewardEngine, rate_schedule, total_updates, train
from vp_ray.storage import Folder, RunFolder

SETTINGS = RewardSettings(
    epochs=2,
    batch_groups=4,
    validate_every=2,
    validation_share=0.3,
    frozen_share=0.5,
    # Adam divides by the size of gradients: an epsilon above the rounding of the smallest keeps that from being a step.
    optimizer=OptimizerSettings(learning_rate=1e-3, epsilon=1e-5),
)
MIDDLE = 4


class KilledError(Exception):
    """Stands for the end of the processes."""


class DyingEngine(ShardedEngine):
    """Ends the processes after `MIDDLE` updates and their checkpoint."""

    def accumulate(self, loss: Tensor) -> bool:
        if self.updates == MIDDLE:
            raise KilledError
        return super().accumulate(loss)


def data_at(run: str) -> RewardData:
    return read_data(RunFolder(run), Preparation(32, (0.5,) * 3, (0.5,) * 3))


def trained(
    data: RewardData, blip: str, folder: Path, collective: Collective, kind: Callable[..., RewardEngine]
) -> tuple[TrainingState, int]:
    """How far the training came, and how many images this rank scored to validate."""
    model = VPScore.from_backbone(blip, aspects=data.aspects)
    model.freeze(SETTINGS.frozen_share)
    scored = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal scored
        scored += 0 if module.training else len(output)

    model.head.register_forward_hook(count)
    updates = total_updates(SETTINGS, len(data.split(SETTINGS.validation_share, SETTINGS.seed)[0]))
    forward = new_forward(SETTINGS, model, torch.device("cpu"), Folder.at(folder))
    engine = kind(model, SETTINGS.optimizer, 1, rate_schedule(SETTINGS, updates))
    return train(SETTINGS, forward, engine, collective, data, Folder.at(folder)), scored


def on_two(rank: int, run: str, blip: str, folder: Path) -> None:
    with pytest.raises(KilledError):
        trained(data_at(run), blip, folder / "cut", TorchCollective(), DyingEngine)
    state, scored = trained(data_at(run), blip, folder / "undisturbed", TorchCollective(), ShardedEngine)
    told = {"accuracy": state.best_accuracy, "scored": scored, "updates": state.update}
    (folder / f"rank{rank}.json").write_text(json.dumps(told))


def on_one(rank: int, run: str, blip: str, folder: Path) -> None:
    assert newest_state(Folder.at(folder / "cut")).update == MIDDLE
    trained(data_at(run), blip, folder / "cut", TorchCollective(), ShardedEngine)


@pytest.fixture(scope="module")
def runs(
    tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory, on_ranks: Callable[..., None]
) -> tuple[Path, TrainingState, int]:
    """Where ranks trained; and how far one plain process came, with the images that it scored."""
    folder = tmp_path_factory.mktemp("elastic")
    run = write_run(folder / "run", 24).uri
    on_ranks(2, on_two, run, str(tiny_blip), folder)
    on_ranks(1, on_one, run, str(tiny_blip), folder)
    return folder, *trained(data_at(run), str(tiny_blip), folder / "plain", SingleProcess(), TorchEngine)


def best_weights(folder: Path) -> dict[str, Tensor]:
    (best,) = (folder / "best").iterdir()
    return load_file(best / "trainable.safetensors")


def losses_in(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_rank_ends_what_two_began_with_sharded_checkpoints_as_plain_torch_does(
    runs: tuple[Path, TrainingState, int],
) -> None:
    folder, plain, _ = runs
    expected, losses = best_weights(folder / "plain"), losses_in(folder / "plain")
    for name in ("undisturbed", "cut"):
        state = newest_state(Folder.at(folder / name))
        assert (state.update, state.metrics_rows) == (plain.update, plain.metrics_rows)
        assert losses_in(folder / name) == pytest.approx(losses, abs=1e-4)
        assert state.best_accuracy == pytest.approx(plain.best_accuracy, abs=0.02)
        if state.best_update == plain.best_update:
            found = best_weights(folder / name)
            assert max((found[key] - expected[key]).abs().max() for key in expected) < 1e-4


def test_every_rank_validates_its_share_and_all_know_the_whole(runs: tuple[Path, TrainingState, int]) -> None:
    folder, plain, scored = runs
    told = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    assert told[0]["accuracy"] == pytest.approx(plain.best_accuracy, abs=0.02)
    validations = -(-plain.update // SETTINGS.validate_every)
    images = plain.best_figures["images"]
    assert scored == validations * images
    assert told[0]["scored"] == validations * int(np.ceil(images / 2))
