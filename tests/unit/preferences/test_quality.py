"""`quality.json` of a run in which it is known what wins: the predictors, the rates, and that the report shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.small_runs import small_run
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.job import run as run_import
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run
from vp_ray.records import ASPECTS, JUDGEMENTS, RATINGS
from vp_ray.report.config import ReportSettings
from vp_ray.report.job import run as write_report
from vp_ray.storage import Manifest, RunFolder


def judged_run(path: Path, prompts: int = 12, guided: bool = False) -> RunFolder:
    """Images of less noise are better (`seed` is the noise); both orders say so, the second one a minute later."""
    folder = small_run(path, prompts=prompts)
    made = folder.stage("generate").read_table("images")
    if guided:
        for name in ("strong", "weak"):
            table = folder.stage("generate").read_table(f"images/{name}.parquet")
            scale = pa.array(np.asarray(table["seed"]) + 1, pa.float32())
            table = table.set_column(table.schema.get_field_index("guidance_scale"), "guidance_scale", scale)
            folder.stage("generate").write_table(f"images/{name}.parquet", table)
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in made.to_pylist():
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    judgements, ratings = [], []
    for number, (prompt_id, images) in enumerate(by_prompt.items()):
        for turn, order in enumerate((images, images[::-1])):
            levels = [
                {"image_id": row["image_id"], "aspect": aspect, "level": 5 - row["seed"], "rationale": ""}
                for row in order
                for aspect in ASPECTS
            ]
            row = dict.fromkeys(JUDGEMENTS.names) | {"annotator": "judge", "status": "scored", "prompt_id": prompt_id}
            row |= {"judgement_id": f"{prompt_id}{turn}", "order": [one["image_id"] for one in order]}
            judgements.append(row | {"levels": levels, "answered_at": 1e9 + 60.0 * turn + number})
        for row in images:
            rating = {name: row[name] for name in ("image_id", "prompt_id", "generator")}
            rating |= {"mean": 5.0 - row["seed"], "standard_error": 0.3, "count": 2}
            ratings += [rating | {"aspect": aspect} for aspect in ASPECTS]
    annotate = folder.stage("annotate")
    annotate.write_table("judgements.parquet", pa.Table.from_pylist(judgements, schema=JUDGEMENTS))
    annotate.write_table("ratings.parquet", pa.Table.from_pylist(ratings, schema=RATINGS))
    annotate.finish(Manifest("annotate", {}, {}, {}, 0.0))
    return folder


def checked(folder: RunFolder, **settings: Any) -> dict[str, Any]:
    outcome = run(PreferenceSettings.load(settings), folder)
    folder.stage("preferences").finish(Manifest("preferences", {}, {}, outcome.rows, 0.0, figures=outcome.figures))
    return folder.stage("preferences").read_json("quality.json")


def test_what_wins_by_construction_is_found_by_each_trivial_rule(tmp_path: Path) -> None:
    found = checked(judged_run(tmp_path, guided=True))
    rows = {row["predictor"]: row for row in found["predictors"]["rows"]}
    # Noise makes pictures sharper by the Laplacian and their files larger, and every pair prefers less noise.
    assert rows["sharpness"]["accuracy"] < 0.05
    assert rows["file_bytes"]["accuracy"] < 0.25
    assert rows["guidance"]["accuracy"] == 0.0
    # Seeds 0 and 2 are strong, 1 and 3 weak: strong wins 3 of 4 pairs of both, and two of six pairs are within one.
    assert rows["generator"]["accuracy"] == pytest.approx((3 + 2 * 0.5) / 6)
    # Each order has its reverse, so that earlier images win as often as later ones.
    assert rows["position"]["accuracy"] == pytest.approx(0.5)
    assert rows["position"]["pairs"] == 12 * 2 * 6


def test_win_rates_by_generator_and_guidance(tmp_path: Path) -> None:
    found = checked(judged_run(tmp_path, guided=True))
    rates = found["generators"]["fidelity"]
    assert rates["strong"]["win_rate"] == pytest.approx(1 - rates["weak"]["win_rate"])
    assert 0.7 < rates["strong"]["win_rate"] < 0.8
    assert rates["strong"]["against"] == {"weak": pytest.approx(rates["strong"]["win_rate"])}
    assert rates["strong"]["pairs"] == 12 * 4
    guidance = found["guidance"]["fidelity"]
    assert guidance[0]["win_rate"] > 0.95
    assert guidance[-1]["win_rate"] < 0.05


def test_levels_agreement_and_drift_are_there(tmp_path: Path) -> None:
    found = checked(judged_run(tmp_path))
    assert found["levels"]["by_annotator"]["judge"]["fidelity"] == [0, 24, 24, 24, 24]
    assert found["levels"]["by_generator"]["weak"]["fidelity"] == [0, 12, 0, 12, 0]
    assert found["agreement"]["annotators"]["alpha_of_answers"]["fidelity"] == pytest.approx(1.0)
    assert found["drift"]["judge"]["aspects"]["fidelity"]["change"] == pytest.approx(0.0, abs=1e-9)
    assert json.dumps(found, allow_nan=False)


def test_no_picture_is_read_where_none_is_wanted(tmp_path: Path) -> None:
    found = checked(judged_run(tmp_path), checks={"predictor_prompts": 0})
    assert {row["predictor"] for row in found["predictors"]["rows"]} == {"generator", "position"}


def test_prompts_of_a_public_test_leave_the_pairs(tmp_path: Path) -> None:
    folder = judged_run(tmp_path)
    prompts = folder.stage("prompts").read_table("prompts.parquet").to_pylist()
    (tmp_path / "test.txt").write_text(prompts[0]["prompt"] + "\n")
    checks = {"test_prompts": {"own": str(tmp_path / "test.txt")}, "on_overlap": "remove", "near_duplicate": 0.99}
    found = checked(folder, checks=checks)
    assert found["overlap"]["lists"]["own"]["equal"] == 1
    left = folder.stage("preferences").read_table("preferences.parquet")["prompt_id"].unique().to_pylist()
    assert sorted(left) == sorted(row["prompt_id"] for row in prompts[1:])


def test_the_report_shows_what_was_checked(tmp_path: Path) -> None:
    folder = judged_run(tmp_path, guided=True)
    checked(folder)
    write_report(ReportSettings(), folder)
    page = folder.stage("report").read_bytes("index.html").decode()
    for words in ("What a trivial rule predicts", "the sharper image wins", "Win rate by guidance", "Agreement beyond"):
        assert words in page
    assert b"win_rate,strong" in folder.stage("report").read_bytes("assets/data/quality.csv")


def test_images_that_were_not_drawn_are_passed_over(tmp_path: Path) -> None:
    folder = judged_run(tmp_path)
    table = folder.stage("generate").read_table("images/weak.parquet")
    lost = table.slice(0, 1).to_pylist()[0] | {"image_id": "lost", "status": "failed", "image": None}
    table = pa.concat_tables([pa.Table.from_pylist([lost], schema=table.schema), table])
    folder.stage("generate").write_table("images/weak.parquet", table)
    found = checked(folder, self_supervised={})
    assert {row["predictor"] for row in found["predictors"]["rows"]} >= {"sharpness", "file_bytes"}


def test_the_report_of_choices_without_pictures_has_nothing_to_complain_of(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    rows = [{"prompt": f"cat {n % 9}", "file_path": ["a", "b"], "human_preference": [n % 2, 1]} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = RunFolder.at(tmp_path / "run")
    outcome = run_import(ImportSettings(kind="hpdv2", path=str(path), pictures="none"), folder)
    folder.stage("import").finish(Manifest("import", {}, {}, outcome.rows, 0.0))
    checked(folder)
    write_report(ReportSettings(), folder)
    page = folder.stage("report").read_bytes("index.html").decode()
    assert "What could not be read" not in page
    assert "people, by choices" in page
