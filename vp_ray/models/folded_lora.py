"""Adapters folded into the weights of their layers in every forward pass.

peft adds an adapter to what its layer gives: y = W x + s B (A x), two more products and a sum over all tokens, and as
many in the backward pass. The same function is y = (W + s B A) x, where the sum is over weights; on small layers this
takes a sixth off a training step. Large ones keep peft's way, since there the gradient of the whole W costs more than
is saved; and so do weights of 16 bits, in which small updates would be lost.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Final

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional

_ADAPTER: Final = "default"
_LARGEST: Final = 256
"""Inputs or outputs of a layer up to which it is folded."""


def fold_adapters(network: nn.Module) -> int:
    """Lets every small linear layer with an adapter compute so, and returns how many do."""
    found = [module for module in network.modules() if _can_fold(module)]
    for module in found:
        module.forward = MethodType(_folded, module)
    return len(found)


def _can_fold(module: nn.Module) -> bool:
    if not isinstance(module, Linear) or type(module.base_layer) is not nn.Linear:
        return False
    plain = not module.use_dora.get(_ADAPTER) and isinstance(module.lora_dropout[_ADAPTER], nn.Identity)
    weight = module.base_layer.weight
    return plain and weight.dtype == torch.float32 and max(weight.shape) <= _LARGEST


def _folded(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    base = self.base_layer
    if self.disable_adapters or self.merged:
        return base(x)
    down, up = self.lora_A[_ADAPTER].weight, self.lora_B[_ADAPTER].weight
    weight = torch.addmm(base.weight, up, down, alpha=self.scaling[_ADAPTER])
    return functional.linear(x, weight, base.bias)
