"""The annotators: what became of their requests, how they use the levels, and how far they can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.records import ASPECTS, LEVELS, Status
from vp_ray.report.formatting import is_number
from vp_ray.report.reading import RunReader


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What became of one annotator's requests."""

    annotator: str
    counts: tuple[tuple[str, int], ...]
    """(status, rows), those without any left out."""
    rate_share: float | None
    """Share of the allowed rate that was used when it was last asked."""
    refused_by_rate: int | None
    """Requests that the server refused because of its rate."""


@dataclass(frozen=True, slots=True)
class DayCost:
    """What one model was paid on one day."""

    model: str
    day: str | None
    prices_as_of: str | None
    """The date of the price table, or `settings`."""
    answers: int
    tokens: int
    """Sent and back."""
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class LevelUse:
    """How often one annotator gave each level in one aspect."""

    annotator: str
    aspect: str
    shares: tuple[float, ...]
    """Of levels 1 to 5, together 1."""
    mean: float


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How far answers in two orders of the same images agree."""

    aspect: str
    flip_rate: float | None
    """Share of decided pairs of images whose winner changed with the order."""
    kappa: float | None
    """Quadratic-weighted Cohen's kappa of the levels."""


@dataclass(frozen=True, slots=True)
class SlotBias:
    """What each place in a message adds to the level, on average."""

    annotator: str
    aspect: str
    effects: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Annotators:
    """The panel."""

    statuses: tuple[StatusLine, ...]
    costs: tuple[DayCost, ...]
    levels: tuple[LevelUse, ...]
    steadiness: tuple[Steadiness, ...]
    biases: tuple[SlotBias, ...]
    answers_per_minute: float | None
    flip_rate: float | None

    @property
    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The use of levels as rows of a data file."""
        for use in self.levels:
            shares = {f"level_{level}": share for level, share in zip(LEVELS, use.shares, strict=True)}
            yield {"annotator": use.annotator, "aspect": use.aspect, "mean": use.mean, **shares}


def annotators(reader: RunReader) -> Annotators | None:
    """The panel of the stage `annotate`, or None where it has written no judgements."""
    table = reader.table("annotate", "judgements.parquet", ["annotator", "status"])
    if table is None or not len(table):
        return None
    statuses: dict[str, Counter[str]] = {}
    for row in table.group_by(["annotator", "status"]).aggregate([([], "count_all")]).to_pylist():
        statuses.setdefault(row["annotator"], Counter())[row["status"]] += row["count_all"]
    figures = reader.figures("annotate")
    traffic = _mapping(figures, "traffic")
    lines = tuple(
        StatusLine(
            annotator=name,
            counts=tuple((str(status), counts[status]) for status in Status if counts[status]),
            rate_share=_mapping(traffic, name).get("share_of_rate_used"),
            refused_by_rate=_mapping(traffic, name).get("refused_by_rate"),
        )
        for name, counts in sorted(statuses.items())
    )
    flips, kappas = _mapping(figures, "flip_rate_by_aspect"), _mapping(figures, "kappa_by_aspect")
    return Annotators(
        statuses=lines,
        costs=tuple(
            DayCost(
                row["model"],
                row["day"],
                row["prices_as_of"],
                row["answers"],
                row["request_tokens"] + row["reply_tokens"],
                row["cost_usd"],
            )
            for row in figures.get("costs") or ()
            if row["cost_usd"] != 0
        ),
        levels=tuple(_level_use(reader)),
        steadiness=tuple(
            Steadiness(aspect, flips.get(aspect), kappas.get(aspect))
            for aspect in ASPECTS
            if is_number(flips.get(aspect)) or is_number(kappas.get(aspect))
        ),
        biases=tuple(
            SlotBias(name, aspect, tuple(effects))
            for name, by_aspect in sorted(_mapping(figures, "slot_bias").items())
            for aspect, effects in sorted(by_aspect.items(), key=lambda item: _rank(item[0]))
        ),
        answers_per_minute=figures.get("answers_per_minute"),
        flip_rate=figures.get("flip_rate"),
    )


def _mapping(figures: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = figures.get(key)
    return found if isinstance(found, Mapping) else {}


def _level_use(reader: RunReader) -> list[LevelUse]:
    """The use of levels by annotator and aspect, counted piece by piece, since rationales are long."""
    counts: dict[tuple[str, str], Counter[int]] = {}
    for batch in reader.batches("annotate", "judgements.parquet", ["annotator", "levels"]):
        levels = pc.list_flatten(batch["levels"])
        owners = batch["annotator"].take(pc.list_parent_indices(batch["levels"]))
        flat = pa.table({"annotator": owners, "aspect": levels.field("aspect"), "level": levels.field("level")})
        for row in flat.group_by(["annotator", "aspect", "level"]).aggregate([([], "count_all")]).to_pylist():
            counts.setdefault((row["annotator"], row["aspect"]), Counter())[row["level"]] += row["count_all"]
    found = []
    for (annotator, aspect), used in sorted(counts.items(), key=lambda item: (item[0][0], _rank(item[0][1]))):
        total = sum(used[level] for level in LEVELS)
        if total:
            shares = tuple(used[level] / total for level in LEVELS)
            mean = sum(level * share for level, share in zip(LEVELS, shares, strict=True))
            found.append(LevelUse(annotator, aspect, shares, mean))
    return found


def _rank(aspect: str) -> int:
    return ASPECTS.index(aspect) if aspect in ASPECTS else len(ASPECTS)
