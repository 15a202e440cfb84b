"""Which annotator to take: the comparison of the annotate stage as a table and as accuracy over price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vp_ray.report.formatting import is_number
from vp_ray.report.reading import RunReader
from vp_ray.report.scatter_chart import Point, scatter_chart


@dataclass(frozen=True, slots=True)
class AnnotatorChoice:
    """What is shown of it."""

    truth: str
    rows: list[Mapping[str, Any]]
    recommended: str
    reason: str
    chart: Markup | None
    """Accuracy over price; over tokens where nothing is paid."""


def annotator_choice(reader: RunReader) -> AnnotatorChoice | None:
    """The comparison, or None where the run made none."""
    found = reader.figures("annotate").get("choice")
    if not found:
        return None
    paid = any(is_number(row["usd"]) and row["usd"] > 0 for row in found["rows"])
    key, name = ("usd", "US dollars for 1,000 images") if paid else ("request_tokens", "tokens of a request")
    points = [
        Point(
            row["annotator"],
            row[key],
            row["accuracy"],
            row["low"],
            row["high"],
            row["annotator"] == found["recommended"],
        )
        for row in found["rows"]
        if is_number(row[key])
    ]
    chart = scatter_chart(points, label=f"Accuracy of the annotators over {name}", x_name=name)
    return AnnotatorChoice(found["truth"], found["rows"], found["recommended"], found["reason"], chart)
