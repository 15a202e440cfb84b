"""From a difference of ratings and its standard error to the probability that the first is better.

Thurstone's normal link (1927, case V) with each rating's own error and a fitted slope: P = Phi(k d / se). Errors that
are stated right give k near 1; k below 1 says that they are too small, as when one answer's levels err together.
Letters of shapes: N answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]

SLOPES: Final = (0.05, 20.0)
"""A fitted slope stays within these."""
_TIES: Final = (1e-3, 20.0)


@dataclass(frozen=True, slots=True)
class Link:
    """How differences become probabilities for one aspect."""

    slope: float = 1.0
    tie_half_width: float = 0.0
    """Half the width, in standard errors, of the band in which a single answer is a tie."""
    answers: int = 0
    """Answers that it was fitted to; 0 for the default."""
    fitted: bool = False

    def probability(self, difference: Floats, error: Floats) -> Floats:
        """P(first is better) for differences with their standard errors, elementwise."""
        probability: Floats = ndtr(self.slope * difference / error)
        return probability


def fit_link(expected: ArrayLike, outcome: ArrayLike) -> Link:
    """The link under which (N,) answers that were left out are likeliest, given what the other answers expect.

    `expected` is the difference by the others over the standard error of what the left-out answer differs from it;
    `outcome` is 1, 0.5 (a tie) or 0. The model is Glenn & David's (1960): the latent answer k z + N(0, 1) wins above
    t, loses below -t and ties between, and k and t are fitted together by maximum likelihood.
    """
    z, answer = np.asarray(expected, np.float64), np.asarray(outcome, np.float64)
    won, lost, tied = z[answer > 0.5], z[answer < 0.5], z[answer == 0.5]
    with_ties = len(tied) > 0

    def surprise(parameters: Floats) -> float:
        slope, tie = parameters[0], parameters[1] if with_ties else 0.0
        inside = np.maximum(ndtr(tie - slope * np.abs(tied)) - ndtr(-tie - slope * np.abs(tied)), 1e-300)
        log_likelihood = log_ndtr(slope * won - tie).sum() + log_ndtr(-slope * lost - tie).sum() + np.log(inside).sum()
        return -float(log_likelihood) / max(len(z), 1)

    start = np.array([1.0, 0.5]) if with_ties else np.array([1.0])
    bounds = [SLOPES, _TIES] if with_ties else [SLOPES]
    found = optimize.minimize(surprise, start, method="L-BFGS-B", bounds=bounds)
    return Link(float(found.x[0]), float(found.x[1]) if with_ties else 0.0, len(z), fitted=True)
