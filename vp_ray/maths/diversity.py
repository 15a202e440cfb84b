"""How much pictures differ, from the features that an encoder gives them.

    diversity = sum over features of their variance over pictures = half the mean squared distance of two pictures

Letters of shapes: N pictures, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def feature_variance(features: ArrayLike) -> float:
    """The total variance of (N, F) features; 0 where all pictures are alike, and for one picture."""
    values = np.asarray(features, np.float64)
    return float(values.var(axis=0).sum())
