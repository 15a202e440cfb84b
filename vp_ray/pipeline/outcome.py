"""What a run prints below its comparison: the verdict on exploitation, variety, other ways of drawing, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_STYLES: Final = {"real": "green", "exploited": "red", "suspected": "yellow"}
_TITLES: Final = {"conditions": "Drawn in other ways than in training", "categories": "By category of prompts"}


def print_outcome(figures: Mapping[str, Any], console: Console) -> None:
    """Prints what of it the figures of the evaluate stage hold."""
    for key, title in _TITLES.items():
        rows: Sequence[Mapping[str, Any]] = figures.get(key) or []
        if rows:
            console.print(_table(rows, next(iter(rows[0])), title))
    found = figures.get("exploitation")
    if found:
        style = _STYLES.get(found["verdict"], "bold")
        console.print(f"Was the reward exploited? [{style}]{found['verdict']}[/]: {found['reason']}", highlight=False)
    variety = figures.get("variety")
    if variety:
        low, high = variety["low"], variety["high"]
        ends = f" \\[{100 * low:.0f} %, {100 * high:.0f} %]" if low is not None and high is not None else ""
        console.print(f"Variety of the tuned model's images: {100 * variety['share']:.0f} %{ends} of the base's")


def print_choice(figures: Mapping[str, Any], console: Console) -> None:
    """Prints the comparison of annotators and whom it recommends, where the annotate stage made one."""
    found = figures.get("choice")
    if not found:
        return
    title = f"Annotators by the answers of {found['truth']}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("annotator", no_wrap=True)
    for column in ("accuracy [95 %]", "usd for 1,000", "tokens sent", "bias", "flips"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in found["rows"]:
        ends = "" if row["low"] is None else f" \\[{row['low']:.3f}, {row['high']:.3f}]"
        numbers = (
            ("usd", "{:.4f}"), ("request_tokens", "{:.0f}"), ("bias", "{:.2f}"), ("flip_rate", "{:.3f}")
        )  # fmt: skip
        cells = ("?" if row[key] is None else form.format(row[key]) for key, form in numbers)
        table.add_row(row["annotator"], f"{row['accuracy']:.3f}{ends}", *cells)
    console.print(table)
    console.print(f"Recommended: [bold]{found['recommended']}[/]. {found['reason']}", highlight=False)


def _table(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in (key, "scorer", "prompts", "gain [95 %]", "win/tie/lose", "p"):
        table.add_column(column, justify="left" if column in (key, "scorer") else "right", no_wrap=True)
    for row in rows:
        ends = "" if row["low"] is None else f" \\[{row['low']:+.3f}, {row['high']:+.3f}]"
        counts = f"{row['wins']}/{row['ties']}/{row['losses']}"
        gain = f"{row['gain']:+.3f}{ends}"
        table.add_row(row[key], row["scorer"], str(row["prompts"]), gain, counts, f"{row['p_adjusted']:.3f}")
    return table
