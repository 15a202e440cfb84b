"""One mean of several seeds, with an interval that knows of both kinds of chance: the seeds' and that within each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from vp_ray.maths.intervals import CONFIDENCE, Interval


def over_seeds(intervals: Sequence[Interval], *, shared: bool = False, confidence: float = CONFIDENCE) -> Interval:
    """The mean over S seeds, and the wider of two intervals around it.

    Between seeds it is Student's t, mean -+ t_{(1 + confidence) / 2, S - 1} * sd / sqrt(S); within them the half-widths
    h_s of independent samples, sqrt(sum h_s^2) / S, or their mean where all seeds `shared` one sample. Three seeds
    alone would often agree by chance, and a sample alone knows nothing of other trainings. A single seed keeps its own
    interval.
    """
    means = np.array([one.mean for one in intervals], np.float64)
    mean, count = float(means.mean()), len(means)
    if count == 1:
        return intervals[0]
    between = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * float(means.std(ddof=1)) / math.sqrt(count)
    halves = [(one.high - one.low) / 2 for one in intervals if one.low is not None and one.high is not None]
    within = 0.0
    if halves:
        within = float(np.mean(halves)) if shared else math.sqrt(sum(half**2 for half in halves)) / len(halves)
    half = max(between, within)
    return Interval(mean, mean - half, mean + half)
