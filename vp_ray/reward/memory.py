"""How a process that scores keeps its memory."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGEST: Final = 2**29


def keep_freed_memory() -> None:
    """Lets glibc keep what a pass has freed for the next one, where this is glibc.

    It gives large blocks back to the system at once, and every pass would pay for each page of its activations again:
    a tenth of a pass on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _LARGEST)
