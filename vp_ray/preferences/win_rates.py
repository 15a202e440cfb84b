"""How often each generator and each guidance wins.

Letters of shapes: P pairs of one aspect.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BINS: Final = 5


def sides(table: pa.Table, images: pa.Table, column: str) -> tuple[pa.Array, pa.Array]:
    """A column of the images of both sides of each pair."""
    ids = images["image_id"].combine_chunks()
    values = images[column].combine_chunks()

    def of_side(name: str) -> pa.Array:
        coded = table[name].combine_chunks().dictionary_encode()
        return values.take(pc.index_in(coded.dictionary, ids)).take(coded.indices)

    return of_side("image_id_a"), of_side("image_id_b")


def generator_rates(table: pa.Table, images: pa.Table) -> dict[str, Any]:
    """By aspect, each generator's mean probability to win against images of others, and against each other generator.

    Pairs count alike, whatever their weights; images of unknown generators are left out.
    """
    first, second = sides(table, images, "generator")
    names = sorted({*pc.unique(first).drop_null().to_pylist(), *pc.unique(second).drop_null().to_pylist()})
    known = pa.array(names, pa.string())
    one, other = (np.asarray(pc.fill_null(pc.index_in(side, known), -1), np.int64) for side in (first, second))
    found: dict[str, Any] = {}
    for aspect, rows in _by_aspect(table):
        chosen = rows[(one[rows] >= 0) & (other[rows] >= 0) & (one[rows] != other[rows])]
        if not len(chosen):
            continue
        probability = np.asarray(table["probability_a"], np.float64)[chosen]
        wins, games = _matrix(one[chosen], other[chosen], probability, len(names))
        found[aspect] = {
            name: {
                "win_rate": float(wins[place].sum() / games[place].sum()),
                "pairs": int(games[place].sum()),
                "against": {
                    rival: float(wins[place, column] / games[place, column])
                    for column, rival in enumerate(names)
                    if games[place, column]
                },
            }
            for place, name in enumerate(names)
            if games[place].sum()
        }
    return found


def guidance_rates(table: pa.Table, images: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """By aspect, the mean probability to win of images of each fifth of the guidance scales, within one generator.

    Only pairs of one generator whose scales lie in different fifths tell; an aspect without any is left out.
    """
    first, second = sides(table, images, "guidance_scale")
    scale_a, scale_b = (np.asarray(side.to_numpy(zero_copy_only=False), np.float64) for side in (first, second))
    same = np.asarray(pc.fill_null(table["same_generator"], False).to_numpy(), np.bool_)
    known = same & np.isfinite(scale_a) & np.isfinite(scale_b)
    if not known.any():
        return {}
    edges = np.unique(np.quantile(np.concatenate([scale_a[known], scale_b[known]]), np.linspace(0, 1, _BINS + 1)))
    one, other = (np.clip(np.searchsorted(edges, side, "right") - 1, 0, len(edges) - 2) for side in (scale_a, scale_b))
    found = {}
    for aspect, rows in _by_aspect(table):
        chosen = rows[known[rows] & (one[rows] != other[rows])]
        if not len(chosen) or len(edges) < 3:
            continue
        probability = np.asarray(table["probability_a"], np.float64)[chosen]
        wins, games = _matrix(one[chosen], other[chosen], probability, len(edges) - 1)
        found[aspect] = [
            {
                "from": float(edges[place]),
                "to": float(edges[place + 1]),
                "win_rate": float(wins[place].sum() / games[place].sum()),
                "pairs": int(games[place].sum()),
            }
            for place in range(len(edges) - 1)
            if games[place].sum()
        ]
    return found


def _by_aspect(table: pa.Table) -> list[tuple[str, Ints]]:
    aspects = table["aspect"].combine_chunks().dictionary_encode()
    codes = np.asarray(aspects.indices, np.int64)
    return [(name, np.flatnonzero(codes == code)) for code, name in enumerate(aspects.dictionary.to_pylist())]


def _matrix(one: Ints, other: Ints, probability: Floats, size: int) -> tuple[Floats, Floats]:
    """(size, size) wins of the row against the column, and games."""
    wins, games = np.zeros((size, size)), np.zeros((size, size))
    np.add.at(wins, (one, other), probability)
    np.add.at(wins, (other, one), 1 - probability)
    np.add.at(games, (one, other), 1)
    np.add.at(games, (other, one), 1)
    return wins, games
