"""Tuned against base, by scorer and aspect: pictures of the same noise side by side, and gains with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds
from markupsafe import Markup

from vp_ray.ids import uniform_from
from vp_ray.records import ASPECTS, COMPARISON, OVERALL
from vp_ray.report.assets import Assets, Picture
from vp_ray.report.formatting import is_number
from vp_ray.report.interval_chart import interval_axis, interval_row, interval_scale
from vp_ray.report.reading import RunReader

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """The gains in one scorer's eyes, on one axis."""

    scorer: str
    unit: str
    rows: tuple[tuple[Row, Markup], ...]
    scale: Markup


@dataclass(frozen=True, slots=True)
class Card:
    """One prompt drawn by both models from the same noise."""

    prompt: str
    base: Picture
    tuned: Picture
    levels: tuple[tuple[str, float, float], ...]
    """(aspect, base, tuned) in the eyes of the headline's scorer, overall last."""


def comparison_rows(reader: RunReader) -> list[dict[str, Any]]:
    """The rows of `evaluate/comparison.parquet`."""
    return reader.rows("evaluate", "comparison.parquet", COMPARISON.names)


def comparison_tables(rows: Sequence[Row]) -> list[ComparisonTable]:
    """One table a scorer; each has its own axis, since levels and scores are not of one size."""
    by_scorer: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_scorer[row["scorer"]].append(row)
    tables = []
    for scorer, mine in by_scorer.items():
        scale = interval_axis([row[end] for row in mine for end in ("low", "high", "gain")])
        drawn = tuple((row, interval_row(row["gain"], row["low"], row["high"], scale)) for row in mine)
        tables.append(ComparisonTable(scorer, mine[0]["unit"], drawn, interval_scale(scale)))
    return tables


def before_after(reader: RunReader, assets: Assets, scorer: str | None, most: int) -> list[Card]:
    """Pairs of pictures, chosen by the hash of prompt and seed and so not by their result; those in the tables only."""
    table = reader.table("evaluate", "images", ["image_id", "prompt_id", "prompt", "generator", "seed"])
    if table is None or most == 0:
        return []
    pairs: dict[tuple[str, int], dict[str, Row]] = defaultdict(dict)
    for row in table.to_pylist():
        pairs[row["prompt_id"], row["seed"]][row["generator"]] = row
    both = [key for key, pair in pairs.items() if {"base", "tuned"} <= pair.keys()]
    chosen = sorted(both, key=lambda key: uniform_from("report", *key))[:most]
    shown = [pairs[key] for key in chosen]
    ids = [pair[side]["image_id"] for pair in shown for side in ("base", "tuned")]
    assets.add_pictures(reader, ids)
    scores = _scores(reader, scorer, ids)
    cards = []
    for pair in shown:
        base, tuned = (assets.pictures.get(pair[side]["image_id"]) for side in ("base", "tuned"))
        if base is None or tuned is None:
            continue
        before, after = (scores.get(pair[side]["image_id"], {}) for side in ("base", "tuned"))
        levels = tuple(
            (name, before[name], after[name]) for name in (*ASPECTS, OVERALL) if name in before and name in after
        )
        cards.append(Card(pair["base"]["prompt"], base, tuned, levels))
    return cards


def _scores(reader: RunReader, scorer: str | None, ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scores of one scorer by image and aspect."""
    where = (ds.field("scorer") == scorer) & ds.field("image_id").isin(list(ids))
    found: dict[str, dict[str, float]] = defaultdict(dict)
    if scorer is not None:
        for row in reader.rows("evaluate", "scores.parquet", ["image_id", "aspect", "score"], where):
            if is_number(row["score"]):
                found[row["image_id"]][row["aspect"]] = row["score"]
    return found
