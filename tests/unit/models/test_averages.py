from pathlib import Path

import pytest
import torch
from torch import nn

from vp_ray.errors import CheckpointError
from vp_ray.models.averages import AveragedWeights


def module_of(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def applied(averages: AveragedWeights, module: nn.Module) -> float:
    with averages.applied():
        return module.weight.item()


def test_the_average_by_hand() -> None:
    module = module_of(0.0)
    averages = AveragedWeights(module, decay=0.15)
    nn.init.constant_(module.weight, 1.0)
    averages.update()
    assert applied(averages, module) == pytest.approx(0.9)  # warm-up: d = 1 / 10
    nn.init.constant_(module.weight, 2.0)
    averages.update()
    assert applied(averages, module) == pytest.approx(0.15 * 0.9 + 0.85 * 2.0)  # 2 / 11 lies above the decay


def test_decay_0_is_the_last_weights_and_the_module_gets_its_own_back_bitwise() -> None:
    module = module_of(0.1)
    averages = AveragedWeights(module, decay=0.0)
    nn.init.constant_(module.weight, 1 / 3)
    averages.update()
    assert applied(averages, module) == pytest.approx(1 / 3)
    assert torch.equal(module.weight, torch.full((1, 1), 1 / 3))


def test_saved_averages_go_on_bitwise_and_do_not_fit_another_model(tmp_path: Path) -> None:
    module = module_of(0.0)
    averages = AveragedWeights(module, decay=0.9)
    nn.init.constant_(module.weight, 1.0)
    averages.update()
    averages.save(tmp_path / "averages.safetensors")
    restored = AveragedWeights(module, decay=0.9)
    restored.load(tmp_path / "averages.safetensors", updates=1)
    for one in (averages, restored):
        one.update()
    assert applied(averages, module) == applied(restored, module)
    with pytest.raises(CheckpointError, match="another model"):
        AveragedWeights(nn.Linear(2, 2), decay=0.9).load(tmp_path / "averages.safetensors", updates=1)
