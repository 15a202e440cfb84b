"""Every kind of data set, from a file in its own form to the tables and pairs of this package."""

from __future__ import annotations

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vp_ray.errors import InputError, SettingsError
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.job import run as run_import
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run as run_preferences
from vp_ray.storage import Manifest, RunFolder

HUMAN = Path(__file__).parents[4] / "shared" / "data" / "human"


def picture(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the form of the path's suffix."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def imported(folder: Path, path: Path, **settings: Any) -> RunFolder:
    run = RunFolder.at(folder / "run")
    loaded = ImportSettings.load({"path": str(path), "pictures": "none"} | settings)
    outcome = run_import(loaded, run)
    run.stage("import").finish(Manifest("import", {}, {}, outcome.rows, 0.0))
    return run


def rows(run: RunFolder, name: str, stage: str = "import") -> list[dict[str, Any]]:
    return run.stage(stage).read_table(name).to_pylist()


def preferences(run: RunFolder, **settings: Any) -> list[dict[str, Any]]:
    run_preferences(PreferenceSettings.load(settings), run)
    return rows(run, "preferences.parquet", "preferences")


def test_imagereward_groups_become_one_rankers_pairs(tmp_path: Path) -> None:
    groups = [
        {"id": "1", "prompt": "a cat", "generations": ["a.webp", "b.webp", "c.webp"], "ranking": [1, 2, 2]},
        {"id": "2", "prompt": "a cat", "generations": ["d.webp", "e.webp"], "ranking": [2, 1]},
    ]
    run = imported(tmp_path, written(tmp_path / "test.json", groups), kind="imagereward")
    found = sorted(row["probability_a"] for row in preferences(run))
    # One prompt twice: images of its two groups were not ranked against each other.
    assert len(found) == 4
    assert found.count(0.5) == 1
    assert set(found) <= {0.0, 0.5, 1.0}
    assert len(rows(run, "prompts.parquet")) == 1


def test_imagereward_images_keep_ranks_and_ratings(tmp_path: Path) -> None:
    images = [
        {"image_path": f"{n}.webp", "prompt_id": "7", "prompt": "a cat", "rank": n + 1, "fidelity_rating": 7 - 3 * n}
        for n in range(2)
    ]
    run = imported(tmp_path, written(tmp_path / "metadata.jsonl", images), kind="imagereward")
    assert sorted(row["mean"] for row in rows(run, "ratings.parquet")) == [3.0, 5.0]
    by_aspect = {row["aspect"]: row for row in preferences(run)}
    assert set(by_aspect) == {"overall", "fidelity"}
    assert abs(by_aspect["overall"]["margin"]) == 1.0
    assert abs(by_aspect["fidelity"]["margin"]) == 2.0


@pytest.mark.skipif(not HUMAN.exists(), reason="the human data sets are not here")
def test_the_466_imagereward_test_prompts_give_6399_strict_pairs_and_831_ties(tmp_path: Path) -> None:
    run = imported(tmp_path, HUMAN / "imagereward_test_rankings.json", kind="imagereward")
    found = [row["probability_a"] for row in preferences(run)]
    assert sum(probability != 0.5 for probability in found) == 6399
    assert sum(probability == 0.5 for probability in found) == 831


@pytest.mark.skipif(not HUMAN.exists(), reason="the human data sets are not here")
def test_agiqa_3k_gives_2982_images_with_two_ratings_by_six_generators(tmp_path: Path) -> None:
    run = imported(tmp_path, HUMAN / "agiqa_3k.csv", kind="mos", raters=21)
    ratings = rows(run, "ratings.parquet")
    assert len({row["image_id"] for row in ratings}) == 2982
    assert len(ratings) == 2 * 2982
    assert {row["generator"] for row in ratings} == {"AttnGAN", "DALLE2", "glide", "midjourney", "sd1.5", "xl2.2"}
    made = preferences(run)
    assert {row["aspect"] for row in made} == {"prompt_following", "fidelity", "overall"}
    against = [row for row in made if row["aspect"] == "fidelity" and not row["same_generator"]]
    assert 0.4 < sum(row["probability_a"] for row in against) / len(against) < 0.6


@pytest.mark.skipif(not HUMAN.exists(), reason="the human data sets are not here")
def test_the_hpdv2_gallery_is_imported_with_all_its_pictures(tmp_path: Path) -> None:
    path = HUMAN / "hpdv2_gallery" / "rankings.jsonl"
    run = imported(tmp_path, path, kind="rankings", pictures="required")
    images = run.stage("import").read_table("images", ["status"])
    assert images["status"].unique().to_pylist() == ["made"]
    assert len({row["rater"] for row in rows(run, "rankings.parquet")}) == 10


def test_hpdv2_training_rows_are_choices_and_test_rows_are_everybodys_rankings(tmp_path: Path) -> None:
    train = [
        {"human_preference": [0, 1], "prompt": "a cat", "file_path": ["a.jpg", "b.jpg"], "user_hash": ["u"]},
        {"human_preference": [1, 1], "prompt": "a cat", "file_path": ["b.jpg", "c.jpg"]},
    ]
    run = imported(tmp_path, written(tmp_path / "train.json", train), kind="hpdv2")
    answers = [(row["rater"], row["preferred_a"]) for row in rows(run, "comparisons.parquet")]
    assert answers == [("u", 0.0), ("unknown", 0.5)]
    test = [
        {
            "prompt": "a dog",
            "image_path": ["a.jpg", "b.jpg"],
            "rank": [0, 1],
            "raw_annotations": [{"rank": [0, 1], "user_hash": "u"}, {"rank": [1, 0], "user_hash": "v"}],
        }
    ]
    run = imported(tmp_path / "test", written(tmp_path / "test.json", test), kind="hpdv2")
    ranks = [(row["rater"], row["rank"]) for row in rows(run, "rankings.parquet")]
    assert ranks == [("u", 1), ("u", 2), ("v", 2), ("v", 1)]
    (pair,) = preferences(run)
    assert pair["probability_a"] == 0.5


def test_pick_a_pic_keeps_pictures_ties_people_times_and_those_who_passed(tmp_path: Path) -> None:
    at = datetime.datetime(2023, 2, 1, 12)
    base = {"caption": "a cat", "image_0_uid": "a", "jpg_0": picture(1), "jpg_1": picture(2), "user_id": 5}
    base |= {"created_at": at, "model_0": "x"}
    table = [
        base | {"image_1_uid": "b", "label_0": 1.0, "has_label": True, "model_1": "y"},
        base | {"image_1_uid": "c", "label_0": 0.5, "has_label": True, "model_1": "x"},
        base | {"image_1_uid": "d", "label_0": 0.0, "has_label": False, "model_1": None},
    ]
    run = imported(tmp_path, written(tmp_path / "a.parquet", table), kind="pickapic", pictures="required")
    answers = rows(run, "comparisons.parquet")
    assert [(row["rater"], row["preferred_a"]) for row in answers] == [("5", 1.0), ("5", 0.5), ("5", None)]
    assert answers[0]["answered_at"] == 1675252800.0
    images = {row["image"]["path"]: row for row in rows(run, "images")}
    assert images["b"]["image"]["bytes"] == picture(2)
    assert {name: row["generator"] for name, row in images.items()} == {"a": "x", "b": "y", "c": "x", "d": "unknown"}
    made = preferences(run, pairwise="shares", abstention_weight=0.5)
    assert {row["same_generator"] for row in made} == {True, False, None}
    halves = sorted((row["weight"], row["margin"]) for row in made if row["probability_a"] == 0.5)
    assert halves == [(0.5, None), (1.0, 0.0)]


def test_richhf_scores_are_levels_and_its_overall_stands(tmp_path: Path) -> None:
    scores = [
        {"Filename": f"{n}.png", "prompt": "a cat", "Artifact score": 0.25 * n, "Overall score": 1 - 0.5 * n}
        for n in range(2)
    ]
    run = imported(tmp_path, written(tmp_path / "richhf.jsonl", scores), kind="richhf")
    means = sorted((row["aspect"], row["mean"]) for row in rows(run, "ratings.parquet"))
    assert means == [("fidelity", 1.0), ("fidelity", 2.0), ("overall", 3.0), ("overall", 5.0)]
    by_aspect = {row["aspect"]: row["margin"] for row in preferences(run)}
    assert by_aspect["overall"] == -2 * by_aspect["fidelity"]


def visionprefer(annotator: str, first: int, second: int) -> dict[str, Any]:
    aspects = ("prompt-following", "aesthetic", "fidelity", "harmlessness")
    images = [
        {"path": f"{name}.png", "model": "sdxl", "levels": {a: {"level": level, "rationale": "why"} for a in aspects}}
        for name, level in (("a", first), ("b", second))
    ]
    return {"prompt": "a cat", "annotator": annotator, "images": images}


def test_visionprefer_keeps_annotators_levels_and_rationales(tmp_path: Path) -> None:
    lines = [visionprefer("x", 5, 2), visionprefer("y", 4, 2)]
    run = imported(tmp_path, written(tmp_path / "v.jsonl", lines), kind="visionprefer")
    judgements = rows(run, "judgements.parquet")
    assert [row["annotator"] for row in judgements] == ["x", "y"]
    assert judgements[0]["levels"][0]["rationale"] == "why"
    ratings = {(row["mean"], row["count"]) for row in rows(run, "ratings.parquet")}
    assert ratings == {(4.5, 2), (2.0, 2)}
    # Deviations of 0.5, 0.5, 0, 0 with two repeats: variance 0.25, error sqrt(0.25 / 2).
    assert rows(run, "ratings.parquet")[0]["standard_error"] == pytest.approx((0.25 / 2) ** 0.5)
    assert {row["aspect"] for row in preferences(run)} >= {"harmlessness", "overall"}


def test_a_table_of_pairs_by_its_mapping(tmp_path: Path) -> None:
    table = [
        {"text": "a cat", "left": "a.png", "right": "b.png", "who": "u", "choice": "L", "when": "2024-01-01T00:00:00"},
        {"text": "a cat", "left": "a.png", "right": "b.png", "who": "v", "choice": "=", "when": "1704067260"},
        {"text": "a cat", "left": "a.png", "right": "b.png", "who": "w", "choice": "", "when": ""},
    ]
    columns = {"layout": "pairs", "prompt": "text", "image_a": "left", "image_b": "right", "rater": "who"}
    columns |= {"answer": "choice", "answers": {"L": "a", "R": "b", "=": "tie", "": "none"}, "answered_at": "when"}
    run = imported(tmp_path, written(tmp_path / "t.csv", table), kind="table", columns=columns)
    answers = [(row["rater"], row["preferred_a"], row["answered_at"]) for row in rows(run, "comparisons.parquet")]
    assert answers == [("u", 1.0, 1704067200.0), ("v", 0.5, 1704067260.0), ("w", None, None)]


def test_tables_of_rankings_and_of_ratings_by_several_people(tmp_path: Path) -> None:
    table = [
        {"prompt": "a cat", "image": name, "rank": rank, "who": who, "stars": stars}
        for who, name, rank, stars in (("u", "a", 1, 9), ("u", "b", 2, 4), ("v", "a", 2, 7), ("v", "b", 1, 4))
    ]
    path = written(tmp_path / "t.jsonl", table)
    run = imported(tmp_path, path, kind="table", columns={"layout": "rankings", "rater": "who"})
    assert [row["probability_a"] for row in preferences(run)] == [0.5]
    columns = {"layout": "ratings", "ratings": {"aesthetic": "stars"}}
    run = imported(tmp_path / "r", path, kind="table", columns=columns, scale=(0, 10))
    ratings = {(round(row["mean"], 3), row["count"]) for row in rows(run, "ratings.parquet")}
    assert ratings == {(4.2, 2), (2.6, 2)}


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("hpdv2", {"human_preference": [1], "prompt": "a", "file_path": ["a"]}, "no pair"),
        ("imagereward", {"prompt": "a", "generations": ["a", "b"], "ranking": [1]}, "another number of images"),
        ("richhf", {"filename": "a", "prompt": "a", "overall_score": 7}, "not between 0 and 1"),
        ("visionprefer", {"prompt": "a", "images": [{"path": "a", "levels": {"charm": 1}}]}, "no aspect 'charm'"),
        ("mos", {"name": "a", "prompt": "a"}, "KeyError: 'mos_quality'"),
        ("pickapic", {"caption": "a"}, "image_0_uid"),
        ("rankings", ["not", "an", "object"], "cannot be used"),
    ],
)
def test_bad_rows_are_refused_by_place_or_left_out_by_name(tmp_path: Path, kind: str, row: Any, said: str) -> None:
    path = written(tmp_path / "bad.jsonl", [row])
    with pytest.raises(InputError, match=rf"bad\.jsonl:1: .*{said}"):
        imported(tmp_path, path, kind=kind)
    good = {"hpdv2": {"human_preference": [1, 0], "prompt": "a", "file_path": ["a", "b"]}}
    if kind == "hpdv2":
        path.write_text(f"{json.dumps(good[kind])}\n{{broken\n{json.dumps(row)}\n")
        run = imported(tmp_path / "skipped", path, kind=kind, bad_rows="skip")
        named = [json.loads(line)["row"] for line in run.stage("import").read_bytes("bad_rows.jsonl").splitlines()]
        assert [place.rpartition(":")[2] for place in named] == ["2", "3"]
        assert run.stage("import").finished().rows["bad_rows"] == 2


