"""The checks of the preferences stage (`quality.json`) as tables for the card; parts that a run lacks are left out.

Examples, which quote prompts, stay in the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vp_ray.records import OVERALL

_PREDICTORS: Final = {
    "sharpness": "the sharper image",
    "brightness": "the brighter image",
    "file_bytes": "the larger file",
    "generator": "the generator that wins elsewhere",
    "guidance": "the image drawn with more guidance",
    "position": "the image that was shown earlier",
}


@dataclass(frozen=True, slots=True)
class CheckTable:
    """One check: a sentence, and a table that may be empty."""

    sentence: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def check_tables(found: Any) -> list[CheckTable]:
    """The tables of the content of `quality.json`."""
    if not isinstance(found, Mapping):
        return []
    parts = (_predictors, _splits, _overlap, _win_rates, _guidance, _agreement, _drift)
    return [table for part in parts for table in part(found)]


def _predictors(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    part = _part(found, "predictors")
    rows = tuple(
        (
            _PREDICTORS.get(row["predictor"], row["predictor"]),
            _share(row["accuracy"]),
            _range(row),
            _count(row["pairs"]),
        )
        for row in part.get("rows", ())
    )
    if rows:
        yield CheckTable(
            f"What rules that know nothing of the content predict of decided pairs ({_words(part.get('aspect'))}); a "
            "model that learns from these pairs should do better than each:",
            ("always take", "right", "95 % interval", "pairs"),
            rows,
        )


def _splits(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    part = _part(found, "splits")
    if part:
        yield CheckTable(
            f"{_count(part.get('near_duplicates'))} prompts are near-duplicates of another one; "
            f"{_count(part.get('clusters_in_several_splits'))} groups of them reach into more than one split "
            f"({_count(part.get('prompts_moved'))} prompts were moved so that they do not)."
        )


def _overlap(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    part = _part(found, "overlap")
    lists = _part(part, "lists")
    if not lists:
        if part:
            yield CheckTable("Overlap with public test prompts was not looked for.")
        return
    what = "were removed" if part.get("removed") else "are still inside"
    yield CheckTable(
        f"{_count(part.get('prompts'))} prompts are on a list of public test prompts, or nearly so; they {what}:",
        ("list", "prompts on it", "equal", "nearly equal"),
        tuple(
            (name, _count(row.get("list")), _count(row.get("equal")), _count(row.get("near")))
            for name, row in sorted(lists.items())
        ),
    )


def _win_rates(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    rates = _part(found, "generators")
    names = sorted({name for row in rates.values() for name in row})
    if len(names) > 1:
        yield CheckTable(
            "How often a generator's image is preferred to another generator's:",
            ("aspect", *names),
            tuple(
                (_words(aspect), *(_share(_part(row, name).get("win_rate")) for name in names))
                for aspect, row in rates.items()
            ),
        )


def _guidance(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    rows = _part(found, "guidance").get(OVERALL) or ()
    if len(rows) > 1:
        yield CheckTable(
            "How often an image is preferred overall to one of another guidance, by its own:",
            ("guidance", "preferred", "pairs"),
            tuple(
                (f"{row['from']:.1f} to {row['to']:.1f}", _share(row["win_rate"]), _count(row["pairs"])) for row in rows
            ),
        )


def _agreement(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    part = _part(found, "agreement")
    rows = []
    for key, who in (("alpha_of_answers", "all answers"), ("alpha_between_annotators", "between annotators")):
        for aspect, alpha in _part(_part(part, "annotators"), key).items():
            if alpha is not None:
                rows.append((who, _words(aspect), f"{alpha:.2f}"))
    for key, who in (("people", "people"), ("annotators_choosing", "annotators")):
        for name, aspects in _part(part, key).items():
            for aspect, row in aspects.items():
                if row.get("alpha") is not None:
                    rows.append((f"{who}, by {name}", _words(aspect), f"{row['alpha']:.2f}"))
    if rows:
        yield CheckTable(
            "Krippendorff's alpha (1 is agreement, 0 is chance):", ("between", "aspect", "alpha"), tuple(rows)
        )


def _drift(found: Mapping[str, Any]) -> Iterator[CheckTable]:
    rows = tuple(
        (name, _words(aspect), f"{row['change']:+.2f}", _range(row, "+.2f"))
        for name, one in _part(found, "drift").items()
        for aspect, row in _part(one, "aspects").items()
        if row.get("change") is not None
    )
    if rows:
        yield CheckTable(
            "How answers changed from the first to the last:", ("who", "what", "change", "95 % interval"), rows
        )


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, Mapping) else {}


def _words(name: Any) -> str:
    return str(name).replace("_", " ")


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "\N{EN DASH}"


def _share(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else "\N{EN DASH}"


def _range(row: Mapping[str, Any], form: str | None = None) -> str:
    low, high = row.get("low"), row.get("high")
    if low is None or high is None:
        return "\N{EN DASH}"
    return f"{low:{form}} to {high:{form}}" if form else f"{_share(low)} to {_share(high)}"
