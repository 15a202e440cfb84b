"""Can the gain be believed: the verdict on exploitation, variety, and the gain by category and by way of drawing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vp_ray.records import OVERALL
from vp_ray.report.formatting import is_number, share, signed
from vp_ray.report.interval_chart import interval_axis, interval_row, interval_scale
from vp_ray.report.line_chart import Series, line_chart
from vp_ray.report.reading import RunReader
from vp_ray.report.sections.comparison import ComparisonTable
from vp_ray.report.sections.curves import Chart, Wanted, charts

Row = Mapping[str, Any]

_AS_COMPARED: Final = "as compared above"
_TITLES: Final = {
    "real": "The gain looks real.",
    "suspected": "The reward may have been exploited.",
    "exploited": "The reward was exploited.",
    "no gain": "There is no gain to be believed.",
    "no witness": "Nobody can tell whether the gain is real.",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What stands below the comparison; parts that the run does not have are empty or None."""

    verdict: str | None
    """A sentence about exploitation."""
    reason: str
    witnesses: tuple[Row, ...]
    """The reward first, then everyone whose opinion was not trained for."""
    variety: str | None
    conditions: list[ComparisonTable]
    """Of each scorer a row a way of drawing; `name` stands in each row."""
    categories: list[ComparisonTable]


def evaluation(reader: RunReader, comparison: Sequence[Row]) -> Evaluation | None:
    """What the evaluation says beyond its comparison; None where it says nothing."""
    figures = reader.figures("evaluate")
    found = figures.get("exploitation")
    conditions = _tables(figures.get("conditions") or [], "condition", comparison)
    categories = _tables(figures.get("categories") or [], "category", ())
    variety = _variety(figures.get("variety"))
    if not found and not conditions and not categories and variety is None:
        return None
    return Evaluation(
        verdict=_TITLES.get(found["verdict"], found["verdict"]) if found else None,
        reason=found["reason"] if found else "",
        witnesses=(found["reward"], *found["witnesses"]) if found else (),
        variety=variety,
        conditions=conditions,
        categories=categories,
    )


def _tables(rows: Sequence[Row], key: str, comparison: Sequence[Row]) -> list[ComparisonTable]:
    """One table a scorer, the overall row of the comparison first where one is given."""
    by_scorer: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_scorer[row["scorer"]].append({**row, "name": row[key]})
    tables = []
    for scorer, own in by_scorer.items():
        first = [row for row in comparison if row["scorer"] == scorer and row["aspect"] == OVERALL]
        shown = [*({**row, "name": _AS_COMPARED} for row in first), *own]
        scale = interval_axis([row[end] for row in shown for end in ("low", "high", "gain")])
        drawn = tuple((row, interval_row(row["gain"], row["low"], row["high"], scale)) for row in shown)
        tables.append(ComparisonTable(scorer, shown[0]["unit"], drawn, interval_scale(scale)))
    return tables


def _variety(found: Mapping[str, Any] | None) -> str | None:
    if not found or not is_number(found.get("share")):
        return None
    text = f"The tuned model's images keep {share(found['share'])} of the variance of the base's"
    if found.get("low") is not None:
        text += f" (95 % interval {share(found['low'])} to {share(found['high'])})"
    text += ", by VP-Score's image features."
    within = (found.get("within_base"), found.get("within_tuned"))
    if all(is_number(value) for value in within) and within[0]:
        text += f" Among images of one prompt it is {signed(100 * (within[1] / within[0] - 1), 1)} % against the base."
    return text


def witness_charts(rows: Sequence[Mapping[str, Any]], marked: float | None) -> list[Chart]:
    """What other scorers made of the held-out images while the reward was maximised, and quality over diversity."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    by_scorer: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for column in columns:
        scorer, dot, aspect = column.removeprefix("held_out_").partition(".")
        if column.startswith("held_out_") and dot:
            by_scorer[scorer].append((column, aspect.replace("_", " ")))
    wanted = [Wanted(f"Held out, by {name}", tuple(lines), "fixed seeds") for name, lines in by_scorer.items()]
    found = charts(rows, wanted, "epoch", marked)
    line = Series.of(
        "held-out score", [row.get("diversity") for row in rows], [row.get("held_out_score") for row in rows]
    )
    if len(line.points) > 1:
        svg = line_chart([line], label="Held-out score by image diversity", x_name="image diversity", whole_x=False)
        if svg is not None:
            note = "one dot an evaluation, in their order: up is better, left is more alike"
            found.append(Chart("Quality and diversity", note, svg, None))
    return found
