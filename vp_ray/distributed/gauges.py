"""Numbers of a running stage as Prometheus gauges, which Ray exports as `ray_vp_ray_STAGE_NAME`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vp_ray.distributed.lasting import LastingGauge


def metric_name(stage: str, column: str) -> str:
    """The gauge of a column; what Prometheus does not allow becomes `_`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", f"vp_ray_{stage}_{column}")


class Gauges:
    """One gauge a number, tagged with run and stage alone, so that their count does not grow with a training."""

    def __init__(self, stage: str, run: str) -> None:
        self._stage, self._run = stage, run
        self._gauges: dict[str, LastingGauge] = {}

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Sets the gauge of each number in the row."""
        for column, value in row.items():
            if not isinstance(value, int | float):
                continue
            name = metric_name(self._stage, column)
            if name not in self._gauges:
                self._gauges[name] = LastingGauge(name, f"{column} of the stage {self._stage}", ("run", "stage"))
            self._gauges[name].set(value, {"run": self._run, "stage": self._stage})

    def picture(self, epoch: int, name: str, png: bytes) -> None:
        """Pictures are no metrics."""

    def close(self) -> None:
        """Gauges end with their process."""
