"""What a training goes on from: `checkpoints/epoch_NNN/`.

No random generator has a state to save: every random number is a function of (seed, epoch, prompt, sample).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from vp_ray.checkpoints import new_checkpoint, newest_checkpoint
from vp_ray.errors import CheckpointError
from vp_ray.models.averages import AveragedWeights
from vp_ray.protocols import Collective, Engine
from vp_ray.storage import Folder

AVERAGES: Final = "averages.safetensors"
OLD: Final = "old_policy.safetensors"
_PLACE: Final = "checkpoints"


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
    with new_checkpoint(folder / _PLACE, f"epoch_{state.epoch:03d}", asdict(state), collective) as path:
        engine.save(path)
        if collective.rank == 0:
            averages.save(path / AVERAGES)
            if old is not None:
                old.save(path / OLD)


def load_newest(
    folder: Folder, engine: Engine, averages: AveragedWeights, old: AveragedWeights | None = None
) -> TrainingState:
    """Restores the newest complete checkpoint; a new state when there is none."""
    checkpoint = newest_checkpoint(folder / _PLACE)
    if checkpoint is None:
        return TrainingState()
    try:
        state = TrainingState(**checkpoint.state())
    except TypeError:
        raise CheckpointError(
            "the checkpoint is of another version", "Use a new run directory.", checkpoint.place.uri
        ) from None
    with checkpoint.to_read() as path:
        engine.load(path)
        averages.load(path / AVERAGES, state.update)
        if old is not None:
            old.load(path / OLD, state.epoch)
    return state
