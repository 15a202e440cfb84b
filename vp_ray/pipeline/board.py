"""Shows in Ray's metrics where a run is, from the moment on when its driver is connected to Ray."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vp_ray.storage import Manifest

if TYPE_CHECKING:
    from vp_ray.distributed.metrics import StageGauges


class Board:
    """What the driver of a run knows of its stages; stages that need no Ray are shown once another has."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._finished: list[Manifest] = []
        self._progress: dict[tuple[str, str], tuple[int, int | None]] = {}
        self._working: dict[str, bool] = {}
        self._gauges: StageGauges | None = None

    def progress(self, stage: str, unit: str, done: int, total: int | None) -> None:
        """So much of the stage is done; satisfies `telemetry.Observer`."""
        self._progress[stage, unit] = (done, total)
        self._show()

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """The stage works while the block runs."""
        self._working[stage] = True
        self._show()
        try:
            yield
        finally:
            self._working[stage] = False
            self._show()

    def finished(self, manifest: Manifest) -> None:
        """A stage is finished."""
        self._finished.append(manifest)

    def _show(self) -> None:
        # A light stage shall not load Ray, which takes a second, to say that it is done.
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        if self._gauges is None:
            from vp_ray.distributed.metrics import StageGauges

            self._gauges = StageGauges()
        for stage, works in self._working.items():
            self._gauges.running(self._run, stage, works)
        for (stage, unit), (done, total) in self._progress.items():
            self._gauges.progress(self._run, stage, unit, done, total)
        for manifest in self._finished:
            self._gauges.finished(self._run, manifest)
