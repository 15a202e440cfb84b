"""The table of reward models: how often each scorer prefers what each test set's people or annotators prefer."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from scipy.special import expit as sigmoid

from vp_ray.evaluate.test_sets import TestSet, differences, generators_wins, measured, scored
from vp_ray.maths.calibration import pair_calibration
from vp_ray.maths.one_rater import one_against_the_others
from vp_ray.maths.pair_accuracy import RULE, Averaging, PairAccuracy, pair_accuracy
from vp_ray.models.floors import FLOORS
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.reward import VPScore

AVERAGES: Final[Mapping[str, Averaging]] = {"micro": "pairs", "macro": "prompts"}
ONE_PERSON: Final = "one person"
_KINDS: Final = ("scorer", "floor", "people")
_TITLES: Final = {
    "micro": "Accuracy in %, pooled over pairs (micro)",
    "macro": "Accuracy in %, mean over prompts (macro)",
    "within": "Accuracy in %, pooled over pairs of one generator",
    "across": "Accuracy in %, pooled over pairs of two generators",
}

Rows = list[dict[str, Any]]


def table_rows(scorers: Mapping[str, PictureScorer], tests: Sequence[TestSet], tell: Callable[[str], None]) -> Rows:
    """One row a test set and scorer: accuracies with their intervals, counts and calibration.

    Beside the scorers stand floors, which know nothing of the prompt, and, where single people's answers are known,
    one person against the others. `tell` hears what is being scored.
    """
    rows: Rows = []
    for test in tests:
        for name, scorer in scorers.items():
            tell(f"{name} scores {test.name}")
            scores = scored(scorer, test)
            scale = _raw_scale(scorer, test.aspect)
            rows.append(_row(test, name, "scorer", scores) | _calibrated(test, scores, scale))
        floors = measured(FLOORS, test)
        wins = generators_wins(test)
        for name, values in (floors | ({"generator": wins} if wins else {})).items():
            rows.append(_row(test, name, "floor", values))
        if test.votes:
            rows.append(_people(test))
    return rows


def _raw_scale(scorer: PictureScorer, aspect: str) -> float:
    """What a difference of scores is multiplied by to be one of raw scores, in which a Bradley-Terry model is trained;
    scorers that do not say are taken as they are."""
    if not isinstance(scorer, VPScore):
        return 1.0
    measured_on = scorer.config.normalisation
    if aspect in scorer.aspects:
        return float(measured_on.std[scorer.aspects.index(aspect)])
    return float(measured_on.overall_std)


def _row(test: TestSet, name: str, kind: str, scores: Mapping[str, float]) -> dict[str, Any]:
    found = {key: pair_accuracy(*differences(scores, test.pairs), averaging=by) for key, by in AVERAGES.items()}
    for key, same in (("within", True), ("across", False)):
        part = [row for row in test.pairs if row["same_generator"] is same]
        if part:
            found[key] = pair_accuracy(*differences(scores, part))
    return _told(test, name, kind, found)


def _people(test: TestSet) -> dict[str, Any]:
    found = {key: one_against_the_others(test.votes, by) for key, by in AVERAGES.items()}
    return _told(test, ONE_PERSON, "people", found)


def _told(test: TestSet, name: str, kind: str, found: Mapping[str, PairAccuracy]) -> dict[str, Any]:
    row: dict[str, Any] = {"test_set": test.name, "aspect": test.aspect, "scorer": name, "kind": kind}
    micro = found["micro"]
    row |= {"pairs": micro.pairs, "label_ties": micro.label_ties, "score_ties": micro.score_ties}
    row |= {"pairs_without_pictures": test.without_pictures}
    for key in _TITLES:
        result = found.get(key)
        interval = result.accuracy if result else None
        row |= {key: interval and interval.mean, f"{key}_low": interval and interval.low}
        row |= {f"{key}_high": interval and interval.high}
    return row


def _calibrated(test: TestSet, scores: Mapping[str, float], scale: float) -> dict[str, Any]:
    first, second, labels, _ = differences(scores, test.pairs)
    found = pair_calibration(sigmoid(scale * (first - second)), labels)
    return {"calibration_error": found.error, "reliability": [asdict(each) for each in found.bins]}


def as_json(rows: Rows) -> dict[str, Any]:
    """The rule and the rows, with each scorer's reliability curve."""
    return {"rule": RULE, "rows": rows}


def as_csv(rows: Rows) -> str:
    """The rows without reliability curves, one line each."""
    sink = io.StringIO()
    columns = [name for name in rows[0] if name != "reliability"]
    writer = csv.DictWriter(sink, columns, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def as_text(rows: Rows) -> str:
    """The tables in the paper's layout: a row a scorer, a column a test set, and the rule below."""
    parts = []
    for key, title in _TITLES.items():
        if any(row[key] is not None for row in rows):
            parts.append(f"{title}\n\n{_grid(rows, key)}")
    return "\n\n".join([*parts, f"Rule: {RULE}."]) + "\n"


def _grid(rows: Rows, key: str) -> str:
    tests = list(dict.fromkeys(row["test_set"] for row in rows))
    kinds = {row["scorer"]: row["kind"] for row in rows}
    cells = {(row["scorer"], row["test_set"]): _cell(row, key) for row in rows if row[key] is not None}
    names = sorted(kinds, key=lambda name: _KINDS.index(kinds[name]))
    lines = [["", *tests]]
    lines += [[name, *(cells.get((name, test), "-") for test in tests)] for name in names]
    counts = {row["test_set"]: row["pairs"] for row in rows if row["kind"] == "floor"}
    if key == "micro":
        lines.append(["pairs", *(str(counts.get(test, "-")) for test in tests)])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(row: Mapping[str, Any], key: str) -> str:
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * row[key]:.1f}{interval}"
