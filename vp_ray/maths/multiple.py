"""Several tests at once: p-values that keep the chance of any false alarm at the stated level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """(N,) adjusted p-values, in the order given (Holm 1979): max over j <= i of min(1, (N - j) p_(j)), j from 0.

    Rejecting what lies below a level keeps the chance of one false rejection or more below it, however the tests depend
    on each other.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, (p.size - np.arange(p.size)) * p[order]))
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return adjusted
