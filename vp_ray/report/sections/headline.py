"""Did it get better: one sentence, one number with its interval, and what speaks against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from vp_ray.records import OVERALL
from vp_ray.report.formatting import count, number, signed, words
from vp_ray.report.interval_chart import share_bar

Verdict = Literal["better", "worse", "open", "missing"]
Row = Mapping[str, Any]

_TITLES: dict[Verdict, str] = {
    "better": "Tuning made the model better.",
    "worse": "Tuning made the model worse.",
    "open": "Tuning made no difference that can be told.",
    "missing": "This run has not been evaluated yet.",
}

_REACHED: dict[str, str] = {
    "prompts": "The prompts are ready.",
    "import": "The data set is in.",
    "generate": "The images are drawn.",
    "annotate": "The images are judged.",
    "preferences": "The preferences are made.",
    "reward": "VP-Score is trained.",
    "rl": "The model is tuned.",
}
"""The titles of runs that are to be nothing but this, by their last finished stage."""


@dataclass(frozen=True, slots=True)
class Headline:
    """What the page opens with."""

    verdict: Verdict
    title: str
    sentence: str
    caveats: tuple[str, ...] = ()
    row: Row | None = None
    """The row of the comparison that the sentence is about."""
    shares: Markup | None = None
    """Prompts won, tied and lost as a bar."""


def headline(
    comparison: Sequence[Row], reached: str | None, accuracy: str | None = None, evaluation_planned: bool = True
) -> Headline:
    """The headline by the first judge's overall gain; by VP-Score's own where no judge was asked.

    `reached` is the last finished stage and `accuracy` a sentence about VP-Score, for runs without an evaluation.
    """
    overall = [row for row in comparison if row["aspect"] == OVERALL]
    row = next((row for row in overall if row["unit"] == "level"), overall[0] if overall else None)
    if row is None and reached and not evaluation_planned:
        return Headline("missing", _REACHED[reached], accuracy or "The job asks for no comparison of two models.")
    if row is None:
        far = f"It has come as far as the stage '{reached}'." if reached else "No stage of it is finished."
        return Headline("missing", _TITLES["missing"], f"{far} {accuracy}" if accuracy else far)
    verdict = _verdict(row)
    bar = share_bar([("won", row["wins"], "won"), ("tied", row["ties"], "tied"), ("lost", row["losses"], "lost")])
    return Headline(verdict, _TITLES[verdict], _sentence(row), tuple(_caveats(row, comparison, verdict)), row, bar)


def _verdict(row: Row) -> Verdict:
    if row["low"] is not None and row["low"] > 0:
        return "better"
    if row["high"] is not None and row["high"] < 0:
        return "worse"
    return "open"


def interval(row: Row, digits: int = 2) -> str:
    """`0.15 to 0.27`, or that there is none."""
    if row["low"] is None:
        return "no interval: one prompt cannot tell"
    return f"{signed(row['low'], digits)} to {signed(row['high'], digits)}"


def _sentence(row: Row) -> str:
    unit = "levels" if row["unit"] == "level" else "standard deviations"
    prompts = f"{count(row['prompts'])} prompt" + ("" if row["prompts"] == 1 else "s")
    return (
        f"Judged by {row['scorer']}, the mean overall score went from {number(row['base'])} to {number(row['tuned'])}:"
        f" {signed(row['gain'])} {unit} (95 % interval {interval(row)}) over {prompts}, each drawn by both models from"
        " the same noise."
    )


def _caveats(row: Row, comparison: Sequence[Row], verdict: Verdict) -> list[str]:
    caveats = []
    if row["unit"] != "level":
        caveats.append("No judge was asked: VP-Score is what the model was tuned for, so it flatters the result.")
    lost = [
        f"{words(other['aspect'])} by {signed(other['gain'])} ({interval(other)})"
        for other in comparison
        if other["scorer"] == row["scorer"] and other["aspect"] != OVERALL and _verdict(other) == "worse"
    ]
    if lost:
        caveats.append(f"It lost in {'; '.join(lost)}.")
    flattered = _flattered(row, comparison, verdict)
    if flattered is not None:
        caveats.append(
            f"Over-optimisation is likely: {flattered['scorer']} sees a gain of {signed(flattered['gain'])}"
            f" ({interval(flattered)}) that {row['scorer']} does not see."
        )
    if verdict == "open" and row["detectable"] is not None:
        caveats.append(f"A comparison of this size finds a gain of {number(row['detectable'])} four times in five.")
    return caveats


def _flattered(row: Row, comparison: Sequence[Row], verdict: Verdict) -> Row | None:
    """A scorer's overall gain that is surely above zero, while the judge of the headline sees none."""
    if verdict == "better" or row["unit"] != "level":
        return None
    others = (other for other in comparison if other["aspect"] == OVERALL and other["unit"] == "score")
    return next((other for other in others if _verdict(other) == "better"), None)
