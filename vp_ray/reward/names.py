"""Ids of the models that are named on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vp_ray.errors import SettingsError

_ORDINARY: Final = ("checkpoint", "reward")
"""Folders that every run has; its own name says more."""


def named_models(given: Sequence[str]) -> dict[str, str]:
    """Checkpoints by their ids, out of `NAME=CHECKPOINT` or `CHECKPOINT`, whose id is its last telling folder: `demo`
    for `runs/demo/reward/checkpoint`. Raises `SettingsError` where two have the same.
    """
    models: dict[str, str] = {}
    for item in given:
        name, equals, place = item.partition("=")
        if not equals or "/" in name:
            name, place = _own_name(item), item
        if not name or not place:
            raise SettingsError(f"'{item}' names no model", "Give CHECKPOINT or NAME=CHECKPOINT.")
        if name in models:
            raise SettingsError(f"two models are called '{name}'", "Give one as NAME=CHECKPOINT.", item)
        models[name] = place
    return models


def _own_name(place: str) -> str:
    parts = [part for part in place.partition("://")[2].split("/") if part] if "://" in place else place.split("/")
    telling = [part for part in parts if part not in ("", ".", "..", *_ORDINARY)]
    return telling[-1].rpartition(":")[2] if telling else "vp-score"
