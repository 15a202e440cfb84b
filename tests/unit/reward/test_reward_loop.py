"""The training learns, goes on bitwise where it was cut off, and keeps the weights that validate best."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.reward.checkpoints import TrainingState, newest_state
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import RewardData, read_data
from vp_ray.reward.evaluation import accuracy_by_aspect
from vp_ray.reward.loop import rate_schedule, total_updates, train
from vp_ray.storage import Folder, RunFolder

SETTINGS = RewardSettings(
    epochs=2,
    batch_groups=4,
    validate_every=3,
    validation_share=0.3,
    optimizer=OptimizerSettings(learning_rate=1e-3),
    dropout=0.1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, bright_run: Callable[..., RunFolder]) -> RewardData:
    return read_data(bright_run(tmp_path_factory.mktemp("run"), 24), Preparation(32))


class Killed(BaseException):
    """Stands for the end of the process."""


class DyingEngine(TorchEngine):
    """Ends the process after so many updates of this life."""

    lives = 10**9

    def accumulate(self, loss: Tensor) -> bool:
        if self.lives == 0:
            raise Killed
        self.lives -= 1
        return super().accumulate(loss)


def run(tiny_blip: Path, data: RewardData, folder: Path, dies_after: int | None = None) -> TrainingState:
    model = VPScore.from_backbone(str(tiny_blip), aspects=data.aspects, dropout=SETTINGS.dropout)
    updates = total_updates(SETTINGS, len(data.split(SETTINGS.validation_share, SETTINGS.seed)[0]))
    engine = DyingEngine(model, SETTINGS.optimizer, 1, rate_schedule(SETTINGS, updates))
    if dies_after is not None:
        engine.lives = dies_after
    return train(SETTINGS, model, engine, SingleProcess(), data, Folder.at(folder))


@pytest.fixture(scope="module")
def undisturbed(
    tiny_blip: Path, data: RewardData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingState]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(tiny_blip, data, folder)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_brightness_is_learned_on_prompts_that_were_held_out(undisturbed: tuple[Path, TrainingState]) -> None:
    folder, state = undisturbed
    assert state.best_accuracy >= 0.9
    assert set(state.best_figures["accuracy"]) == {
        "prompt_following",
        "aesthetic",
        "fidelity",
        "harmlessness",
        "overall",
    }
    assert rows(folder)[-1]["loss"] < rows(folder)[0]["loss"]


def test_rows_name_update_loss_rate_and_accuracies(undisturbed: tuple[Path, TrainingState]) -> None:
    folder, state = undisturbed
    found = rows(folder)
    assert [row["update"] for row in found] == [3, 6, 9, 10]
    assert state.update == 10
    assert {"loss", "learning_rate", "validation_accuracy", "validation_accuracy_fidelity", "seconds"} <= set(found[0])
    assert [path.name for path in (folder / "best").iterdir()] == [f"update_{state.best_update:05d}"]


@pytest.mark.parametrize("dies_after", [0, 2, 5, 8])
def test_a_killed_training_ends_as_an_undisturbed_one_bitwise(
    tiny_blip: Path, data: RewardData, undisturbed: tuple[Path, TrainingState], tmp_path: Path, dies_after: int
) -> None:
    with pytest.raises(Killed):
        run(tiny_blip, data, tmp_path, dies_after)
    state = run(tiny_blip, data, tmp_path)
    folder, expected = undisturbed
    assert state == expected
    for name in (f"checkpoints/update_{state.update:05d}", f"best/update_{state.best_update:05d}"):
        ours, theirs = (load_file(place / name / "trainable.safetensors") for place in (tmp_path, folder))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    clean = [{key: value for key, value in row.items() if key != "seconds"} for row in rows(tmp_path)]
    assert clean == [{key: value for key, value in row.items() if key != "seconds"} for row in rows(folder)]


def test_a_checkpoint_without_its_state_does_not_count(undisturbed: tuple[Path, TrainingState], tmp_path: Path) -> None:
    folder, state = undisturbed
    for name in ("update_00004", "update_00008"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    last = f"update_{state.update:05d}"
    (tmp_path / "checkpoints" / "update_00004" / "state.json").write_text(
        (folder / "checkpoints" / last / "state.json").read_text()
    )
    assert newest_state(Folder.at(tmp_path)) == state
    assert newest_state(Folder.at(tmp_path / "none")) == TrainingState()
    assert newest_state(Folder.at(folder)) == state


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    factor = rate_schedule(RewardSettings(warm_up_share=0.2), 10)
    assert [factor(update) for update in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert factor(6) == pytest.approx(0.5)
    assert 0 < factor(9) < 0.05


def test_accuracy_counts_decided_pairs_and_leaves_ties_out(data: RewardData) -> None:
    groups = data.groups[:2]
    rows_of_groups = np.concatenate([group.images for group in groups])
    bright = data.images[rows_of_groups].mean(axis=(1, 2, 3))
    raw = np.stack([bright, -bright, np.zeros_like(bright), bright], axis=1).astype(np.float32)
    found = accuracy_by_aspect(raw, groups, data.aspects, (1.0, 0.0, 0.0, 0.0))
    assert {aspect: row["accuracy"] for aspect, row in found.items()} == {
        "prompt_following": 1.0,
        "aesthetic": 0.0,
        "fidelity": 0.5,
        "harmlessness": 1.0,
        "overall": 1.0,
    }
    assert found["fidelity"]["pairs"] == 12
