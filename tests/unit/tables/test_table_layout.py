"""Tables hold what their runs gave: accuracies and differences over seeds, wins against each other method."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.tables.conftest import evaluated_run, judged_run
from vp_ray.errors import InputError, SettingsError
from vp_ray.maths.intervals import Interval
from vp_ray.maths.seeds import over_seeds
from vp_ray.storage import Manifest
from vp_ray.tables.accuracy import Scores, accuracy_table
from vp_ray.tables.config import TablesSettings
from vp_ray.tables.job import lay_out
from vp_ray.tables.layout import as_csv, as_markdown
from vp_ray.tables.runs import planned_runs, run_folder
from vp_ray.tables.wins import condition_table, win_table

MakeSettings = Callable[..., TablesSettings]


def test_the_interval_of_seeds_is_the_wider_of_students_and_the_bootstraps() -> None:
    apart = over_seeds([Interval(0.6, 0.59, 0.61), Interval(0.7, 0.69, 0.71), Interval(0.8, 0.79, 0.81)])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (apart.mean, apart.low, apart.high) == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    alike = over_seeds([Interval(0.7, 0.6, 0.8)] * 4)
    assert (alike.low, alike.high) == pytest.approx((0.65, 0.75)), "0.1 x sqrt(4) / 4"
    shared = over_seeds([Interval(0.7, 0.6, 0.8)] * 4, shared=True)
    assert (shared.low, shared.high) == pytest.approx((0.6, 0.8)), "the same sample four times is one sample"
    assert over_seeds([Interval(0.7, None, None)]) == Interval(0.7, None, None)


def test_wins_are_counted_against_every_other_row_and_rates_against_the_base(settings: MakeSettings) -> None:
    found = settings()
    for seed in found.seeds:
        evaluated_run(run_folder(found, seed, "ddpo"), {"p": (1, 3), "q": (1, 2), "r": (2, 1), "s": (2, 2)})
        evaluated_run(run_folder(found, seed, "dpo"), {"p": (1, 2), "q": (1, 2), "r": (2, 3), "s": (2, 2)})
    table = win_table(found, found.wins[0], found.seeds)
    rows = {row["method"]: row for row in table["rows"]}
    # Each seed: base beats DDPO on r; DDPO beats base on p, q and DPO on p; DPO beats base on p, q, r and DDPO on r.
    assert {name: row["wins"] for name, row in rows.items()} == {"base": 2, "DDPO": 6, "DPO": 8}
    assert rows["DDPO"]["comparisons"] == 16
    assert rows["DDPO"]["rate"]["mean"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert rows["DPO"]["gain"]["mean"] == pytest.approx(0.75)
    assert rows["base"]["rate"] is None
    assert rows["DPO"]["p_value"] == pytest.approx(2 * 0.5**6)
    assert rows["DPO"]["p_adjusted"] == pytest.approx(2 * 2 * 0.5**6)
    text = as_markdown([table])
    assert "| DPO | 8 of 16 | 87.5 [" in text
    assert "over the seeds" not in text or "2 seeds" in text


def test_gains_stand_by_way_of_drawing_over_the_seeds(settings: MakeSettings) -> None:
    table = {"title": "Other ways", "methods": {"DDPO": "ddpo"}}
    found = settings(conditions=[table])
    row = {"scorer": "oracle", "aspect": "overall", "low": 0.1, "high": 0.3}
    for seed in found.seeds:
        figures = {
            "comparison": [row | {"gain": 0.2 + 0.1 * seed}],
            "conditions": [row | {"gain": 0.1, "condition": "guidance_3"}],
        }
        run_folder(found, seed, "ddpo").stage("evaluate").finish(Manifest("evaluate", {}, {}, {}, 0.0, figures=figures))
    made = condition_table(found, found.conditions[0], found.seeds)
    assert {row["condition"]: row["gain"]["mean"] for row in made["rows"]} == {
        "as evaluated": pytest.approx(0.25),
        "guidance_3": pytest.approx(0.1),
    }
    assert "| guidance 3 | +0.10 [+0.03, +0.17] |" in as_markdown([made]), "0.1 / sqrt(2) on either side"
    other = found.conditions[0].model_copy(update={"scorer": "pick"})
    with pytest.raises(InputError, match="'pick' scored no condition"):
        condition_table(found, other, found.seeds)


def test_a_split_that_nobody_drew_and_a_scorer_that_nobody_asked_are_named(settings: MakeSettings) -> None:
    found = settings(seeds=[0])
    for name in ("ddpo", "dpo"):
        evaluated_run(run_folder(found, 0, name), {"p": (1, 3)}, split="compositional")
    with pytest.raises(InputError, match="no prompt of the split 'held_out' was drawn by all methods"):
        win_table(found, found.wins[0], found.seeds)
    other = found.wins[0].model_copy(update={"scorer": "pick"})
    with pytest.raises(InputError, match=r"'pick' gave no scores of 'overall'.*Choose of: oracle"):
        win_table(found, other, found.seeds)


def test_accuracies_stand_by_test_set_with_floors_and_differences(settings: MakeSettings, tmp_path: Path) -> None:
    judged_run(tmp_path / "right", lambda number: 1.0)
    judged_run(tmp_path / "half", lambda number: float(number % 2))
    tests = {
        "right": {"path": str(tmp_path / "right")},
        "half": {"path": str(tmp_path / "half"), "split": "held_out"},
        "own": {"path": str(tmp_path / "right"), "same_generator": True},
    }
    scorers = {"one": str(tmp_path / "vp"), "again": str(tmp_path / "vp")}
    table = {"title": "Scorers", "tests": tests, "scorers": scorers, "floors": True, "against": "one"}
    found = settings(accuracy=[table], wins=[], seeds=[0, 1])
    from vp_ray.models.reward import VPScore

    VPScore.from_backbone("embedded:blip", seed=3).save_pretrained(tmp_path / "vp")
    told: list[str] = []
    made = accuracy_table(found, found.accuracy[0], found.seeds, Scores(found, told.append))
    cells = {(row["scorer"], row["test_set"]): row for row in made["rows"]}
    assert cells["file_bytes", "right"]["accuracy"] != cells["one", "right"]["accuracy"]
    # The test sets are the same for both seeds, and so are the scores.
    assert cells["one", "right"]["pairs"] == 2 * 6 * 6
    assert cells["one", "own"]["pairs"] == 2 * 6 * 2
    assert cells["one", "right"]["by_seed"]["0"] == cells["one", "right"]["by_seed"]["1"]
    assert cells["again", "right"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert cells["one", "right"]["difference"] is None
    assert cells["sharpness", "half"]["accuracy"] == pytest.approx(0.5, abs=0.25)
    lines = list(csv.DictReader(io.StringIO(as_csv(made))))
    assert float(lines[0]["accuracy"]) == made["rows"][0]["accuracy"]
    assert "| again | " in as_markdown([made])
    before = len(told)
    accuracy_table(found, found.accuracy[0], found.seeds, Scores(found, told.append))
    assert len(told) == before, "scores are kept"


def test_each_table_has_the_seeds_that_are_whole_for_it(settings: MakeSettings) -> None:
    found, told = settings(), list[str]()
    with pytest.raises(SettingsError, match="no table has all of its runs"):
        lay_out(found, told.append)
    assert told == ["'Wins' waits for ddpo, dpo"]
    for run in planned_runs(found, 1):
        for stage in run.own:
            if stage not in ("prompts", "evaluate"):
                run.folder.stage(stage).finish(Manifest(stage, {}, {}, {}, 0.0))
        evaluated_run(run.folder, {"p": (1, 3), "q": (1, 2)})
    (table,) = lay_out(found, told.append)
    assert table["seeds"] == [1]
    text = (Path(found.folder) / "tables.md").read_text()
    assert text == as_markdown([table])
    assert "summed over the rows and 1 seed." in text
    assert (Path(found.folder) / "wins.csv").is_file()
