"""Quicker adapters are the function that peft's are, and none at scale 0."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from vp_ray.models.lora_forward import quicken_adapters


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4, bias=False), nn.Conv1d(3, 2, 1)).to(dtype)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2", "3"]), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name)
        if "lora" in name:
            nn.init.normal_(parameter)
    return model


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    loss = model(x).square().sum()
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))


def test_values_and_gradients_equal_pefts() -> None:
    theirs = network()
    ours = copy.deepcopy(theirs)
    assert quicken_adapters(ours) == 2  # the convolution keeps peft's way
    x = torch.randn(5, 3, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    for our, their in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)


def test_bfloat16_values_and_gradients_are_the_float32_function_within_its_rounding() -> None:
    exact = network()
    ours = copy.deepcopy(exact).to(torch.bfloat16)
    theirs = copy.deepcopy(ours)
    for model in (ours, theirs):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    assert quicken_adapters(ours) == 2
    x = torch.randn(64, 3, 6)
    expected, wanted = exact(x).detach(), gradients(exact, x)

    def distance(found: Tensor, other: Tensor) -> float:
        return float((found.detach().float() - other).norm() / other.norm())

    low = x.to(torch.bfloat16)
    assert ours(low).dtype == torch.bfloat16
    assert distance(ours(low), expected) <= 1.5 * distance(theirs(low), expected) < 0.02
    for our, their, want in zip(gradients(ours, low), gradients(theirs, low), wanted, strict=True):
        assert our.dtype == torch.float32
        assert distance(our, want) <= max(1.5 * distance(their, want), 0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("off", ["scale", "disabled"])
def test_without_its_adapter_a_layer_is_bitwise_its_base(off: str, dtype: torch.dtype) -> None:
    model = network(dtype)[0]
    wrapped = nn.Sequential(model)
    assert quicken_adapters(wrapped) == 1
    x = torch.randn(2, 7, 6, dtype=dtype)
    assert not torch.equal(wrapped(x), model.base_layer(x))
    if off == "scale":
        model.scaling["default"] = 0.0
    else:
        model.enable_adapters(False)
    assert torch.equal(wrapped(x), model.base_layer(x))


def test_layers_of_float16_keep_pefts_way() -> None:
    assert quicken_adapters(network(torch.float16)) == 0
