"""Workers that do what shards tell them: die, fail, or wait."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from vp_ray.errors import BudgetError, CheckpointError


class Obedient:
    """Appends a letter to the shard's file, so that every call can be counted."""

    def __init__(self, folder: str) -> None:
        if folder == "missing":
            raise CheckpointError("there is no such model", "Train it first.", folder)
        self._folder = Path(folder)

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        path = self._folder / str(shard["number"])
        with path.open("a") as file:
            file.write("x")
        match shard.get("then"):
            case "die once" if path.stat().st_size == 1:
                os._exit(1)
            case "budget":
                raise BudgetError("too dear", "Pay more.", "shard 5")
            case "crash":
                raise ZeroDivisionError("a bug")
            case "wait":
                time.sleep(0.3)
            case "wait long":
                time.sleep(1.0)
        return {"number": shard["number"], "threads": os.environ["OMP_NUM_THREADS"], "nested": {"a": [1, None]}}
