"""The training learns, goes on bitwise where it was cut off, and keeps the weights that validate best."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file
from torch import Tensor

from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.reward.checkpoints import TrainingState, newest_state
from vp_ray.reward.config import FrozenStatesSettings, RewardSettings
from vp_ray.reward.data import RewardData, read_data
from vp_ray.reward.evaluation import judged_by_aspect
from vp_ray.reward.forward import forget_copies, new_forward
from vp_ray.reward.loop import rate_schedule, total_updates, train
from vp_ray.reward.step import group_loss
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


def run(
    tiny_blip: Path,
    data: RewardData,
    folder: Path | str,
    dies_after: int | None = None,
    settings: RewardSettings = SETTINGS,
) -> TrainingState:
    model = VPScore.from_backbone(str(tiny_blip), aspects=data.aspects, dropout=settings.dropout)
    model.freeze(settings.frozen_share)
    updates = total_updates(settings, len(data.split(settings.validation_share, settings.seed)[0]))
    forward = new_forward(settings, model, torch.device("cpu"), Folder.at(folder))
    engine = DyingEngine(model, settings.optimizer, settings.micro_batches, rate_schedule(settings, updates))
    if dies_after is not None:
        engine.lives = dies_after
    return train(settings, forward, engine, SingleProcess(), data, Folder.at(folder))


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


FROZEN = SETTINGS.model_copy(update={"frozen_share": 0.5, "ema_decay": 0.8, "micro_batches": 2})


def stored(settings: RewardSettings, store: str, limit_gb: float = 1.0) -> RewardSettings:
    states = FrozenStatesSettings.model_validate({"store": store, "limit_gb": limit_gb})
    return settings.model_copy(update={"frozen_states": states})


@pytest.fixture(scope="module")
def frozen(tiny_blip: Path, data: RewardData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingState]:
    folder = tmp_path_factory.mktemp("frozen")
    return folder, run(tiny_blip, data, folder, settings=stored(FROZEN, "none"))


@pytest.mark.parametrize(("store", "limit_gb"), [("memory", 1.0), ("disk", 1.0), ("memory", 0.0004)])
def test_frozen_states_change_nothing_wherever_they_are_kept_also_where_the_training_was_killed(
    tiny_blip: Path,
    data: RewardData,
    frozen: tuple[Path, TrainingState],
    tmp_path: Path,
    store: str,
    limit_gb: float,
) -> None:
    settings = stored(FROZEN, store, limit_gb)
    with pytest.raises(Killed):
        run(tiny_blip, data, tmp_path, 9, settings)
    assert run(tiny_blip, data, tmp_path, settings=settings) == frozen[1]
    assert [row["loss"] for row in rows(tmp_path)] == [row["loss"] for row in rows(frozen[0])]
    files = ("trainable.safetensors", "averages.safetensors")
    for name in files:
        ours, theirs = (load_file(place / "checkpoints/update_00010" / name) for place in (tmp_path, frozen[0]))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_average_of_the_weights_is_what_is_validated_and_kept(frozen: tuple[Path, TrainingState]) -> None:
    folder, state = frozen
    last = folder / f"checkpoints/update_{state.update:05d}"
    own, average = load_file(last / "trainable.safetensors"), load_file(last / "averages.safetensors")
    assert max((own[name] - average[name]).abs().max() for name in own) > 1e-4
    if state.best_update == state.update:
        best = load_file(folder / f"best/update_{state.best_update:05d}" / "trainable.safetensors")
        assert all(torch.equal(best[name], average[name]) for name in average)


def test_bfloat16_and_checkpointed_layers_train_nearly_and_exactly_alike(tiny_blip: Path, data: RewardData) -> None:
    slopes = {}
    for name, change in {
        "": {},
        "checkpointed": {"gradient_checkpointing": True},
        "bf16": {"precision": "bfloat16"},
    }.items():
        model = VPScore.from_backbone(str(tiny_blip), aspects=data.aspects).train()
        model.freeze(0.5)
        forward = new_forward(
            SETTINGS.model_copy(update={"frozen_share": 0.5, **change}), model, torch.device("cpu"), Folder.at("unused")
        )
        group_loss(forward, data.images, data.groups[:2]).backward()
        slopes[name] = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        assert slopes[name].dtype == torch.float32
    assert torch.equal(slopes["checkpointed"], slopes[""])
    assert torch.cosine_similarity(slopes["bf16"], slopes[""], dim=0) > 0.99
    assert not torch.equal(slopes["bf16"], slopes[""])


def test_a_checkpoint_without_its_state_does_not_count(undisturbed: tuple[Path, TrainingState], tmp_path: Path) -> None:
    folder, state = undisturbed
    for name in ("update_00004", "update_00008"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    last = (folder / "checkpoints" / f"update_{state.update:05d}" / "state.json").read_text()
    (tmp_path / "checkpoints" / "update_00004" / "state.json").write_text(last)
    entries = [{"name": name, "files": {}} for name in ("update_00004", "update_00008")]
    Folder.at(tmp_path / "checkpoints").write_json("index.json", entries)
    assert newest_state(Folder.at(tmp_path)) == state
    assert newest_state(Folder.at(tmp_path / "none")) == TrainingState()
    assert newest_state(Folder.at(folder)) == state


def test_a_training_on_s3_that_was_killed_goes_on_from_its_checkpoint_and_ends_as_one_on_a_disk_bitwise(
    tiny_blip: Path,
    data: RewardData,
    frozen: tuple[Path, TrainingState],
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place, settings = Folder.at(f"{bucket}/reward"), stored(FROZEN, "disk")
    with pytest.raises(Killed):
        run(tiny_blip, data, place.uri, 11, settings)
    assert newest_state(place).update == 3
    state = run(tiny_blip, data, place.uri, 14, settings)
    folder, expected = frozen
    assert state == expected
    last, best = f"checkpoints/update_{state.update:05d}", f"best/update_{state.best_update:05d}"
    for name in (f"{last}/trainable.safetensors", f"{last}/averages.safetensors", f"{best}/trainable.safetensors"):
        ours, theirs = load(place.read_bytes(name)), load_file(folder / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (place / "best").folders() == [f"update_{state.best_update:05d}"]
    # States of frozen layers are this machine's own, and nothing else is left on it.
    (states,) = tmp_path.iterdir()
    assert list(states.rglob("*.safetensors"))
    forget_copies(place)
    assert list(tmp_path.iterdir()) == []


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
    judged = judged_by_aspect(raw, groups, data.aspects, (1.0, 0.0, 0.0, 0.0))
    found = judged["accuracy"]
    assert {aspect: row["accuracy"] for aspect, row in found.items()} == {
        "prompt_following": 1.0,
        "aesthetic": 0.0,
        "fidelity": 0.5,
        "harmlessness": 1.0,
        "overall": 1.0,
    }
    assert found["fidelity"]["pairs"] == 12
    assert found["fidelity"]["macro"] == 0.5
    # Differences of some fifty grey levels are taken for certain, while the labels are not.
    assert judged["calibration"]["prompt_following"]["error"] == pytest.approx(
        1 - np.mean([max(pair[3], 1 - pair[3]) for group in groups for pair in group.pairs if pair[0] == "aesthetic"]),
        abs=1e-3,
    )
