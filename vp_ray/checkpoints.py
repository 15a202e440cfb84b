"""Checkpoints of a training on any storage: `NAME/` with its files, of which the newest two are kept.

index.json names the checkpoints that are complete, oldest first, with every file and its bytes. It is replaced as a
whole after the last file of a new one, so that a training goes on from whole checkpoints alone, and needs no listing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vp_ray.local_copies import send, sizes_below, to_read, to_write
from vp_ray.protocols import Collective
from vp_ray.storage import Folder

INDEX: Final = "index.json"
STATE: Final = "state.json"
_KEPT: Final = 2
_GATHERED: Final = "S512"
"""Type of a file's name and size on their way between ranks."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One complete checkpoint."""

    name: str
    files: dict[str, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint."""

    place: Folder
    files: tuple[str, ...]

    def state(self) -> Any:
        """What the training said of itself; raises `StorageError` where it cannot be read."""
        return self.place.read_json(STATE)

    def to_read(self) -> AbstractContextManager[Path]:
        """Its files on this machine."""
        return to_read(self.place, self.files)


@contextmanager
def new_checkpoint(folder: Folder, name: str, state: Mapping[str, Any], collective: Collective) -> Iterator[Path]:
    """Where to write the files of a new checkpoint, which counts from the end of the context; every rank calls it.

    `state` is kept beside them. All but the last two checkpoints are removed.
    """
    place = folder / name
    if collective.rank == 0:
        folder.delete(name)
        place.make()
    collective.barrier()
    with to_write(place, sends=False) as path:
        yield path
        collective.barrier()
        sent = sizes_below(path) if place.is_local else send(path, place)
    files = _of_all_ranks(sent, collective)
    if collective.rank == 0:
        place.write_json(STATE, dict(state))
        before = [entry for entry in _index(folder) if entry.name != name]
        kept = [*before, _Entry(name, files)][-_KEPT:]
        folder.write_json(INDEX, [asdict(entry) for entry in kept])
        for old in before[: len(before) + 1 - len(kept)]:
            folder.delete(old.name)
    collective.barrier()


def newest_checkpoint(folder: Folder) -> Checkpoint | None:
    """The newest checkpoint whose files are all there in their full length."""
    for entry in reversed(_index(folder)):
        place = folder / entry.name
        found = place.sizes([STATE, *entry.files])
        if found.pop(STATE) and found == entry.files:
            return Checkpoint(place, tuple(entry.files))
    return None


def _index(folder: Folder) -> list[_Entry]:
    return [_Entry(**entry) for entry in folder.read_json(INDEX)] if folder.exists(INDEX) else []


def _of_all_ranks(sizes: dict[str, int], collective: Collective) -> dict[str, int]:
    rows = [f"{name}\t{size}" for name, size in sizes.items()] or ["\t0"]
    found = [row.decode().split("\t") for row in collective.gather(np.array(rows, _GATHERED)).tolist()]
    return {name: int(size) for name, size in found if name}
