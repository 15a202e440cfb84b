"""The settings of each stage as flat keys and values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from vp_ray.report.reading import STAGES, RunReader

_SECRET: Final = re.compile(r"(^|[._])(api_key|token|secret|password)$")
HIDDEN: Final = "(set, not shown)"


def stage_settings(reader: RunReader) -> list[tuple[str, list[tuple[str, str]]]]:
    """(stage, [(key, value)]) of every stage that was started; values that are secrets are not shown."""
    return [(stage, list(_flat("", reader.settings(stage)))) for stage in STAGES if reader.settings(stage)]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        items = [(str(place), inner) for place, inner in enumerate(value)]
    for key, inner in items:
        yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    if not items and prefix:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield prefix, HIDDEN if value and _SECRET.search(prefix) else text
