"""Folded adapters are the function that peft's are, and none at scale 0."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from vp_ray.models.folded_lora import fold_adapters


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
    assert fold_adapters(ours) == 2  # the convolution keeps peft's way
    x = torch.randn(5, 3, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    for our, their in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("off", ["scale", "disabled"])
def test_without_its_adapter_a_layer_is_bitwise_its_base(off: str) -> None:
    model = network()[0]
    wrapped = nn.Sequential(model)
    assert fold_adapters(wrapped) == 1
    x = torch.randn(7, 6)
    assert not torch.equal(wrapped(x), model.base_layer(x))
    if off == "scale":
        model.scaling["default"] = 0.0
    else:
        model.enable_adapters(False)
    assert torch.equal(wrapped(x), model.base_layer(x))


def test_weights_of_16_bits_keep_pefts_way() -> None:
    assert fold_adapters(network(torch.bfloat16)) == 0
