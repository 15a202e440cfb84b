"""Prints what the votes say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from vp_ray.maths.intervals import Interval
from vp_ray.vote.results import Calibration, VoteResult


def print_results(found: Sequence[tuple[VoteResult, Sequence[Calibration]]], as_json: bool) -> None:
    """One line an aspect, then one a scorer; or one JSON object."""
    if as_json:
        told = [asdict(result) | {"scorers": [asdict(scorer) for scorer in scorers]} for result, scorers in found]
        print(json.dumps({"aspects": told}))
        return
    console = Console()
    columns = ("aspect", "raters", "votes", "tuned preferred", "left preferred", "same when turned", "raters agree")
    table = _table("What people prefer", columns)
    for result, _ in found:
        table.add_row(
            result.aspect,
            str(result.raters),
            f"{result.votes}" + (f" (+{result.abstentions} abstained)" if result.abstentions else ""),
            _interval(result.tuned_preferred),
            f"{result.left_preferred:.3f}",
            _share(result.same_when_turned),
            _share(result.raters_agree),
        )
    console.print(table)
    rows = [scorer for _, scorers in found for scorer in scorers]
    if not rows:
        return
    table = _table("Scorers by these votes", ("scorer", "aspect", "agreement", "pairs", "slope"))
    for scorer in rows:
        accuracy = scorer.agreement.accuracy
        agreement = "" if accuracy is None else _interval(accuracy)
        table.add_row(scorer.scorer, scorer.aspect, agreement, str(scorer.agreement.pairs), _share(scorer.slope))
    console.print(table)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("aspect", "scorer") else "right")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(found: Interval) -> str:
    """`0.712 \\[0.6, 0.8]`, escaped for rich; the mean alone where one prompt gives no interval."""
    known = found.low is not None and found.high is not None
    return f"{found.mean:.3f}" + (f" \\[{found.low:.3f}, {found.high:.3f}]" if known else "")
