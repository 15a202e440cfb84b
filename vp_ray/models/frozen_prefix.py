"""The frozen lower layers of a vision network: what they make of an image is the same at every step of a training.

Letters of shapes: B images, T patches and class token, W width.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

_BEFORE_LAYERS: Final = ("embeddings", "pre_layrnorm")
"""What transformers' vision networks (BLIP, CLIP, SigLIP) apply before their first layer."""


class _Passed(nn.Module):
    """Stands in a network where a frozen part was: gives back what it is given."""

    def forward(self, states: Tensor, *unused: Any, **settings: Any) -> Tensor:
        """The states."""
        return states


def _frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


class FrozenPrefix:
    """Embeddings and lower layers, taken out of the network that they belong to.

    The network then takes their states in place of pixel values, and the names of its other weights stay. Dropout in
    the prefix is off, whatever mode the network is in, so that an image has one value.
    """

    def __init__(self, network: nn.Module, parts: dict[str, nn.Module]) -> None:
        self._network, self._parts = network, parts
        self.stack = nn.ModuleList(parts.values()).eval()
        self.fingerprint = _fingerprint(network, self.stack)

    @classmethod
    def take_from(cls, network: nn.Module) -> Self | None:
        """The prefix of a vision network, which is without it from now on; None where its embeddings are trained."""
        names = [name for name in _BEFORE_LAYERS if hasattr(network, name)]
        if not all(_frozen(network.get_submodule(name)) for name in names):
            return None
        layers = network.get_submodule("encoder.layers")
        for place, layer in enumerate(layers.children()):
            if not _frozen(layer):
                break
            names.append(f"encoder.layers.{place}")
        prefix = cls(network, {name: network.get_submodule(name) for name in names})
        for name in names:
            network.set_submodule(name, _Passed())
        return prefix

    def put_back(self) -> None:
        """Makes the network whole again."""
        for name, part in self._parts.items():
            self._network.set_submodule(name, part)
            part.train(self._network.training)

    def to(self, device: torch.device) -> Self:
        """The same prefix with its weights on the device."""
        self.stack.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.stack.parameters()).device

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, T, W) states of (B, 3, side, side) pixel values, without gradient."""
        states = pixels
        for name, part in self._parts.items():
            states = part(states) if name in _BEFORE_LAYERS else part(states, attention_mask=None)
        return states


def _fingerprint(network: Any, stack: nn.ModuleList) -> str:
    """A hash of everything that the states depend on but the pixels: weights and settings."""
    found = hashlib.blake2b(network.config.to_json_string().encode(), digest_size=16)
    for name, tensor in stack.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
