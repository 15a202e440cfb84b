"""What was checked of the preferences before publishing: trivial predictors, win rates, agreement, drift, leaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from vp_ray.report.formatting import is_number
from vp_ray.report.interval_chart import interval_axis, interval_row, interval_scale
from vp_ray.report.reading import RunReader

_CHANCE: Final = 0.5
_NAMES: Final = {
    "sharpness": "the sharper image wins",
    "brightness": "the brighter image wins",
    "file_bytes": "the larger file wins",
    "generator": "the generator that wins elsewhere wins",
    "guidance": "the image drawn with more guidance wins",
    "position": "the image that was shown earlier wins",
}


@dataclass(frozen=True, slots=True)
class Quality:
    """The rows of the tables; each is empty where the run has nothing for it."""

    splits: Mapping[str, Any]
    lists: list[tuple[str, Mapping[str, Any]]]
    removed: bool
    predictors: list[tuple[str, Mapping[str, Any], Markup]]
    scale: Markup
    generators: list[tuple[str, str, Mapping[str, Any]]]
    """(aspect, generator, `{win_rate, pairs}`)."""
    guidance: list[tuple[str, Mapping[str, Any]]]
    agreement: list[tuple[str, str, float | None, float | None]]
    """(who, aspect, Krippendorff's alpha, share of equal verdicts)."""
    drift: list[tuple[str, str, Mapping[str, Any]]]
    """(annotator, aspect, `{change, low, high}`)."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """All numbers as rows of one table."""
        for name, row, _ in self.predictors:
            yield {"part": "predictor", "name": name, "aspect": "", "value": row["accuracy"]}
        for aspect, name, row in self.generators:
            yield {"part": "win_rate", "name": name, "aspect": aspect, "value": row["win_rate"]}
        for aspect, row in self.guidance:
            name = f"{row['from']:g} to {row['to']:g}"
            yield {"part": "guidance_win_rate", "name": name, "aspect": aspect, "value": row["win_rate"]}
        for who, aspect, alpha, _ in self.agreement:
            yield {"part": "alpha", "name": who, "aspect": aspect, "value": alpha}
        for who, aspect, row in self.drift:
            yield {"part": "drift", "name": who, "aspect": aspect, "value": row["change"]}


def quality(reader: RunReader) -> Quality | None:
    """The findings of `preferences/quality.json`; None where it is not there."""
    found = reader.json("preferences", "quality.json")
    if not isinstance(found, dict):
        return None
    overlap = _part(found, "overlap")
    predictors = [row for row in _part(found, "predictors").get("rows", []) if is_number(row.get("accuracy"))]
    scale = interval_axis([row.get(end) for row in predictors for end in ("accuracy", "low", "high")], _CHANCE)
    return Quality(
        splits=_part(found, "splits"),
        lists=sorted(_part(overlap, "lists").items()),
        removed=bool(overlap.get("removed")),
        predictors=[
            (
                _NAMES.get(row["predictor"], row["predictor"]),
                row,
                interval_row(row["accuracy"], row["low"], row["high"], scale, _CHANCE),
            )
            for row in predictors
        ],
        scale=interval_scale(scale),
        generators=[
            (aspect, name, row) for aspect, rates in _part(found, "generators").items() for name, row in rates.items()
        ],
        guidance=[(aspect, row) for aspect, rows in _part(found, "guidance").items() for row in rows],
        agreement=list(_agreement(_part(found, "agreement"))),
        drift=[
            (name, aspect, row)
            for name, one in _part(found, "drift").items()
            for aspect, row in _part(one, "aspects").items()
        ],
    )


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def _agreement(found: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None, float | None]]:
    annotators = _part(found, "annotators")
    for key, who in (("alpha_of_answers", "all answers"), ("alpha_between_annotators", "between annotators")):
        for aspect, alpha in _part(annotators, key).items():
            if alpha is not None:
                yield who, aspect, alpha, None
    for who, words in (("people", "people"), ("annotators_choosing", "annotators")):
        for name, aspects in _part(found, who).items():
            for aspect, row in aspects.items():
                yield f"{words}, by {name}", aspect, row.get("alpha"), row.get("same_verdict")
