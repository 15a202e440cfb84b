"""Whether VP-Score's probabilities mean what they say: how often a pair went as it predicted, by how sure it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vp_ray.records import ASPECTS, OVERALL
from vp_ray.report.formatting import is_number, number, sentence_case
from vp_ray.report.line_chart import Series, legend, line_chart
from vp_ray.report.sections.curves import Chart

_PERFECT: Final = Series("perfect", ((50.0, 50.0), (100.0, 100.0)))


def calibration_charts(figures: Mapping[str, Any]) -> list[Chart]:
    """A reliability curve an aspect, overall first, beside the line of a model that is right as often as it says."""
    drawn = []
    for aspect, error, bins in _measured(figures):
        points = tuple((100.0 * one["predicted"], 100.0 * one["observed"]) for one in bins)
        lines = [Series("VP-Score", points), _PERFECT]
        name = "predicted %"
        svg = line_chart(lines, label=f"{sentence_case(aspect)}: observed by predicted share", x_name=name)
        if svg is not None:
            pairs = sum(int(one["pairs"]) for one in bins)
            note = f"expected calibration error {number(100 * error, 1)} % over {pairs:,} pairs"
            drawn.append(Chart(sentence_case(aspect), note, svg, legend([line.name for line in lines])))
    return drawn


def calibration_rows(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The data of the charts: a row a bin."""
    for aspect, error, bins in _measured(figures):
        for one in bins:
            yield {"aspect": aspect, **one, "expected_calibration_error": error}


def _measured(figures: Mapping[str, Any]) -> Iterator[tuple[str, float, list[dict[str, Any]]]]:
    """(aspect, error, bins) of the aspects that were measured."""
    found = figures.get("calibration") or {}
    for aspect in (OVERALL, *ASPECTS):
        one = found.get(aspect)
        if isinstance(one, Mapping) and is_number(one.get("error")) and one.get("bins"):
            yield aspect, float(one["error"]), list(one["bins"])
