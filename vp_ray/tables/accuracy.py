"""Tables of scorers: how often each prefers what the labels of each test set prefer, over all seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vp_ray.evaluate.test_sets import TestSet, differences, generators_wins, measured, read_test_set, scored
from vp_ray.ids import content_id
from vp_ray.maths.intervals import Interval, clustered_mean
from vp_ray.maths.pair_accuracy import pair_accuracy
from vp_ray.maths.seeds import over_seeds
from vp_ray.models.floors import FLOORS
from vp_ray.models.scorers import load_scorer
from vp_ray.storage import Folder
from vp_ray.tables.config import AccuracyTableSettings, TablesSettings, TestSetSettings
from vp_ray.tables.runs import run_folder

_CHECKPOINT: Final = "checkpoint"
_GENERATOR: Final = "generator"


@dataclass(frozen=True, slots=True)
class Row:
    """One scorer of a seed on one test set: the agreement with each decided pair, and the pairs' prompts."""

    agreement_N: NDArray[np.float64]
    prompts_N: NDArray[np.str_]
    accuracy: Interval
    pairs: int


Cells = dict[tuple[str, str], dict[int, Row]]
"""By (scorer, test set) and seed."""


class Scores:
    """Scores of the test sets' images, kept in a folder so that tables are laid out anew without any network."""

    def __init__(self, settings: TablesSettings, tell: Callable[[str], None]) -> None:
        self._settings, self._tell = settings, tell
        self._folder = Folder.at(settings.folder) / "scores"
        self._tests: dict[tuple[str, str], TestSet] = {}

    def test(self, wanted: TestSetSettings, seed: int, aspect: str) -> TestSet:
        """All pairs of the run behind a test set."""
        place = wanted.path if wanted.run is None else run_folder(self._settings, seed, wanted.run).uri
        assert place is not None, "checked when the file was read"  # noqa: S101
        if (place, aspect) not in self._tests:
            self._tests[place, aspect] = read_test_set(place, place, aspect)
        return self._tests[place, aspect]

    def of(self, scorer: str, test: TestSet, seed: int) -> dict[str, float]:
        """By image the score of a row of the table."""
        place, version = self._checkpoint(scorer, seed)
        made = test.folder.stage("preferences").finished().fingerprint
        name = f"{content_id(place, version, test.folder.uri, made, test.aspect)}.parquet"
        if self._folder.exists(name):
            kept = self._folder.read_table(name)
            return dict(zip(kept["image_id"].to_pylist(), kept["score"].to_pylist(), strict=True))
        self._tell(f"{scorer} of seed {seed} scores {test.folder.uri.rpartition('/')[2]}")
        found = scored(load_scorer(place), test)
        table = pa.table({"image_id": list(found), "score": list(found.values())})
        self._folder.make().write_table(name, table)
        return found

    def _checkpoint(self, scorer: str, seed: int) -> tuple[str, str]:
        """Where a scorer lies, and what names its content."""
        run, _, variant = scorer.partition("/")
        if run not in self._settings.runs:
            return scorer, ""
        stage = run_folder(self._settings, seed, run).stage("reward")
        folder = stage / "variants" / variant if variant else stage
        return (folder / _CHECKPOINT).uri, stage.finished().fingerprint


def accuracy_table(
    settings: TablesSettings, table: AccuracyTableSettings, seeds: Sequence[int], scores: Scores
) -> dict[str, Any]:
    """The title, and a row for each scorer and test set: accuracy over the seeds with its interval, and the difference
    to the row that the table compares with."""
    cells: Cells = {}
    kinds: dict[str, str] = {}
    for seed in seeds:
        for column, wanted in table.tests.items():
            whole = scores.test(wanted, seed, table.aspect)
            test = _narrowed(whole, wanted)
            for name, scorer in table.scorers.items():
                kinds[name] = "scorer"
                cells.setdefault((name, column), {})[seed] = _row(scores.of(scorer, whole, seed), test)
            for name, values in _floors(whole, test).items() if table.floors else ():
                kinds[name] = "floor"
                cells.setdefault((name, column), {})[seed] = _row(values, test)
    rows = [_told(table, cells, name, column, kind) for name, kind in kinds.items() for column in table.tests]
    return {"title": table.title, "kind": "accuracy", "against": table.against, "seeds": list(seeds), "rows": rows}


def _narrowed(test: TestSet, wanted: TestSetSettings) -> TestSet:
    kept = [
        row
        for row in test.pairs
        if wanted.split in (None, row["split"]) and wanted.same_generator in (None, row["same_generator"])
    ]
    return replace(test, pairs=tuple(kept))


def _floors(whole: TestSet, test: TestSet) -> Mapping[str, Mapping[str, float]]:
    wins = generators_wins(test)
    return measured(FLOORS, whole) | ({_GENERATOR: wins} if wins else {})


def _row(scores: Mapping[str, float], test: TestSet) -> Row:
    first, second, labels, prompts = differences(scores, test.pairs)
    found = pair_accuracy(first, second, labels, prompts)
    decided = labels != 0.5
    agreement = ((1 + np.sign(first - second) * np.sign(labels - 0.5)) / 2)[decided]
    if found.accuracy is None:
        return Row(agreement, np.array([], np.str_), Interval(float("nan"), None, None), 0)
    return Row(agreement, np.asarray(prompts)[decided], found.accuracy, found.pairs)


def _told(table: AccuracyTableSettings, cells: Cells, name: str, column: str, kind: str) -> dict[str, Any]:
    found = {seed: row for seed, row in cells[name, column].items() if row.pairs}
    shared = table.tests[column].path is not None
    row: dict[str, Any] = {"scorer": name, "kind": kind, "test_set": column, "aspect": table.aspect}
    row["pairs"] = sum(one.pairs for one in found.values())
    mean = over_seeds([one.accuracy for one in found.values()], shared=shared) if found else None
    row |= {"accuracy": mean and mean.mean, "low": mean and mean.low, "high": mean and mean.high}
    row["by_seed"] = {str(seed): one.accuracy.mean for seed, one in found.items()}
    row["difference"] = None
    if table.against is not None and name != table.against and found:
        other = cells[table.against, column]
        gaps = [clustered_mean(one.agreement_N - other[seed].agreement_N, one.prompts_N) for seed, one in found.items()]
        row["difference"] = asdict(over_seeds(gaps, shared=shared))
    return row
