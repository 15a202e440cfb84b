"""However an update is cut over ranks and micro-batches, and at every ZeRO stage, its gradient is that of one batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.unit.reward.conftest import write_run
from vp_ray.distributed.collectives import SingleProcess, TorchCollective
from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import DeepSpeedEngine, TorchEngine
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Collective, Engine
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import RewardData, read_data
from vp_ray.reward.forward import Forward, new_forward
from vp_ray.reward.update import Update
from vp_ray.storage import Folder, RunFolder

TOLERANCE = 1e-6
OPTIMIZER = OptimizerSettings(learning_rate=1e-3, max_gradient_norm=1e9)
CUTS = {"whole groups": (0, 1, 2, 3), "one shared group": (1,)}
"""The groups of each update: on two ranks with two micro-batches a part is one group, or one image or none of three."""
STAGES = (0, 1, 2, 3)


def new(blip: str) -> Forward:
    model = VPScore.from_backbone(blip).train()
    model.freeze(0.5)
    return new_forward(RewardSettings(frozen_share=0.5), model, torch.device("cpu"), Folder.at("unused"))


def data_at(run: str) -> RewardData:
    """Four groups: two of four images, one of three, and one of which only one pair of one aspect is labelled."""
    data = read_data(RunFolder(run), Preparation(32, (0.5,) * 3, (0.5,) * 3))
    first, second, third, fourth = data.groups
    third = replace(third, images=third.images[:3], pairs=tuple(pair for pair in third.pairs if max(pair[1:3]) < 3))
    fourth = replace(fourth, pairs=(("fidelity", 2, 0, 0.5, 3.0),))
    return replace(data, groups=(first, third, second, fourth))


def gradient(
    forward: Forward, engine: Engine, collective: Collective, data: RewardData, chosen: tuple[int, ...], parts: int
) -> float:
    """Makes one update; its loss."""
    losses = Update(forward, engine, collective, data, parts, seed=0)(data.groups, chosen, 0)
    return float(collective.gather(np.array(losses)).mean())


def on_rank(rank: int, run: str, blip: str, folder: Path) -> None:
    data = data_at(run)
    for stage, (cut, chosen) in itertools.product(STAGES, CUTS.items()):
        forward = new(blip)
        engine = DeepSpeedEngine(forward.model, OPTIMIZER, 2, zero_stage=stage)  # type: ignore[arg-type]
        loss = gradient(forward, engine, TorchCollective(), data, chosen, 2)
        engine.save(folder / f"{stage} {cut}")
        if rank == 0:
            (folder / f"{stage} {cut}" / "loss").write_text(repr(loss))


@pytest.fixture(scope="module")
def updates(tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory, on_two_ranks: Callable[..., None]) -> Path:
    folder = tmp_path_factory.mktemp("gradients")
    run = write_run(folder / "run", 4).uri
    for cut, chosen in CUTS.items():
        forward = new(str(tiny_blip))
        engine = TorchEngine(forward.model, OPTIMIZER)
        loss = gradient(forward, engine, SingleProcess(), data_at(run), chosen, 1)
        engine.save(folder / f"batch {cut}")
        (folder / f"batch {cut}" / "loss").write_text(repr(loss))
    on_two_ranks(on_rank, run, str(tiny_blip), folder)
    return folder


def gradients(folder: Path) -> dict[str, Tensor]:
    """After the first update the running mean is (1 - beta_1) times the gradient."""
    moments = load_file(folder / "moments.safetensors")
    return {name: 10 * tensor for name, tensor in moments.items() if name.startswith("mean.")}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("stage", STAGES)
def test_an_update_cut_over_ranks_and_micro_batches_has_the_gradient_of_one_batch(
    updates: Path, stage: int, cut: str
) -> None:
    ours, theirs = gradients(updates / f"{stage} {cut}"), gradients(updates / f"batch {cut}")
    assert ours.keys() == theirs.keys()
    assert max(tensor.abs().max() for tensor in theirs.values()) > 1e-2
    assert max((ours[name] - theirs[name]).abs().max() for name in theirs) <= TOLERANCE
    losses = [float((updates / name / "loss").read_text()) for name in (f"{stage} {cut}", f"batch {cut}")]
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)


def test_micro_batches_of_one_process_may_share_a_group(tiny_blip: Path, updates: Path, tmp_path: Path) -> None:
    forward = new(str(tiny_blip))
    engine = TorchEngine(forward.model, OPTIMIZER, 4)
    gradient(forward, engine, SingleProcess(), data_at(str(updates / "run")), CUTS["one shared group"], 4)
    engine.save(tmp_path)
    ours, theirs = gradients(tmp_path), gradients(updates / "batch one shared group")
    assert max((ours[name] - theirs[name]).abs().max() for name in theirs) <= TOLERANCE
