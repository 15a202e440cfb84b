"""Tuned against base: the gain of every scorer and aspect, and whether two scorers see the same winner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vp_ray.maths.intervals import minimum_detectable_gain, paired_gain, win_counts
from vp_ray.maths.multiple import holm
from vp_ray.maths.pair_accuracy import pair_accuracy
from vp_ray.records import ASPECTS, BASE, OVERALL, TUNED

_ROUNDING = 1e-9
"""Means over orders and aspects that are equal on paper differ by less than this."""

PairKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The scores of both images of each pair, (N,) each, in the order of their keys (prompt_id, seed)."""

    keys: tuple[PairKey, ...]
    base: NDArray[np.float64]
    tuned: NDArray[np.float64]

    @property
    def prompts(self) -> NDArray[np.str_]:
        """The prompt of each pair."""
        return np.array([prompt_id for prompt_id, _ in self.keys], np.str_)

    def of_prompts(self, prompts: Set[str]) -> Pairs | None:
        """Those of some prompts; None where there is none."""
        kept = [place for place, (prompt_id, _) in enumerate(self.keys) if prompt_id in prompts]
        return Pairs(tuple(self.keys[place] for place in kept), self.base[kept], self.tuned[kept]) if kept else None


def pair_up(scores: pa.Table) -> dict[tuple[str, str], Pairs]:
    """By (scorer, aspect) the pairs of which both images have a score, from a table of `records.SCORES`.

    Scorers keep their order in the table; aspects are ordered with the overall first.
    """
    sides: dict[tuple[str, str], dict[str, dict[PairKey, float]]] = defaultdict(lambda: {BASE: {}, TUNED: {}})
    for row in scores.to_pylist():
        sides[row["scorer"], row["aspect"]][row["generator"]][row["prompt_id"], row["seed"]] = row["score"]
    scorers = list(dict.fromkeys(scorer for scorer, _ in sides))
    ranks = {aspect: rank for rank, aspect in enumerate((OVERALL, *ASPECTS))}
    found = {}
    for scorer, aspect in sorted(sides, key=lambda key: (scorers.index(key[0]), ranks.get(key[1], len(ranks)), key[1])):
        base, tuned = sides[scorer, aspect][BASE], sides[scorer, aspect][TUNED]
        keys = tuple(sorted(base.keys() & tuned.keys()))
        if keys:
            before, after = (np.array([side[key] for key in keys], np.float64) for side in (base, tuned))
            found[scorer, aspect] = Pairs(keys, before, after)
    return found


def compare(pairs: Mapping[tuple[str, str], Pairs], judges: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """One row of `records.COMPARISON` for each scorer and aspect; what `judges` gave is in levels.

    `gain` is the mean of tuned - base over pairs, `low` and `high` its 95 % interval by paired bootstrap over prompts
    (None for a single prompt); a prompt is won when the mean gain of its pairs is above zero, and `p_value` is the
    sign test over prompts, `p_adjusted` the same after Holm's correction for all rows; `detectable` is the gain that
    so many prompts find four times in five.
    """
    rows: list[dict[str, Any]] = []
    for (scorer, aspect), found in pairs.items():
        gain = paired_gain(found.base, found.tuned, found.prompts, seed=seed)
        difference = found.tuned - found.base
        prompts, places = np.unique(found.prompts, return_inverse=True)
        won = win_counts(np.bincount(places, weights=difference) / np.bincount(places), _ROUNDING)
        rows.append(
            {
                "scorer": scorer,
                "unit": "level" if scorer in judges else "score",
                "aspect": aspect,
                "base": float(found.base.mean()),
                "tuned": float(found.tuned.mean()),
                "gain": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "wins": won.wins,
                "ties": won.ties,
                "losses": won.losses,
                "prompts": len(prompts),
                "pairs": len(found.keys),
                "p_value": won.p_value,
                "p_adjusted": won.p_value,
                "detectable": minimum_detectable_gain(difference, found.prompts),
            }
        )
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = float(adjusted)
    return rows


def compare_groups(
    groups: Mapping[str, Mapping[tuple[str, str], Pairs]], judges: Sequence[str], key: str, seed: int = 0
) -> list[dict[str, Any]]:
    """The overall rows of `compare` for each group of pairs, which `key` names in each row.

    The correction of the p-values is for all groups and scorers together.
    """
    rows: list[dict[str, Any]] = []
    for name, pairs in groups.items():
        overall = {found: one for found, one in pairs.items() if found[1] == OVERALL}
        rows += [{key: name} | row for row in compare(overall, judges, seed)]
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = float(adjusted)
    return rows


def agreement(
    pairs: Mapping[tuple[str, str], Pairs], scorer: str, judges: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """How often `scorer` prefers the image that a judge prefers, for each judge and aspect that both have.

    The judge's ties are left out (`label_ties`); see `maths.pair_accuracy` for the rule.
    """
    rows = []
    for (judge, aspect), judged in pairs.items():
        scored = pairs.get((scorer, aspect))
        if judge not in judges or scored is None:
            continue
        common = sorted(set(judged.keys) & set(scored.keys))
        if not common:
            continue
        label, score = (_gains(found, common) for found in (judged, scored))
        wanted = np.where(np.abs(label) <= _ROUNDING, 0.5, (label > 0).astype(np.float64))
        result = pair_accuracy(score, np.zeros_like(score), wanted, [prompt_id for prompt_id, _ in common], seed)
        rows.append(
            {
                "scorer": scorer,
                "judge": judge,
                "aspect": aspect,
                "accuracy": result.accuracy.mean if result.accuracy else None,
                "low": result.accuracy.low if result.accuracy else None,
                "high": result.accuracy.high if result.accuracy else None,
                "pairs": result.pairs,
                "label_ties": result.label_ties,
            }
        )
    return rows


def _gains(pairs: Pairs, keys: Sequence[PairKey]) -> NDArray[np.float64]:
    places = {key: place for place, key in enumerate(pairs.keys)}
    chosen = [places[key] for key in keys]
    return pairs.tuned[chosen] - pairs.base[chosen]
