"""What a place in a message adds to an opinion, where levels are roundings of opinions that are cut off at 1 and 5.

A plain mean of levels by slot understates a bias, since an image of level 5 cannot rise: with a bias of 0.5 and images
that are mostly good it finds 0.3. Here the bias is that of the opinion itself, before it is cut off and rounded, by
maximum likelihood of an ordered probit with known thresholds and random images (Tobin 1958 for one cut-off; McCullagh
1980 for levels; Bock & Aitkin 1981 for the integral over images). It supposes that noise, and what images are worth,
are near normal and that the annotator rounds to the nearest level: a bias of 0.5 is found within its error where images
are good and bad, mostly good or mostly perfect (tests), and understated where many opinions lie far beyond 5.
Letters of shapes: I images, S slots, L levels, U different patterns of answers, Q nodes, B blocks of prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCKS: Final = 20
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_LOG_WEIGHTS: Final = np.log(_WEIGHTS / _WEIGHTS.sum())
_BOUNDS: Final = {"effect": (-4.0, 4.0), "mean": (-5.0, 11.0), "log_spread": (-3.0, 2.0), "log_noise": (-2.0, 1.4)}
_LOG_SPREAD, _LOG_NOISE = 0.0, -0.4
"""Where a weak prior (a standard deviation of 1, the weight of one image) holds spread and noise together that data do
not tell apart: with one answer an image only their sum shows."""
_EFFECT_PRIOR: Final = 2.0
_PRECISION: Final = {"ftol": 1e-8, "maxiter": 200}


@dataclass(frozen=True, slots=True)
class SlotModel:
    """The opinion of an image in slot s is m + effect_s + noise; what is said is the nearest level of 1 to L."""

    effect_S: Floats
    """In levels before they are cut off, with mean 0."""
    mean: float
    """Of m over images."""
    spread: float
    """Standard deviation of m over images, which is taken to be normal."""
    noise: float
    """Standard deviation of opinions about one and the same image."""

    def expected(self, opinion: Floats, levels: int) -> Floats:
        """The mean level that is said for an opinion before its noise, elementwise."""
        edges = np.arange(1, levels) + 0.5
        mean: Floats = 1.0 + ndtr((opinion[..., None] - edges) / self.noise).sum(-1)
        return mean


@dataclass(frozen=True, slots=True)
class SlotFit:
    """The effects of the slots, and what they did to the levels of each image."""

    model: SlotModel
    standard_error_S: Floats
    """By a jackknife over blocks of prompts (Efron & Stein 1981); NaN where there is one prompt."""
    shrinkage: float
    """max(0, 1 - sum(se^2) / sum(effect^2)), the positive-part James-Stein factor: 0 where the effects may be noise."""
    shift_IS: Floats
    """By how much an image's level is expected to be higher in a slot than over all slots, by the shrunken effects."""


def fit_slots(count_ISL: NDArray[np.integer], prompt_I: Ints) -> SlotFit:
    """The effects from how often each image was given each level in each slot, with the prompt of each image.

    Images must stand in slots by chance, or in each slot alike. An image's shift is its expectation over what its own
    answers say of it, so that one which is at 5 wherever it stands is not moved.
    """
    images, slots, levels = count_ISL.shape
    pattern_UC, pattern_I = np.unique(count_ISL.reshape(images, -1), axis=0, return_inverse=True)
    answers = pattern_UC.astype(np.float64)
    blocks = min(BLOCKS, int(prompt_I.max(initial=-1)) + 1)
    weight_BU = np.zeros((blocks, len(answers)))
    np.add.at(weight_BU, (prompt_I % blocks, pattern_I), 1.0)
    total = weight_BU.sum(0)
    start = np.concatenate([np.zeros(slots - 1), [(levels + 1) / 2, _LOG_SPREAD, _LOG_NOISE]])
    best = _maximised(answers, total, start, slots, levels)
    if blocks > 1:
        left_out = np.stack([_maximised(answers, total - part, best, slots, levels) for part in weight_BU])
        effects = np.stack([_model(x, slots).effect_S for x in left_out])
        error = np.sqrt((blocks - 1) / blocks * ((effects - effects.mean(0)) ** 2).sum(0))
    else:
        error = np.full(slots, np.nan)
    model = _model(best, slots)
    size = float((model.effect_S**2).sum())
    noise = float((error**2).sum())
    shrinkage = max(0.0, 1.0 - noise / size) if size > 0 and np.isfinite(noise) else 0.0
    shrunk = SlotModel(shrinkage * model.effect_S, model.mean, model.spread, model.noise)
    return SlotFit(model, error, shrinkage, _shifts(answers, shrunk, levels)[pattern_I])