def test_pictures_that_are_missing_may_be_optional_but_broken_ones_are_not(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", [{"human_preference": [1, 0], "prompt": "a", "file_path": ["a.png", "b.png"]}])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(picture())
    with pytest.raises(InputError, match=r"b\.png: there is no such image"):
        imported(tmp_path, path, kind="hpdv2", pictures="required")
    run = imported(tmp_path / "o", path, kind="hpdv2", pictures="optional")
    assert sorted(row["status"] for row in rows(run, "images")) == ["absent", "made"]
    (tmp_path / "images" / "b.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"b\.png: this cannot be read as an image"):
        imported(tmp_path / "b", path, kind="hpdv2", pictures="optional")


def test_prompts_can_be_held_out_by_hash(tmp_path: Path) -> None:
    table = [{"prompt": f"cat {n}", "image": "a", "rank": 1} for n in range(300)]
    path = written(tmp_path / "t.jsonl", table)
    run = imported(tmp_path, path, kind="table", columns={"layout": "rankings"}, held_out_share=0.3)
    held = sum(row["split"] == "held_out" for row in rows(run, "prompts.parquet"))
    assert 60 < held < 120


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "table"}, "`columns` goes with kind `table`"),
        ({"kind": "mos", "columns": {"layout": "pairs"}}, "`columns` goes with kind `table`"),
        ({"kind": "hpdv2", "scale": [0, 1]}, "`scale` has no effect"),
        ({"kind": "hpdv2", "raters": 3}, "`raters` has no effect"),
        ({"kind": "mos", "scale": [5, 0]}, "lowest and then the highest"),
        ({"kind": "hpdv2", "images": "x", "pictures": "none"}, "`images` has no effect"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ImportSettings.load({"path": "x"} | settings)


@pytest.mark.skipif(not HUMAN.exists(), reason="the human data sets are not here")
def test_imagerewards_rankings_overlap_with_its_benchmark_and_not_with_partiprompts(tmp_path: Path) -> None:
    run = imported(tmp_path, HUMAN / "imagereward_test_rankings.json", kind="imagereward")
    lists = HUMAN.parent / "prompts"
    files = {"own": lists / "imagereward_benchmark.json", "parti": lists / "parti_prompts.tsv"}
    checks = {"test_prompts": {name: str(path) for name, path in files.items()}, "on_overlap": "remove"}
    left = {row["prompt_id"] for row in preferences(run, checks=checks)}
    found = run.stage("preferences").read_json("quality.json")["overlap"]
    assert {name: (row["list"], row["equal"]) for name, row in found["lists"].items()} == {
        "own": (100, 41),
        "parti": (1632, 0),
    }
    assert len(left) == 463 - found["prompts"]
