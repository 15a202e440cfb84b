"""Likeness of prompts, by hand; and the ancestry of tuned images."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vp_ray.records import ASPECTS
from vp_ray.report.assets import Assets
from vp_ray.report.reading import RunReader
from vp_ray.report.sections.calibration import calibration_charts, calibration_rows
from vp_ray.report.sections.lineage import NEAREST, lineage
from vp_ray.report.sections.nearest import Prompts
from vp_ray.storage import Folder, RunFolder


def test_likeness_is_the_weight_of_shared_words_over_all_of_them() -> None:
    known = Prompts({"a": "red circle", "b": "red square", "c": "blue moon"})
    rare, common = math.log(1 + 3 / 1), math.log(1 + 3 / 2)
    (first, second) = known.nearest("A red, round circle", 2)
    unseen = 2 * math.log(1 + 3)
    assert first == ("a", pytest.approx((rare + common) / (rare + common + unseen)))
    assert second == ("b", pytest.approx(common / (2 * rare + common + unseen)))
    assert known.nearest("Red CIRCLE", 1) == [("a", pytest.approx(1.0))]
    assert known.nearest("nothing alike", 5) == []


def test_each_tuned_image_has_every_judgement_of_its_nearest_training_prompts(
    finished_run: RunFolder, tmp_path: Path
) -> None:
    reader, assets = RunReader(finished_run), Assets(Folder.at(tmp_path), side=64)
    found = lineage(reader, assets, 3)
    assert found is not None
    assert len(found.descents) == 3
    judged = finished_run.stage("annotate").read_table("judgements.parquet").to_pylist()
    for descent in found.descents:
        assert len(descent.ancestors) == NEAREST
        assert [aspect for aspect, _, _ in descent.scores] == list(ASPECTS)
        likenesses = [ancestor.likeness for ancestor in descent.ancestors]
        assert likenesses == sorted(likenesses, reverse=True)
        for ancestor in descent.ancestors:
            theirs = {row["judgement_id"]: row for row in judged if row["prompt"] == ancestor.prompt}
            assert {one.judgement_id for one in ancestor.said} == set(theirs)
            assert all(one.status == theirs[one.judgement_id]["status"] for one in ancestor.said)
            assert all(image.picture is not None for image in ancestor.images)
            scored = [one for one in ancestor.said if one.status == "scored"]
            assert all(sorted(one.order) == list(range(1, len(ancestor.images) + 1)) for one in scored)
    totals = finished_run.stage("preferences").read_table("preferences.parquet")
    assert found.preferences == totals.num_rows
    assert found.reward == finished_run.stage("reward").finished().fingerprint


def test_the_data_of_the_lineage_has_each_level_and_its_rationale(finished_run: RunFolder, tmp_path: Path) -> None:
    reader, assets = RunReader(finished_run), Assets(Folder.at(tmp_path), side=64)
    found = lineage(reader, assets, 1)
    assert found is not None
    address = assets.add_data("lineage", found.rows)
    assert address is not None
    rows = list(csv.DictReader(io.StringIO(assets.folder.read_bytes(address).decode())))
    scored = [row for row in rows if row["status"] == "scored"]
    assert scored
    assert all(row["rationale"] and 1 <= int(row["level"]) <= 5 and int(row["place"]) >= 1 for row in scored)
    told = sum(len(one.order) * len(ASPECTS) for one in found.descents[0].ancestors[0].said if one.status == "scored")
    assert sum(row["training_prompt"] == found.descents[0].ancestors[0].prompt for row in scored) == told


def test_a_run_without_an_evaluation_or_preferences_has_no_lineage(
    made_run: Callable[..., Any], tmp_path: Path
) -> None:
    made = made_run(2)
    made.evaluate()
    assert lineage(RunReader(made.run), Assets(Folder.at(tmp_path), side=64), 3) is None


def test_a_reliability_curve_is_drawn_for_each_aspect_that_was_measured() -> None:
    bins = [
        {"low": 0.5, "high": 0.55, "pairs": 10, "predicted": 0.52, "observed": 0.6},
        {"low": 0.9, "high": 0.95, "pairs": 30, "predicted": 0.93, "observed": 0.9},
    ]
    figures = {"calibration": {"overall": {"error": 0.0425, "bins": bins}, "fidelity": {"error": None, "bins": []}}}
    (chart,) = calibration_charts(figures)
    assert chart.title == "Overall"
    assert chart.note == "expected calibration error 4.2 % over 40 pairs"
    assert "VP-Score, predicted % 52: 60" in chart.svg
    assert [row["pairs"] for row in calibration_rows(figures)] == [10, 30]
    assert calibration_charts({}) == calibration_charts({"calibration": None}) == []