def _model(parameters: Floats, slots: int) -> SlotModel:
    free, (mean, log_spread, log_noise) = parameters[: slots - 1], parameters[slots - 1 :]
    return SlotModel(np.append(free, -free.sum()), float(mean), float(np.exp(log_spread)), float(np.exp(log_noise)))


def _log_probabilities(opinion_SQ: Floats, noise: float, levels: int) -> tuple[Floats, Floats, Floats]:
    """log P(level) and its slopes in the opinion and in the log of the noise, (S, L, Q) each."""
    z = ((np.arange(1, levels) + 0.5)[None, :, None] - opinion_SQ[:, None, :]) / noise
    edges = np.pad(z, ((0, 0), (1, 1), (0, 0)), constant_values=(-np.inf, np.inf))
    lower, upper = edges[:, :-1], edges[:, 1:]
    # Where both edges lie above the opinion, the difference is taken in the other tail, which does not cancel.
    above = lower > 0
    log_high = log_ndtr(np.where(above, -lower, upper))
    log_low = log_ndtr(np.where(above, -upper, lower))
    log_p = log_high + np.log1p(-np.exp(np.minimum(log_low - log_high, -1e-12)))
    density = [np.exp(-0.5 * side**2 - 0.5 * np.log(2 * np.pi) - log_p) for side in (lower, upper)]
    finite = [np.where(np.isinf(side), 0.0, side) for side in (lower, upper)]
    return log_p, (density[0] - density[1]) / noise, finite[0] * density[0] - finite[1] * density[1]


def _posterior(answers_UC: Floats, model: SlotModel, levels: int) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    """The log-likelihood of each pattern (U,), its posterior over nodes (U, Q), and the slopes of log P.

    These are (C, Q) each, with a cell for each slot and level.
    """
    opinion_SQ = model.effect_S[:, None] + (model.mean + model.spread * _NODES)[None, :]
    log_p, slope, bend = _log_probabilities(opinion_SQ, model.noise, levels)
    joint = answers_UC @ log_p.reshape(-1, len(_NODES)) + _LOG_WEIGHTS
    most = joint.max(1, keepdims=True)
    share = np.exp(joint - most)
    total = share.sum(1, keepdims=True)
    cells = (slope.reshape(-1, len(_NODES)), bend.reshape(-1, len(_NODES)))
    return (np.log(total) + most)[:, 0], share / total, cells


def surprise(parameters: Floats, answers_UC: Floats, weight_U: Floats, slots: int, levels: int) -> tuple[float, Floats]:
    """Minus the log-posterior of (S - 1 effects, mean, log spread, log noise) by image, and its gradient."""
    model, images = _model(parameters, slots), max(float(weight_U.sum()), 1.0)
    log_likelihood, posterior, (slope, bend) = _posterior(answers_UC, model, levels)
    expected = answers_UC.T @ (posterior * weight_U[:, None])
    pull = expected * slope
    by_slot = pull.reshape(slots, -1).sum(1)
    gradient = np.concatenate(
        [by_slot[:-1] - by_slot[-1], [pull.sum(), (pull * _NODES).sum() * model.spread, (expected * bend).sum()]]
    )
    effects, off = parameters[: slots - 1], parameters[slots:] - (_LOG_SPREAD, _LOG_NOISE)
    prior = 0.5 * float((effects**2).sum() / _EFFECT_PRIOR**2 + (off**2).sum())
    prior_gradient = np.concatenate([effects / _EFFECT_PRIOR**2, [0.0], off])
    return (prior - float(weight_U @ log_likelihood)) / images, (prior_gradient - gradient) / images


def _maximised(answers_UC: Floats, weight_U: Floats, start: Floats, slots: int, levels: int) -> Floats:
    """The parameters under which the answers are likeliest."""
    bounds = [_BOUNDS["effect"]] * (slots - 1) + [_BOUNDS[name] for name in ("mean", "log_spread", "log_noise")]
    arguments = (answers_UC, weight_U, slots, levels)
    found = optimize.minimize(
        surprise, start, arguments, jac=True, method="L-BFGS-B", bounds=bounds, options=_PRECISION
    )
    return np.asarray(found.x, np.float64)


def _shifts(answers_UC: Floats, model: SlotModel, levels: int) -> Floats:
    """(U, S): the expected level in a slot less the mean over slots, over what a pattern's answers say of its image."""
    _, posterior, _ = _posterior(answers_UC, model, levels)
    opinion_SQ = model.effect_S[:, None] + (model.mean + model.spread * _NODES)[None, :]
    said_SQ = model.expected(opinion_SQ, levels)
    return posterior @ (said_SQ - said_SQ.mean(0)).T
