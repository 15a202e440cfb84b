"""Checkpoints of a training: `checkpoints/epoch_NNN/`, complete once its `state.json` is there, which is written last.

No random generator has a state to save: every random number is a function of (seed, epoch, prompt, sample).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from vp_ray.errors import CheckpointError
from vp_ray.models.averages import AveragedWeights
from vp_ray.protocols import Collective, Engine
from vp_ray.storage import Folder

STATE = "state.json"
AVERAGES = "averages.safetensors"
OLD = "old_policy.safetensors"
KEPT = 2
_NAME = re.compile(r"epoch_(\d+)")


@dataclass(slots=True)
class TrainingState:
    """How far a training is, apart from its weights and optimiser."""

    epoch: int = 0
    """Epochs that are finished."""
    update: int = 0
    """Optimiser steps that are done."""
    metrics_rows: int = 0
    """Rows of metrics.jsonl that belong to these epochs."""
    reward: dict[str, Any] = field(default_factory=dict)
    """The state of `RewardMix`: multipliers of constraints, and the last rewards of every prompt."""
    early_stop: dict[str, Any] = field(default_factory=dict)
    """The state of `EarlyStop`."""


def _epochs(folder: Folder) -> list[int]:
    """Epochs of the complete checkpoints, ascending."""
    place = folder.local_path / "checkpoints"
    found = [_NAME.fullmatch(path.parent.name) for path in place.glob(f"epoch_*/{STATE}")]
    return sorted(int(match[1]) for match in found if match)


def _at(folder: Folder, epoch: int) -> Folder:
    return folder / "checkpoints" / f"epoch_{epoch:03d}"


def save(
    folder: Folder,
    state: TrainingState,
    engine: Engine,
    averages: AveragedWeights,
    collective: Collective,
    old: AveragedWeights | None = None,
) -> None:
    """Writes a checkpoint and removes all but the last two; every rank calls it. `old` is a policy that draws images
    while another is trained."""
    place = _at(folder, state.epoch)
    if collective.rank == 0:
        folder.delete(f"checkpoints/epoch_{state.epoch:03d}")
        place.make()
    collective.barrier()
    engine.save(place.local_path)
    collective.barrier()
    if collective.rank == 0:
        averages.save(place.local_path / AVERAGES)
        if old is not None:
            old.save(place.local_path / OLD)
        place.write_json(STATE, asdict(state))
        for epoch in _epochs(folder)[:-KEPT]:
            folder.delete(f"checkpoints/epoch_{epoch:03d}")
    collective.barrier()


def load_newest(
    folder: Folder, engine: Engine, averages: AveragedWeights, old: AveragedWeights | None = None
) -> TrainingState:
    """Restores the newest complete checkpoint; a new state when there is none."""
    epochs = _epochs(folder)
    if not epochs:
        return TrainingState()
    place = _at(folder, epochs[-1])
    try:
        state = TrainingState(**place.read_json(STATE))
    except TypeError:
        raise CheckpointError("the checkpoint is of another version", "Use a new run directory.", place.uri) from None
    engine.load(place.local_path)
    averages.load(place.local_path / AVERAGES, state.update)
    if old is not None:
        old.load(place.local_path / OLD, state.epoch)
    return state
