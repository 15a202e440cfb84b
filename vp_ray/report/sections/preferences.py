"""Preferences that teach: the clearest and the closest, with what the annotators said of both images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from vp_ray.records import ASPECTS, OVERALL, Status
from vp_ray.report.assets import Assets, Picture
from vp_ray.report.reading import RunReader

_COLUMNS: Final = (
    "preference_id",
    "prompt_id",
    "prompt",
    "aspect",
    "image_id_a",
    "image_id_b",
    "probability_a",
    "margin",
)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one annotator said of both images in one aspect and one order."""

    aspect: str
    level_a: int
    level_b: int
    rationale_a: str
    rationale_b: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One judgement in which both images were shown."""

    annotator: str
    place_a: int
    place_b: int
    """Places in the order, from 1."""
    size: int
    """Images that were shown together."""
    opinions: tuple[Opinion, ...]

    def opinion(self, aspect: str) -> Opinion | None:
        """What was said of this aspect."""
        return next((one for one in self.opinions if one.aspect == aspect), None)


@dataclass(frozen=True, slots=True)
class PreferenceCard:
    """One preference with its images; `probability` is that of the preferred one, which is put first."""

    prompt: str
    aspect: str
    probability: float
    margin: float
    preferred: Picture
    other: Picture
    judgements: tuple[Shown, ...]

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects of which anything was said."""
        return tuple(aspect for aspect in ASPECTS if any(shown.opinion(aspect) for shown in self.judgements))


@dataclass(frozen=True, slots=True)
class Preferences:
    """The two ends of the preference table."""

    clearest: tuple[PreferenceCard, ...]
    closest: tuple[PreferenceCard, ...]


def preferences(reader: RunReader, assets: Assets, most: int) -> Preferences | None:
    """The clearest and closest preferences of different prompts; None where there is no table or nothing is wanted.

    The overall aspect is taken, or the first that there is. Exact ties are no close calls and are left out.
    """
    name = "preferences.parquet"
    aspects = reader.table("preferences", name, ["aspect"])
    if aspects is None or not len(aspects) or most == 0:
        return None
    known = set(aspects["aspect"].unique().to_pylist())
    aspect = next((one for one in (OVERALL, *ASPECTS) if one in known), min(known))
    # Pairs without a margin are abstentions, or in order by construction.
    where = (ds.field("aspect") == aspect) & (ds.field("probability_a") != 0.5) & ds.field("margin").is_valid()
    table = reader.table("preferences", name, _COLUMNS, where)
    if table is None or not len(table):
        return None
    clear, close = _ends(table, most)
    images = {row[side] for row in (*clear, *close) for side in ("image_id_a", "image_id_b")}
    assets.add_pictures(reader, images)
    judged = _judgements(reader, [row["prompt_id"] for row in (*clear, *close)])

    def cards(rows: Sequence[Mapping[str, Any]]) -> tuple[PreferenceCard, ...]:
        found = (_card(row, assets.pictures, judged[row["prompt_id"]]) for row in rows)
        return tuple(card for card in found if card is not None)

    return Preferences(cards(clear), cards(close))


def _ends(table: pa.Table, most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows farthest from a tie and those nearest to one, one a prompt; equal ones in the order of their ids."""
    distance = np.abs(table["probability_a"].to_numpy() - 0.5)
    margin = np.abs(table["margin"].to_numpy())
    ids = np.asarray(table["preference_id"].to_pylist(), np.str_)
    prompts = table["prompt_id"].to_pylist()

    def first(order: np.ndarray[Any, np.dtype[np.intp]]) -> list[dict[str, Any]]:
        seen: dict[str, int] = {}
        for place in order.tolist():
            seen.setdefault(prompts[place], place)
            if len(seen) == most:
                break
        rows: list[dict[str, Any]] = table.take(pa.array(list(seen.values()), pa.int64())).to_pylist()
        return rows

    return first(np.lexsort((ids, -margin, -distance))), first(np.lexsort((ids, margin, distance)))


def _judgements(reader: RunReader, prompt_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    where = ds.field("prompt_id").isin(list(prompt_ids)) & (ds.field("status") == str(Status.SCORED))
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in reader.rows("annotate", "judgements.parquet", ["prompt_id", "annotator", "order", "levels"], where):
        found[row["prompt_id"]].append(row)
    return found


def _card(
    row: Mapping[str, Any], pictures: Mapping[str, Picture], judged: Sequence[Mapping[str, Any]]
) -> PreferenceCard | None:
    first, second, probability = row["image_id_a"], row["image_id_b"], row["probability_a"]
    if probability < 0.5:
        first, second, probability = second, first, 1 - probability
    if first not in pictures or second not in pictures:
        return None
    shown = tuple(_shown(one, first, second) for one in judged if {first, second} <= set(one["order"]))
    return PreferenceCard(
        row["prompt"], row["aspect"], probability, abs(row["margin"]), pictures[first], pictures[second], shown
    )


def _shown(judgement: Mapping[str, Any], first: str, second: str) -> Shown:
    levels = {(entry["image_id"], entry["aspect"]): entry for entry in judgement["levels"]}
    opinions = tuple(
        Opinion(
            aspect,
            levels[first, aspect]["level"],
            levels[second, aspect]["level"],
            levels[first, aspect]["rationale"] or "",
            levels[second, aspect]["rationale"] or "",
        )
        for aspect in ASPECTS
        if (first, aspect) in levels and (second, aspect) in levels
    )
    order = judgement["order"]
    return Shown(judgement["annotator"], order.index(first) + 1, order.index(second) + 1, len(order), opinions)
