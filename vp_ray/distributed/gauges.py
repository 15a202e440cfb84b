"""Numbers of a running stage as Prometheus gauges, which Ray exports as `ray_vp_ray_STAGE_NAME`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge


def metric_name(stage: str, column: str) -> str:
    """The gauge of a column; what Prometheus does not allow becomes `_`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", f"vp_ray_{stage}_{column}")


class Gauges:
    """One gauge a number, tagged with the run's name alone, so that their count does not grow with a training."""

    def __init__(self, stage: str, run: str) -> None:
        self._stage, self._run = stage, run
        self._gauges: dict[str, Gauge] = {}

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Sets the gauge of each number in the row."""
        for column, value in {"epoch": epoch, **row}.items():
            if not isinstance(value, int | float):
                continue
            name = metric_name(self._stage, column)
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, f"{column} of the stage {self._stage}", tag_keys=("run",))
            self._gauges[name].set(value, tags={"run": self._run})

    def picture(self, epoch: int, name: str, png: bytes) -> None:
        """Pictures are no metrics."""

    def close(self) -> None:
        """Gauges end with their process."""
