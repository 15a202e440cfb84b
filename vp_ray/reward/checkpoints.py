"""Checkpoints of a reward training: `checkpoints/update_NNNNN/`, complete once `state.json`, written last, is there.

No random generator has a state to save: every random number is a function of (seed, update, rank).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from vp_ray.distributed.engine_state import EngineState, trainable_parameters, write_state
from vp_ray.errors import CheckpointError
from vp_ray.models.averages import AveragedWeights
from vp_ray.protocols import Collective, Engine
from vp_ray.storage import Folder

STATE: Final = "state.json"
BEST: Final = "best"
_PLACE: Final = "checkpoints"
_AVERAGES: Final = "averages.safetensors"
_KEPT: Final = 2
_NAME = re.compile(r"update_(\d+)")


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


def _updates(folder: Folder) -> list[int]:
    """Updates of the complete checkpoints, ascending."""
    found = [_NAME.fullmatch(path.parent.name) for path in (folder.local_path / _PLACE).glob(f"update_*/{STATE}")]
    return sorted(int(match[1]) for match in found if match)


def save(
    folder: Folder, state: TrainingState, engine: Engine, collective: Collective, averages: AveragedWeights | None
) -> None:
    """Writes a checkpoint and removes all but the last two; every rank calls it."""
    name = f"update_{state.update:05d}"
    place = folder / _PLACE / name
    if collective.rank == 0:
        (folder / _PLACE).delete(name)
        place.make()
    collective.barrier()
    engine.save(place.local_path)
    if collective.rank == 0:
        if averages is not None:
            averages.save(place.local_path / _AVERAGES)
        place.write_json(STATE, asdict(state))
        for old in _updates(folder)[:-_KEPT]:
            (folder / _PLACE).delete(f"update_{old:05d}")
    collective.barrier()


def _newest(folder: Folder) -> Folder | None:
    updates = _updates(folder)
    return folder / _PLACE / f"update_{updates[-1]:05d}" if updates else None


def newest_state(folder: Folder) -> TrainingState:
    """How far the newest complete checkpoint is; a new state when there is none."""
    place = _newest(folder)
    try:
        return TrainingState(**place.read_json(STATE)) if place else TrainingState()
    except TypeError:
        raise CheckpointError("the checkpoint is of another version", "Use a new run directory.", folder.uri) from None


def load_newest(folder: Folder, engine: Engine, averages: AveragedWeights | None) -> TrainingState:
    """Restores the newest complete checkpoint; a new state when there is none."""
    place = _newest(folder)
    state = newest_state(folder)
    if place is not None:
        engine.load(place.local_path)
        if averages is not None:
            averages.load(place.local_path / _AVERAGES, state.update)
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
    if collective.rank == 0:
        place.make()
    collective.barrier()
    if averages is None:
        engine.save_weights(place.local_path)
    elif collective.rank == 0:
        # The engine's own copies of the weights are not the averages, which the module has at this moment.
        write_state(place.local_path, EngineState(dict(trainable_parameters(engine.module)), {}, state.update))
    collective.barrier()
