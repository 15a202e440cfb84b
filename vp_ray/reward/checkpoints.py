"""What a reward training goes on from, `checkpoints/update_NNNNN/`, and its best weights, `best/update_NNNNN/`.

No random generator has a state to save: every random number is a function of (seed, update, rank).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from vp_ray.checkpoints import Checkpoint, new_checkpoint, newest_checkpoint
from vp_ray.distributed.engine_state import EngineState, trainable_parameters, write_state
from vp_ray.errors import CheckpointError
from vp_ray.local_copies import to_write
from vp_ray.models.averages import AveragedWeights
from vp_ray.protocols import Collective, Engine
from vp_ray.storage import Folder

BEST: Final = "best"
_PLACE: Final = "checkpoints"
_AVERAGES: Final = "averages.safetensors"


class WeightsEngine(Engine, Protocol):
    """An engine that can write its weights without the rest."""

    def save_weights(self, folder: Path) -> None:
        """Writes the trainable weights, whole; every rank calls it."""
        ...


@dataclass(slots=True)
class TrainingState:
    """How far a training is, apart from its weights and optimiser."""

    update: int = 0
    """Updates that are done."""
    metrics_rows: int = 0
    """Rows of metrics.jsonl that belong to these updates."""
    best_update: int = -1
    """The update whose weights validated best; -1 before the first validation."""
    best_accuracy: float = -1.0
    """Its mean accuracy over aspects."""
    best_figures: dict[str, Any] = field(default_factory=dict)
    """Its accuracy by aspect, and mean and spread of its raw scores."""


def save(
    folder: Folder, state: TrainingState, engine: Engine, collective: Collective, averages: AveragedWeights | None
) -> None:
    """Writes a checkpoint and removes all but the last two; every rank calls it."""
    name = f"update_{state.update:05d}"
    with new_checkpoint(folder / _PLACE, name, asdict(state), collective) as path:
        engine.save(path)
        if averages is not None and collective.rank == 0:
            averages.save(path / _AVERAGES)


def newest_state(folder: Folder) -> TrainingState:
    """How far the newest complete checkpoint is; a new state when there is none."""
    checkpoint = newest_checkpoint(folder / _PLACE)
    return TrainingState() if checkpoint is None else _state_of(checkpoint)


def _state_of(checkpoint: Checkpoint) -> TrainingState:
    try:
        return TrainingState(**checkpoint.state())
    except TypeError:
        raise CheckpointError(
            "the checkpoint is of another version", "Use a new run directory.", checkpoint.place.uri
        ) from None


def load_newest(folder: Folder, engine: Engine, averages: AveragedWeights | None) -> TrainingState:
    """Restores the newest complete checkpoint; a new state when there is none."""
    checkpoint = newest_checkpoint(folder / _PLACE)
    if checkpoint is None:
        return TrainingState()
    state = _state_of(checkpoint)
    with checkpoint.to_read() as path:
        engine.load(path)
        if averages is not None:
            averages.load(path / _AVERAGES, state.update)
    return state


def save_best(
    folder: Folder,
    state: TrainingState,
    engine: WeightsEngine,
    collective: Collective,
    averages: AveragedWeights | None,
) -> None:
    """Writes the best weights so far to `best/update_NNNNN`; the state that names them follows with a checkpoint."""
    place = folder / BEST / f"update_{state.best_update:05d}"
    with to_write(place, sends=collective.rank == 0) as path:
        collective.barrier()
        if averages is None:
            engine.save_weights(path)
        elif collective.rank == 0:
            # The engine's own copies of the weights are not the averages, which the module has at this moment.
            write_state(path, EngineState(dict(trainable_parameters(engine.module)), {}, state.update))
    collective.barrier()
