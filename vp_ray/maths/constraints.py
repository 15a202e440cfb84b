"""Constraints on the mean of a score, by a Lagrange multiplier (arXiv 1805.11074, equation 6; arXiv 2310.12773).

    max E[R] subject to E[C] >= x:   the policy maximises E[R] + m E[C],   m := clip(m + rate (x - mean C), 0, most)

The multiplier grows as long as the mean lies below x and shrinks to 0 while it lies above.
"""

from __future__ import annotations


def next_multiplier(multiplier: float, mean: float, at_least: float, rate: float, most: float) -> float:
    """The multiplier after an epoch in which the constrained score had this mean."""
    return min(max(multiplier + rate * (at_least - mean), 0.0), most)
