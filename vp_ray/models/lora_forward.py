"""How linear layers with adapters compute: the function that peft's layers are, with less work on two kinds of them.

peft adds an adapter to what its layer gives, in the adapter's own float32: y = W x + s B (A x).

- Small layers of float32 are folded: y = (W + s B A) x, where the sum is over weights and not over tokens. That takes a
  sixth off a training step; on large ones the gradient of the whole W would cost more than is saved.
- Layers of bfloat16 read the adapter in bfloat16, as autocast does, and add its part in the same kernel as its second
  product. Their activations then need no copies in float32; weights, gradients that add up, and moments stay float32.
  Layers of float16 keep peft's way, since small gradients would become zeros there.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Final

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional

_ADAPTER: Final = "default"
_LARGEST: Final = 256
"""Inputs or outputs of a layer up to which it is folded."""


def quicken_adapters(network: nn.Module) -> int:
    """Lets every linear layer that has a quicker way compute so, and returns how many do."""
    found = [(module, way) for module in network.modules() if (way := _way(module)) is not None]
    for module, way in found:
        module.forward = MethodType(way, module)
    return len(found)


def _way(module: nn.Module) -> Callable[..., Tensor] | None:
    if not isinstance(module, Linear) or type(module.base_layer) is not nn.Linear:
        return None
    if module.use_dora.get(_ADAPTER) or not isinstance(module.lora_dropout[_ADAPTER], nn.Identity):
        return None
    weight = module.base_layer.weight
    if weight.dtype == torch.bfloat16:
        return _in_own_precision
    return _folded if weight.dtype == torch.float32 and max(weight.shape) <= _LARGEST else None


def _folded(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    base = self.base_layer
    if self.disable_adapters or self.merged:
        return base(x)
    down, up = self.lora_A[_ADAPTER].weight, self.lora_B[_ADAPTER].weight
    weight = torch.addmm(base.weight, up, down, alpha=self.scaling[_ADAPTER])
    return functional.linear(x, weight, base.bias)


def _in_own_precision(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    y: Tensor = self.base_layer(x)
    if self.disable_adapters or self.merged:
        return y
    down, up = self.lora_A[_ADAPTER].weight.to(y.dtype), self.lora_B[_ADAPTER].weight.to(y.dtype)
    inner = functional.linear(x, down).flatten(0, -2)
    return torch.addmm(y.flatten(0, -2), inner, up.t(), alpha=self.scaling[_ADAPTER]).view(y.shape)
