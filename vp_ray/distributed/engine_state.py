"""What an engine keeps between updates, in one format for plain torch and every ZeRO stage and number of ranks.

trainable.safetensors    the trainable weights by name, whole
moments.safetensors      AdamW's running means, `mean.NAME` and `square.NAME`, whole
engine.json              the number of updates made
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vp_ray.errors import CheckpointError, SettingsError

_WEIGHTS: Final = "trainable.safetensors"
_MOMENTS: Final = "moments.safetensors"
_COUNTS: Final = "engine.json"

MOMENTS: Final = {"mean": "exp_avg", "square": "exp_avg_sq"}
"""Names of AdamW's running means in the file and in torch's optimiser state."""


@dataclass(frozen=True, slots=True)
class EngineState:
    """Weights and moments by parameter name; moments are empty before the first update."""

    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    updates: int


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name; raises `SettingsError` when there is none."""
    found = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not found:
        raise SettingsError("no parameter of this model is trainable", "Train some layers, or add an adapter.")
    return found


def write_state(folder: Path, state: EngineState) -> None:
    """Writes the state, the counts last."""
    folder.mkdir(parents=True, exist_ok=True)
    moments = {f"{kind}.{name}": tensor for kind, tensors in state.moments.items() for name, tensor in tensors.items()}
    save_file(_on_cpu(state.weights), folder / _WEIGHTS)
    save_file(_on_cpu(moments), folder / _MOMENTS)
    (folder / _COUNTS).write_text(json.dumps({"updates": state.updates}) + "\n")
    for name in (_WEIGHTS, _MOMENTS, _COUNTS):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}


def read_state(folder: Path, shapes: Mapping[str, torch.Size]) -> EngineState:
    """What `write_state` wrote; raises `CheckpointError` when it is missing, broken or of other shapes."""
    try:
        weights, moments = load_file(folder / _WEIGHTS), load_file(folder / _MOMENTS)
        updates = int(json.loads((folder / _COUNTS).read_text())["updates"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"this is no whole engine state ({error})", "Go on from another checkpoint.", str(folder)
        ) from None
    if {name: tensor.shape for name, tensor in weights.items()} != dict(shapes):
        odd = sorted(
            name for name in {*weights, *shapes} if name not in weights or weights[name].shape != shapes.get(name)
        )
        raise CheckpointError(
            f"the weights are of another model; the first that differs is {odd[0]}",
            "Start anew, or give the settings that the checkpoint was made with.",
            str(folder),
        )
    kinds = {kind: {name: moments[f"{kind}.{name}"] for name in weights} for kind in MOMENTS} if moments else {}
    return EngineState(weights, kinds, updates)
