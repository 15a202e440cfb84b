"""Where curves and grids go beside `metrics.jsonl`; what a tracker needs is imported when it is chosen."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Protocol

import numpy as np
from PIL import Image

from vp_ray.errors import SettingsError
from vp_ray.ids import content_id
from vp_ray.local_copies import send, to_write
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import read_grid
from vp_ray.storage import Folder

_FLUSH_SECONDS: Final = 2


class Tracker(Protocol):
    """Shows a training while it runs; rank 0 alone has some."""

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Takes the numbers of an epoch's row of metrics; what is None is left out."""
        ...

    def picture(self, epoch: int, name: str, png: bytes) -> None:
        """Takes a picture of that epoch."""
        ...

    def close(self) -> None:
        """Brings everything to its place."""
        ...


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row can be drawn as a curve."""
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float) and name != "epoch"}


class TensorBoard:
    """Writes event files to `tensorboard/` of the stage; a training that goes on replaces the epochs it makes again."""

    def __init__(self, settings: RlSettings, folder: Folder) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer_of = SummaryWriter
        self._files = ExitStack()
        self._folder = folder / "tensorboard"
        self._place = self._files.enter_context(to_write(self._folder, sends=False))
        self._writer: Any = None

    def _at(self, epoch: int) -> Any:
        if self._writer is None:
            self._writer = self._writer_of(
                str(self._place), purge_step=epoch, filename_suffix=f".from_{epoch}", flush_secs=_FLUSH_SECONDS
            )
        return self._writer

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Adds a scalar for each number."""
        # On an object store; the writer is a thread, so that what was told last may follow with the next epoch.
        if self._writer is not None and not self._folder.is_local:
            send(self._place, self._folder)
        for name, value in numbers(row).items():
            self._at(epoch).add_scalar(name, value, epoch)

    def picture(self, epoch: int, name: str, png: bytes) -> None:
        """Adds the picture."""
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        self._at(epoch).add_image(name, pixels, epoch, dataformats="HWC")

    def close(self) -> None:
        """Writes what is still queued and closes the file."""
        if self._writer is not None:
            self._writer.close()
            if not self._folder.is_local:
                send(self._place, self._folder)
        self._files.close()


class WeightsAndBiases:
    """A run of the project that goes on under the same id; `WANDB_MODE=offline` keeps it on this machine."""

    def __init__(self, settings: RlSettings, folder: Folder) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        self._wandb: Any = wandb
        self._files = ExitStack()
        self._folder = folder
        self._place = self._files.enter_context(to_write(folder, sends=False))
        self._run: Any = wandb.init(
            project=settings.wandb_project,
            id=content_id("wandb", folder.uri),
            resume="allow",
            dir=str(self._place),
            config=settings.recorded(),
        )

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Sends the numbers as one step."""
        self._run.log(numbers(row), step=epoch)

    def picture(self, epoch: int, name: str, png: bytes) -> None:
        """Sends the picture with the step's numbers."""
        self._run.log({name: self._wandb.Image(Image.open(io.BytesIO(png)))}, step=epoch)

    def close(self) -> None:
        """Ends the run's connection; on an object store its files are sent now."""
        self._run.finish()
        if not self._folder.is_local:
            send(self._place, self._folder)
        self._files.close()


def _missing(extra: str) -> SettingsError:
    return SettingsError(
        f"the tracker '{extra}' is not installed", f"pip install 'vp-ray[{extra}]', or leave it out.", "rl.trackers"
    )


TRACKERS: Final[dict[str, Callable[[RlSettings, Folder], Tracker]]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}
"""The tracker of each name in `rl.trackers`."""


def trackers_of(settings: RlSettings, folder: Folder) -> Sequence[Tracker]:
    """The trackers that the settings choose; raises `SettingsError` for one that is not installed."""
    return [TRACKERS[name](settings, folder) for name in settings.trackers]


def tell(trackers: Sequence[Tracker], row: Mapping[str, Any], folder: Folder) -> None:
    """Gives a row of metrics to all trackers, with the grid where the row is of an evaluation."""
    for tracker in trackers:
        tracker.log(row["epoch"], row)
        if row["held_out_score"] is not None:
            tracker.picture(row["epoch"], "grid", read_grid(folder, row["epoch"]))
