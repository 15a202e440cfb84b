"""Gauges that stay: Ray exports a gauge's value once for each time that it is set, and drops it 20 seconds later."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Final

import ray
from ray.util.metrics import Gauge

_EVERY_SECONDS: Final = 5.0
"""Half of the interval in which Ray's processes report."""

_all: weakref.WeakSet[LastingGauge] = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


class LastingGauge:
    """A gauge whose values are set again, by one thread of the process, for as long as this object lives."""

    def __init__(self, name: str, text: str, tags: tuple[str, ...]) -> None:
        self._gauge = Gauge(name, text, tags)
        self._values: dict[tuple[tuple[str, str], ...], float] = {}
        with _lock:
            _all.add(self)
            _start()

    def set(self, value: float, tags: Mapping[str, str]) -> None:
        """The value under these tags from now on."""
        with _lock:
            self._values[tuple(tags.items())] = value
        self._gauge.set(value, dict(tags))

    def set_again(self) -> None:
        """Sets every value as it is."""
        with _lock:
            values = list(self._values.items())
        for tags, value in values:
            self._gauge.set(value, dict(tags))


def _start() -> None:
    global _thread  # noqa: PLW0603 - one a process
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_keep, name="gauges", daemon=True)
        _thread.start()


def _keep() -> None:
    pause = threading.Event()
    while not pause.wait(_EVERY_SECONDS):
        if not ray.is_initialized():
            continue
        with _lock:
            gauges = list(_all)
        for gauge in gauges:
            gauge.set_again()
        del gauges
