"""Both engines do the same arithmetic, at every ZeRO stage, and their files carry a training over exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import DeepSpeedEngine, TorchEngine
from vp_ray.errors import CheckpointError, ClusterError, NumericsError, SettingsError

OPTIMIZER = OptimizerSettings(learning_rate=1e-2, weight_decay=0.01, max_gradient_norm=0.5)
UPDATES, MIDDLE, BATCH = 6, 3, 8
TOLERANCE = 1e-6
"""Sums over ranks and micro-batches are taken in another order than over the whole batch."""


def schedule(update: int) -> float:
    return 1 / (1 + update)


def network() -> nn.Sequential:
    """Five linear layers of odd sizes, which do not divide by two ranks; the one in the middle is frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3))
    module[2].requires_grad_(False)
    return module


def batches() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(UPDATES, BATCH, 5, generator=generator), torch.randn(UPDATES, BATCH, 3, generator=generator)


def train(engine: TorchEngine | DeepSpeedEngine, first: int, last: int, rows: slice, parts: int) -> list[float]:
    """Updates first..last - 1 on these rows of each batch, in so many micro-batches; the gradient norms."""
    inputs, targets = batches()
    norms = []
    for update in range(first, last):
        for x, y in zip(inputs[update, rows].chunk(parts), targets[update, rows].chunk(parts), strict=True):
            if engine.accumulate((engine.module(x) - y).square().mean()):
                norms.append(engine.gradient_norm)
    return norms


def weights(folder: Path) -> dict[str, Tensor]:
    return {**load_file(folder / "trainable.safetensors"), **load_file(folder / "moments.safetensors")}


def difference(first: Path, second: Path) -> float:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def all_stages(rank: int, folder: Path) -> None:
    """On one of two ranks: each stage trains in two micro-batches, and again from its own middle and from torch's."""
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    for stage in (0, 1, 2, 3):
        place = folder / f"zero{stage}"
        engine = DeepSpeedEngine(network(), OPTIMIZER, 2, schedule, zero_stage=stage)  # type: ignore[arg-type]
        norms = train(engine, 0, MIDDLE, half, 2)
        engine.save(place / "middle")
        norms += train(engine, MIDDLE, UPDATES, half, 2)
        engine.save(place / "end")
        if rank == 0:
            torch.save(torch.tensor(norms), place / "norms.pt")
        for source, target in ((place / "middle", "resumed"), (folder / "torch" / "middle", "from_torch")):
            again = DeepSpeedEngine(network(), OPTIMIZER, 2, schedule, zero_stage=stage)  # type: ignore[arg-type]
            again.load(source)
            again.save(place / f"{target}_middle")
            train(again, MIDDLE, UPDATES, half, 2)
            again.save(place / target)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, on_two_ranks: Callable[..., None]) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    engine = TorchEngine(network(), OPTIMIZER, 1, schedule)
    norms = train(engine, 0, MIDDLE, slice(None), 1)
    engine.save(folder / "torch" / "middle")
    norms += train(engine, MIDDLE, UPDATES, slice(None), 1)
    engine.save(folder / "torch" / "end")
    torch.save(torch.tensor(norms), folder / "torch" / "norms.pt")
    on_two_ranks(all_stages, folder)
    return folder


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_with_two_micro_batches_equal_plain_torch_on_the_joined_batch(trained: Path, stage: int) -> None:
    assert difference(trained / f"zero{stage}" / "end", trained / "torch" / "end") <= TOLERANCE


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_tells_the_norm_before_clipping(trained: Path, stage: int) -> None:
    ours, theirs = (torch.load(trained / name / "norms.pt", weights_only=True) for name in (f"zero{stage}", "torch"))
    assert len(ours) == UPDATES
    assert ours.max() > OPTIMIZER.max_gradient_norm
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_resumed_training_equals_an_undisturbed_one_bitwise(trained: Path, stage: int) -> None:
    assert difference(trained / f"zero{stage}" / "resumed", trained / f"zero{stage}" / "end") == 0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_stage_goes_on_from_another_engines_files(trained: Path, stage: int) -> None:
    place = trained / f"zero{stage}"
    assert difference(place / "from_torch_middle", trained / "torch" / "middle") == 0
    assert difference(place / "from_torch", trained / "torch" / "end") <= TOLERANCE


def test_four_micro_batches_equal_one_batch(tmp_path: Path) -> None:
    for parts in (1, 4):
        engine = TorchEngine(network(), OPTIMIZER, parts)
        train(engine, 0, UPDATES, slice(None), parts)
        engine.save(tmp_path / str(parts))
    assert difference(tmp_path / "1", tmp_path / "4") <= TOLERANCE


def test_torch_resumes_bitwise_and_goes_on_from_deepspeed(trained: Path, tmp_path: Path) -> None:
    for source in ("torch", "zero3"):
        engine = TorchEngine(network(), OPTIMIZER, 1, schedule)
        engine.load(trained / source / "middle")
        assert engine.updates == MIDDLE
        train(engine, MIDDLE, UPDATES, slice(None), 1)
        engine.save(tmp_path / source)
    assert difference(tmp_path / "torch", trained / "torch" / "end") == 0
    assert difference(tmp_path / "zero3", trained / "torch" / "end") <= TOLERANCE


def test_the_first_step_of_adamw_moves_each_weight_by_the_scheduled_learning_rate() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 2.0)
    settings = OptimizerSettings(learning_rate=0.1, max_gradient_norm=100)
    engine = TorchEngine(module, settings, 1, lambda update: 0.5)
    assert engine.accumulate(3 * module.weight.sum())
    assert engine.gradient_norm == pytest.approx(3.0)
    assert module.weight.item() == pytest.approx(2.0 - 0.1 * 0.5, abs=1e-6)


def test_frozen_weights_stay_and_are_not_saved(trained: Path) -> None:
    names = load_file(trained / "zero3" / "end" / "trainable.safetensors").keys()
    assert names == {"0.weight", "0.bias", "4.weight", "4.bias"}


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(SettingsError, match="no parameter"):
        TorchEngine(nn.Linear(2, 2).requires_grad_(False), OPTIMIZER)


def test_a_gradient_that_is_not_finite_stops_the_training() -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(NumericsError, match="update 0"):
        TorchEngine(module, OPTIMIZER).accumulate(module.weight.sum() * float("nan"))


def test_files_of_another_shape_or_cut_short_are_refused(tmp_path: Path) -> None:
    engine = TorchEngine(network(), OPTIMIZER)
    engine.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"another model; the first that differs is 0\.bias"):
        TorchEngine(nn.Linear(3, 3), OPTIMIZER).load(tmp_path)
    whole = (tmp_path / "moments.safetensors").read_bytes()
    (tmp_path / "trainable.safetensors").write_bytes(whole[:5])
    with pytest.raises(CheckpointError, match="no whole engine state"):
        engine.load(tmp_path)


def test_an_engine_is_not_saved_in_the_middle_of_an_update(tmp_path: Path) -> None:
    module = network()
    engine = TorchEngine(module, OPTIMIZER, 2)
    engine.accumulate(module(torch.ones(1, 5)).sum())
    with pytest.raises(CheckpointError, match="between updates"):
        engine.save(tmp_path)


def test_deepspeed_without_a_process_group_is_refused() -> None:
    with pytest.raises(ClusterError, match="process group"):
        DeepSpeedEngine(network(), OPTIMIZER)
