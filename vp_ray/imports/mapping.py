"""Tables of one's own, by a mapping of their columns."""

from __future__ import annotations

from typing import Any, Final

from vp_ray.imports.config import ColumnMapping, ImportSettings
from vp_ray.imports.groups import Choice, Group, Ranking, Rating, Shown
from vp_ray.imports.scales import level_on, seconds_of

_ANSWERS: Final = {"a": 1.0, "b": 0.0, "tie": 0.5, "none": None}


def of_table(row: Any, settings: ImportSettings) -> Group:
    """The group that one row is of; raises `KeyError`, `TypeError` or `ValueError` for what does not fit."""
    columns = settings.columns
    if columns is None:
        raise KeyError("columns")
    rater = str(row[columns.rater]) if columns.rater else "unknown"
    prompt = str(row[columns.prompt])
    if columns.layout == "pairs":
        images = (_shown(row, columns.image_a, columns.generator_a), _shown(row, columns.image_b, columns.generator_b))
        at = seconds_of(row[columns.answered_at]) if columns.answered_at else None
        return Group(prompt, images, choices=(Choice(rater, _answer(row, columns), columns.aspect, at),))
    image = _shown(row, columns.image, columns.generator)
    if columns.layout == "rankings":
        return Group(prompt, (image,), (Ranking(rater, (int(row[columns.rank]),)),))
    low, high = settings.scale or (1.0, 5.0)
    ratings = tuple(
        Rating(0, aspect, level_on(float(row[column]), low, high))
        for aspect, column in columns.ratings.items()
        if row[column] not in (None, "")
    )
    return Group(prompt, (image,), ratings=ratings)


def _shown(row: Any, image: str, generator: str | None) -> Shown:
    name = row[image]
    if not isinstance(name, str) or not name:
        raise ValueError(f"'{image}' is {name!r}, not the name of an image")
    return Shown(name, str(row[generator] or "unknown") if generator else "unknown")


def _answer(row: Any, columns: ColumnMapping) -> float | None:
    value = row[columns.answer]
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value).strip()
    if text not in columns.answers:
        raise ValueError(f"'{columns.answer}' is {text!r}, which import.columns.answers does not name")
    return _ANSWERS[columns.answers[text]]
