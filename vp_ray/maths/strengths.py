"""Strengths of images from answers about pairs of them (Bradley & Terry 1952), for all groups at once.

Letters of shapes: M images, N answered pairs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.special import expit

from vp_ray.errors import NumericsError

Floats = NDArray[np.float64]

_MOST_STEPS: Final = 200
_CLOSE_ENOUGH: Final = 1e-9
_LONGEST_STEP: Final = 1.0


def bradley_terry_strengths(
    first: ArrayLike, second: ArrayLike, wins: ArrayLike, answers: ArrayLike, images: int, prior_answers: float
) -> Floats:
    """Log-strengths (M,) under which P(a over b) = sigmoid(s_a - s_b), from (N,) pairs of places of images.

    `answers` says how often a pair was answered and `wins` how often its first image won, ties as halves. Each image
    also plays `prior_answers` games, half of them won, against an image of strength 0, so that one who always won has
    a finite strength (the logistic-Beta prior; Caron & Doucet 2012 discuss its kin). Newton's method on the concave
    log-posterior, sum n (w/n d - log(1 + e^d)), with steps of at most 1. Images of different groups do not meet, so
    groups do not influence each other. Raises `NumericsError` where the steps do not settle.
    """
    a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
    won, count = np.asarray(wins, np.float64), np.asarray(answers, np.float64)
    strength = np.zeros(images)
    everyone = np.arange(images)
    places = (np.concatenate([everyone, a, b]), np.concatenate([everyone, b, a]))
    for _ in range(_MOST_STEPS):
        expected, alone = expit(strength[a] - strength[b]), expit(strength)
        surplus = won - count * expected
        slope = np.bincount(a, surplus, images) - np.bincount(b, surplus, images) + prior_answers * (0.5 - alone)
        bend = count * expected * (1 - expected)
        own = np.bincount(a, bend, images) + np.bincount(b, bend, images) + prior_answers * alone * (1 - alone)
        curvature = sparse.coo_array((np.concatenate([own, -bend, -bend]), places), shape=(images, images)).tocsc()
        step = spsolve(curvature, slope) if images else slope
        strength = strength + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max(initial=0.0) < _CLOSE_ENOUGH:
            return strength
    raise NumericsError("the strengths of the images do not settle", "Raise preferences.prior_answers.")
