"""Tables in the paper's layout: a row a scorer or method, a column a test set or set of prompts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vp_ray.maths.pair_accuracy import RULE

Table = Mapping[str, Any]

_MINUS: Final = "\N{MINUS SIGN}"
_NONE: Final = "-"
_ACCURACY: Final = (
    "Accuracy in %, mean over {seeds}, with a 95 % interval: {interval}. " + RULE[0].upper() + RULE[1:] + "."
)
_AGAINST: Final = (
    " Under each, the difference to {against} in points, on the same pairs; intervals without zero are marked *."
)
_WINS: Final = (
    "By the {aspect} score of {scorer}. Wins: prompts won against each other row, summed over the rows and {seeds}. Win"
    " rate: prompts won against {base}, ties as halves; gain: the mean difference to it. Intervals hold at 95 %:"
    " {interval}; * marks a sign test below 0.05 after Holm's correction for the table."
)
_CONDITIONS: Final = (
    "Mean gain over the model before tuning in the overall score of {scorer}, over {seeds}, with a 95 % interval:"
    " {interval}."
)


def as_markdown(tables: Sequence[Table]) -> str:
    """All tables with their titles and rules."""
    return "\n".join(part for table in tables for part in (f"## {table['title']}", "", *_lines(table), ""))


def as_csv(table: Table) -> str:
    """One line a row and column of the table, nested values with dotted names."""
    rows = [_flat(row) for row in table["rows"]]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _lines(table: Table) -> list[str]:
    return {"accuracy": _accuracy, "wins": _wins, "conditions": _conditions}[table["kind"]](table)


def _seeds(table: Table) -> str:
    count = len(table["seeds"])
    return f"{count} seed{'s' if count > 1 else ''}"


def _interval_of(table: Table) -> str:
    """How the intervals of the table come about."""
    if len(table["seeds"]) == 1:
        return "a bootstrap over prompts, which does not know how trainings differ by seed"
    return "the wider of Student's t between the seeds and the bootstrap over prompts within them"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _accuracy(table: Table) -> list[str]:
    cells = {(row["scorer"], row["test_set"]): row for row in table["rows"]}
    names, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
    rows = [[name, *(_accuracy_cell(cells[name, column]) for column in columns)] for name in names]
    first = names[0]
    rows.append(["pairs", *(str(cells[first, column]["pairs"]) for column in columns)])
    note = _ACCURACY.format(seeds=_seeds(table), interval=_interval_of(table))
    if table["against"] is not None:
        note += _AGAINST.format(against=table["against"])
    return [*_grid(["", *columns], rows), "", note]


def _accuracy_cell(row: Mapping[str, Any]) -> str:
    if row["accuracy"] is None:
        return _NONE
    text = f"{100 * row['accuracy']:.1f}{_interval(row['low'], row['high'], 100, 1)}"
    gap = row["difference"]
    if gap is None:
        return text
    mark = "*" if gap["low"] is not None and (gap["low"] > 0 or gap["high"] < 0) else ""
    return f"{text}<br>{_signed(100 * gap['mean'], 1)}{_interval(gap['low'], gap['high'], 100, 1, True)}{mark}"


def _wins(table: Table) -> list[str]:
    cells = {(row["method"], row["prompt_set"]): row for row in table["rows"]}
    names, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
    head = [""] + [f"{column}: {what}" for column in columns for what in ("wins", "win rate", "gain")]
    rows = [[name, *(cell for column in columns for cell in _win_cells(cells[name, column]))] for name in names]
    told = {"aspect": table["aspect"], "scorer": table["scorer"], "base": table["base"]}
    note = _WINS.format(**told, seeds=_seeds(table), interval=_interval_of(table))
    return [*_grid(head, rows), "", note]


def _win_cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    wins = f"{row['wins']} of {row['comparisons']}"
    rate, gain = row["rate"], row["gain"]
    if rate is None:
        return wins, _NONE, _NONE
    mark = "*" if row["p_adjusted"] < 0.05 else ""
    return (
        wins,
        f"{100 * rate['mean']:.1f}{_interval(rate['low'], rate['high'], 100, 1)}{mark}",
        f"{_signed(gain['mean'], 2)}{_interval(gain['low'], gain['high'], 1, 2, True)}",
    )


def _conditions(table: Table) -> list[str]:
    cells = {(row["condition"], row["method"]): row["gain"] for row in table["rows"]}
    names, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
    rows = [
        [
            name.replace("_", " "),
            *(
                f"{_signed(gain['mean'], 2)}{_interval(gain['low'], gain['high'], 1, 2, True)}" if gain else _NONE
                for gain in (cells.get((name, column)) for column in columns)
            ),
        ]
        for name in names
    ]
    return [
        *_grid(["", *columns], rows),
        "",
        _CONDITIONS.format(scorer=table["scorer"], seeds=_seeds(table), interval=_interval_of(table)),
    ]


def _interval(low: float | None, high: float | None, scale: float, digits: int, sign: bool = False) -> str:
    if low is None or high is None:
        return ""
    ends = (_signed(scale * end, digits) if sign else f"{scale * end:.{digits}f}" for end in (low, high))
    return f" [{', '.join(ends)}]"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", _MINUS)
