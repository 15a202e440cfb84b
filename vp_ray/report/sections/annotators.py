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
class Agreement:
    """How far two answers about the same images agree in one aspect."""

    between: str
    """Which answers: in two orders, of two annotators, or samples."""
    aspect: str
    flip_rate: float | None
    """Share of decided pairs of images whose winner changed."""
    kappa: float | None
    """Quadratic-weighted Cohen's kappa of the levels."""
    alpha: float | None
    """Krippendorff's alpha of the levels, ordinal."""
    tau: float | None
    """Kendall's tau-b of the ranks within a group, on average."""


@dataclass(frozen=True, slots=True)
class SlotBias:
    """By how much an annotator thinks better of each place in a message than of the others."""

    annotator: str
    aspect: str
    effects: tuple[tuple[float, float | None], ...]
    """(levels, their standard error), place by place."""


@dataclass(frozen=True, slots=True)
class FirstShown:
    """How often the first of two images wins."""

    annotator: str
    aspect: str
    share: float
    standard_error: float | None
    answers: int


@dataclass(frozen=True, slots=True)
class Annotators:
    """The panel."""

    statuses: tuple[StatusLine, ...]
    costs: tuple[DayCost, ...]
    levels: tuple[LevelUse, ...]
    agreement: tuple[Agreement, ...]
    biases: tuple[SlotBias, ...]
    first_shown: tuple[FirstShown, ...]
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
        agreement=tuple(_agreement(figures)),
        biases=tuple(_biases(figures)),
        first_shown=tuple(
            FirstShown(name, aspect, one["share"], one["standard_error"], one["answers"])
            for name, by_aspect in sorted(_mapping(figures, "first_shown_wins").items())
            for aspect, one in sorted(by_aspect.items(), key=lambda item: _rank(item[0]))
        ),
        answers_per_minute=figures.get("answers_per_minute"),
        flip_rate=figures.get("flip_rate"),
    )


def _mapping(figures: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = figures.get(key)
    return found if isinstance(found, Mapping) else {}


def _agreement(figures: Mapping[str, Any]) -> Iterator[Agreement]:
    """Of orders over all annotators and of each one, where there are several; of two annotators; of samples."""
    yield from _agreement_of("two orders", figures)
    by_annotator = _mapping(figures, "orders_by_annotator")
    for name, found in sorted(by_annotator.items()) if len(by_annotator) > 1 else ():
        yield from _agreement_of(f"two orders, {name}", found)
    for names, found in sorted(_mapping(figures, "between_annotators").items()):
        yield from _agreement_of(names, found)
    for name, found in sorted(_mapping(figures, "between_samples").items()):
        yield from _agreement_of(f"two samples, {name}", found)


def _agreement_of(between: str, found: Mapping[str, Any]) -> Iterator[Agreement]:
    columns = [_mapping(found, f"{name}_by_aspect") for name in ("flip_rate", "kappa", "alpha", "tau")]
    for aspect in ASPECTS:
        values = [column.get(aspect) for column in columns]
        if any(is_number(value) for value in values):
            yield Agreement(between, aspect, *values)


def _biases(figures: Mapping[str, Any]) -> Iterator[SlotBias]:
    errors = _mapping(figures, "slot_bias_error")
    for name, by_aspect in sorted(_mapping(figures, "slot_bias").items()):
        for aspect, effects in sorted(by_aspect.items(), key=lambda item: _rank(item[0])):
            known = _mapping(errors, name).get(aspect) or [None] * len(effects)
            yield SlotBias(name, aspect, tuple(zip(effects, known, strict=True)))


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
