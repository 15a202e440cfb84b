"""Wires the table of reward models: scorers and runs by name in, three files out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from vp_ray.errors import SettingsError
from vp_ray.evaluate.reward_table import as_csv, as_json, as_text, table_rows
from vp_ray.evaluate.test_sets import read_test_set
from vp_ray.models.scorers import load_scorer


def make_table(
    scorers: Sequence[str],
    tests: Sequence[str],
    aspect: str,
    out: Path,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """The table as text, also written to `out` as `rewards.txt`, `rewards.json` and `rewards.csv`.

    Both lists hold `NAME=PLACE` or places alone, which then are their own names. Raises `SettingsError` where no test
    set is given or two have one name.
    """
    if not tests:
        raise SettingsError("there is no test set", "Give a finished run: --test hpdv2=runs/hpdv2.", "--test")
    sets = [read_test_set(name, place, aspect) for name, place in _named(tests, "--test").items()]
    loaded = {name: load_scorer(place, device) for name, place in _named(scorers, "--scorer").items()}
    rows = table_rows(loaded, sets, tell)
    text = as_text(rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rewards.json").write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")
    (out / "rewards.csv").write_text(as_csv(rows), encoding="utf-8")
    (out / "rewards.txt").write_text(text, encoding="utf-8")
    return text


def _named(values: Sequence[str], option: str) -> dict[str, str]:
    """By name what each value names; a value without `=` is its own name."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, place = value.partition("=")
        # An option of a scorer (KIND:PLACE,OPTION=VALUE) and a URI's query hold `=` too, after `:` or `/`.
        if not equals or any(mark in name for mark in ":/,"):
            name, place = value, value
        if name in found or not place:
            raise SettingsError(f"'{value}' is named twice or names nothing", "Write NAME=PLACE.", option)
        found[name] = place
    return found
