"""How often the reward model prefers what the labels prefer, beside what it must beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from vp_ray.records import ASPECTS, OVERALL
from vp_ray.report.formatting import count, is_number, share
from vp_ray.report.interval_chart import interval_axis, interval_row, interval_scale

CHANCE: Final = 0.5
OWN: Final = "vp_score"
"""The reward model among the scorers of a cross-validation."""

_NAMES: Final = {
    OWN: "VP-Score",
    "chance": "a coin",
    "file_bytes": "the larger file",
    "sharpness": "the sharper image",
    "one_person": "one person against the others",
}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One row: the reward model on the pairs of an aspect, or somebody else on the same pairs."""

    name: str
    is_own: bool
    accuracy: float
    low: float | None
    high: float | None
    pairs: int | None
    bar: Markup


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Accuracies on one axis."""

    title: str
    note: str
    rows: tuple[Accuracy, ...]
    scale: Markup


def accuracy_tables(figures: Mapping[str, Any]) -> list[AccuracyTable]:
    """The validation accuracy by aspect, ablations, and the cross-validation against its floors, as far as they are
    there."""
    tables = []
    by_aspect = figures.get("accuracy")
    if isinstance(by_aspect, Mapping):
        order = (OVERALL, *ASPECTS)
        names = sorted(by_aspect, key=lambda name: order.index(name) if name in order else len(order))
        rows = [by_aspect[name] | {"scorer": name} for name in names if isinstance(by_aspect[name], Mapping)]
        note = "Validation prompts, which choose the weights and are not trained on, by aspect."
        tables.append(_table("Validation", note, rows, own=set(names)))
    variants = figures.get("variants")
    if isinstance(variants, list):
        note = "Trainings on fewer aspects or prompts, by the overall pairs of the same validation prompts."
        rows = [row["accuracy"].get(OVERALL, {}) | {"scorer": row["variant"]} for row in variants]
        tables.append(_table("Ablations", note, rows, own={row["variant"] for row in variants}))
    crossed = figures.get("cross_validation")
    if isinstance(crossed, list):
        note = "Every prompt scored by a model that has not seen it, beside what needs no learning and what people do."
        tables.append(_table("Cross-validation over prompts", note, crossed, own={OWN}))
    return [table for table in tables if table is not None]


def _table(title: str, note: str, rows: Sequence[Mapping[str, Any]], own: set[str]) -> AccuracyTable | None:
    found = [row for row in rows if is_number(row.get("accuracy"))]
    if not found:
        return None
    found.append({"scorer": "chance", "accuracy": CHANCE})
    scale = interval_axis([row.get(end) for row in found for end in ("accuracy", "low", "high")], CHANCE)
    return AccuracyTable(title, note, tuple(_row(row, own, scale) for row in found), interval_scale(scale))


def _row(row: Mapping[str, Any], own: set[str], scale: Any) -> Accuracy:
    low, high = row.get("low"), row.get("high")
    bar = interval_row(row["accuracy"], low, high, scale, CHANCE)
    name = _NAMES.get(row["scorer"], row["scorer"])
    return Accuracy(name, row["scorer"] in own, row["accuracy"], low, high, row.get("pairs"), bar)


def accuracy_sentence(tables: Sequence[AccuracyTable]) -> str | None:
    """One sentence about the last table's first row, which is the reward model at its most general."""
    if not tables:
        return None
    row = tables[-1].rows[0]
    interval = f" (95 % interval {share(row.low)} to {share(row.high)})" if row.low is not None else ""
    pairs = f" of {count(row.pairs)} pairs" if row.pairs is not None else " of the pairs"
    return f"VP-Score prefers what the labels prefer on {share(row.accuracy)}{pairs}{interval}."


def accuracy_data(tables: Sequence[AccuracyTable]) -> Iterator[dict[str, Any]]:
    """The rows of all tables, for the data file."""
    for table in tables:
        for row in table.rows:
            yield {"table": table.title} | {
                name: getattr(row, name) for name in ("name", "accuracy", "low", "high", "pairs")
            }
