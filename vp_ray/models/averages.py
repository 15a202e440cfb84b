"""An exponential moving average of a module's trainable weights, for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vp_ray.errors import CheckpointError

Decay = Callable[[int], float]
"""The decay d of an average at its update n, counted from 0."""


def warmed_up(decay: float) -> Decay:
    """min(decay, (1 + n) / (10 + n)), so that the first weights do not weigh for ever; 0 is the weights themselves."""
    return lambda n: min(decay, (1 + n) / (10 + n)) if decay > 0 else 0.0


def growing(growth: float, limit: float) -> Decay:
    """min(growth n, limit): the weights themselves at first, and ever more of the past (DiffusionNFT's old policy)."""
    return lambda n: min(growth * n, limit)


class AveragedWeights:
    """average := d average + (1 - d) weights after every update, `decay` being d or the limit of `warmed_up`."""

    def __init__(self, module: nn.Module, decay: float | Decay) -> None:
        self._decay = decay if callable(decay) else warmed_up(decay)
        self.updates = 0
        self._weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self._average: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are now."""
        decay = self._decay(self.updates)
        self.updates += 1
        for name, weight in self._weights.items():
            self._average[name].lerp_(weight, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights while the context lasts, and its own, bitwise, afterwards."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, source: dict[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(source[name])

    def save(self, file: Path) -> None:
        """Writes the averages as safetensors."""
        save_file(self._average, file, metadata={"updates": str(self.updates)})

    def load(self, file: Path, updates: int) -> None:
        """Restores what `save` wrote after `updates` updates; raises `CheckpointError` where it does not fit."""
        try:
            stored = load_file(file)
        except OSError as error:
            raise CheckpointError(f"the averaged weights cannot be read ({error})", where=str(file)) from error
        shapes = {name: tensor.shape for name, tensor in self._average.items()}
        if shapes != {name: tensor.shape for name, tensor in stored.items()}:
            raise CheckpointError("the averaged weights are of another model", "Use a new run directory.", str(file))
        with torch.no_grad():
            for name, tensor in self._average.items():
                tensor.copy_(stored[name])
        self.updates = updates
