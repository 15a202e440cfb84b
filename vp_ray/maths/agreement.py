"""How far judgements agree: kappa, alpha, tau and flips, each with its undefined case as NaN, never as a number.

Letters of shapes: N items, R raters, G groups, I images of a group.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def quadratic_kappa(first: ArrayLike, second: ArrayLike, levels: int) -> float:
    """Cohen's kappa with quadratic weights of two ratings (N,) in 1..levels: 1 - sum(w O) / sum(w E).

    w = (i - j)^2, O the observed and E the expected counts by the two margins (Cohen 1968). NaN where the expected
    disagreement is 0, as when both use one level only.
    """
    a, b = np.asarray(first, np.int64) - 1, np.asarray(second, np.int64) - 1
    observed = np.zeros((levels, levels))
    np.add.at(observed, (a, b), 1.0)
    places = np.arange(levels)
    weights = (places[:, None] - places[None, :]) ** 2
    expected = observed.sum(1)[:, None] * observed.sum(0)[None, :] / max(1, a.size)
    disagreement = float((weights * expected).sum())
    return 1.0 - float((weights * observed).sum()) / disagreement if disagreement else float("nan")


def krippendorff_alpha(ratings: ArrayLike, levels: int) -> float:
    """Krippendorff's alpha for ordinal ratings (N, R) in 1..levels, NaN where a rater gave none: 1 - D_o / D_e.

    The difference of levels c < k is (n_c / 2 + n_(c+1) + ... + n_(k-1) + n_k / 2)^2, n the counts of pairable values
    (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"). NaN where fewer than two levels occur.
    """
    table = np.asarray(ratings, np.float64)
    return krippendorff_alpha_of_counts(np.stack([(table == level).sum(1) for level in range(1, levels + 1)], axis=1))


def krippendorff_alpha_of_counts(counts_NL: ArrayLike) -> float:
    """The same from how often each item was given each level, (N, L): who gave it does not enter."""
    counts = np.asarray(counts_NL, np.float64)
    levels = counts.shape[1]
    counts = counts[counts.sum(1) >= 2]
    per_unit = counts.sum(1)
    share = counts / np.maximum(per_unit - 1, 1)[:, None]
    coincidence = share.T @ counts - np.diag(share.sum(0)) if levels else np.zeros((0, 0))
    margins = coincidence.sum(1)
    middles = np.cumsum(margins) - margins / 2
    distance = (middles[:, None] - middles[None, :]) ** 2
    total = margins.sum()
    expected = float((np.outer(margins, margins) * distance).sum()) / max(total - 1, 1.0)
    return 1.0 - float((coincidence * distance).sum()) / expected if expected else float("nan")


def kendall_tau_b(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of two rankings (N,): (concordant - discordant) / sqrt((pairs untied in one) (in the other)).

    NaN where one of them ties everything (Kendall 1945).
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    above = np.triu_indices(a.size, 1)
    signs_a = np.sign(a[:, None] - a[None, :])[above]
    signs_b = np.sign(b[:, None] - b[None, :])[above]
    untied = float(np.abs(signs_a).sum()) * float(np.abs(signs_b).sum())
    return float((signs_a * signs_b).sum()) / np.sqrt(untied) if untied else float("nan")


def flip_counts(first: ArrayLike, second: ArrayLike) -> tuple[int, int]:
    """Pairs of images that two judgements put the other way round, and pairs that both decide.

    (G, I) levels of the same images in two judgements, NaN where an image is missing; ties decide nothing.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    left, right = np.triu_indices(a.shape[1], 1)
    signs = np.nan_to_num(np.sign(a[:, left] - a[:, right])) * np.nan_to_num(np.sign(b[:, left] - b[:, right]))
    return int((signs < 0).sum()), int((signs != 0).sum())


def mean_kendall_tau_b(first: ArrayLike, second: ArrayLike) -> float:
    """The mean over groups of Kendall's tau-b between two judgements' levels of the same images, (G, I) each.

    NaN marks images that a group has not got. Groups in which a judgement ties everything have no tau and are left out;
    NaN where none is left.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    left, right = np.triu_indices(a.shape[1], 1)
    signs_a = np.nan_to_num(np.sign(a[:, left] - a[:, right]))
    signs_b = np.nan_to_num(np.sign(b[:, left] - b[:, right]))
    untied = np.abs(signs_a).sum(1) * np.abs(signs_b).sum(1)
    defined = untied > 0
    taus = (signs_a * signs_b).sum(1)[defined] / np.sqrt(untied[defined])
    return float(taus.mean()) if taus.size else float("nan")
