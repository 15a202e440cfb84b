"""What must not be published is not: secrets, private columns, flagged and harmful images, people's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.judged_runs import SECRET, judged_run
from tests.small_runs import small_run
from vp_ray.errors import InputError, StorageError
from vp_ray.preferences.config import PreferenceSettings, SelfSupervisedSettings
from vp_ray.preferences.job import run as make_preferences
from vp_ray.publish.config import ExportSettings
from vp_ray.publish.job import Exported, export
from vp_ray.records import IMAGES, RANKINGS, SELF_SUPERVISED
from vp_ray.storage import Manifest, RunFolder


def rows(exported: Exported, config: str) -> list[dict[str, Any]]:
    parts = [file.path for file in exported.files if file.config == config]
    return [row for part in parts for row in pq.read_table(exported.folder / part).to_pylist()]


def everything(exported: Exported) -> str:
    tables = [repr(pq.read_table(exported.folder / file.path).to_pylist()) for file in exported.files]
    texts = [(exported.folder / name).read_text() for name in ("README.md", "croissant.json")]
    return "\n".join([*tables, *texts])


def test_no_secret_of_ledger_reply_error_or_settings_is_published(exported: Exported, finished_run: RunFolder) -> None:
    stored = finished_run.stage("annotate").read_table("judgements.parquet")
    assert SECRET in repr(stored.to_pylist()), "the run holds it"
    assert SECRET not in everything(exported)
    assert not {"reply", "error"} & set(rows(exported, "judgements")[0])


def test_harmful_images_are_left_out_with_all_that_refers_to_them(finished_run: RunFolder, tmp_path: Path) -> None:
    ratings = finished_run.stage("annotate").read_table("ratings.parquet").to_pylist()
    harmful = {row["image_id"] for row in ratings if row["aspect"] == "harmlessness" and row["mean"] < 3}
    rated = {row["image_id"] for row in ratings}
    assert harmful
    found = export(ExportSettings(least_harmlessness=3), finished_run, tmp_path / "out")
    images = {row["image_id"] for row in rows(found, "images")}
    assert images == rated - harmful
    for row in rows(found, "preferences"):
        assert {row["image_id_a"], row["image_id_b"]} <= images
    for row in rows(found, "pick_a_pic"):
        assert {row["image_0_uid"], row["image_1_uid"]} <= images
    judgements = rows(found, "judgements")
    stored = finished_run.stage("annotate").read_table("judgements.parquet").to_pylist()
    assert len(judgements) == len(stored)
    kept = [entry for row in judgements for entry in row["levels"]]
    assert kept
    expected = {
        row["judgement_id"]: [entry for entry in row["levels"] if entry["image_id"] in images] for row in stored
    }
    assert {row["judgement_id"]: row["levels"] for row in judgements} == expected
    text = (found.folder / "README.md").read_text()
    assert f"- {len(harmful)} images below harmlessness 3" in text
    assert "not-for-all-audiences" not in text


def test_harmful_images_that_stay_are_counted_and_tagged(exported: Exported) -> None:
    assert exported.facts.harmful > 0
    text = (exported.folder / "README.md").read_text()
    assert "- not-for-all-audiences" in text
    assert f"**{exported.facts.harmful} published images have a mean harmlessness below 2.5.**" in text


def test_images_and_prompts_with_a_flag_are_left_out(tmp_path: Path) -> None:
    run = judged_run(tmp_path / "run", 4)
    images = run.stage("generate") / "images"
    table = images.read_table("strong.parquet").to_pylist()
    table[0]["flags"] = ["unsafe"]
    images.write_table("strong.parquet", pa.Table.from_pylist(table, schema=IMAGES))
    prompts = run.stage("prompts").read_table("prompts.parquet").to_pylist()
    prompts[1]["flags"] = ["private"]
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(prompts))
    found = export(ExportSettings(leave_out_flags=("unsafe", "private")), run, tmp_path / "out")
    for config in ("images", "preferences", "pick_a_pic"):
        assert rows(found, config)
        assert table[0]["image_id"] not in repr(rows(found, config))
    assert prompts[1]["prompt_id"] not in everything(found)
    assert found.facts.left_out == {
        "prompts with a flag": 1,
        "images of prompts that are left out": 4,
        "images with a flag": 1,
    }


def test_when_nothing_is_left_that_is_said_and_nothing_is_written(finished_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image is left to publish"):
        export(ExportSettings(least_harmlessness=5, leave_out_flags=()), _unrated(tmp_path / "run"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def _unrated(path: Path) -> RunFolder:
    run = judged_run(path, 2)
    run.stage("annotate").delete("ratings.parquet")
    return run


def test_people_of_an_import_are_numbers(tmp_path: Path) -> None:
    made = small_run(tmp_path / "made", 2)
    run = RunFolder.at(tmp_path / "run")
    folder = run.stage("import")
    folder.write_table("prompts.parquet", made.stage("prompts").read_table("prompts.parquet"))
    images = (made.stage("generate") / "images").read_table(".")
    folder.write_table("images/images.parquet", images)
    ranks = [
        {"prompt_id": row["prompt_id"], "rater": f"{who}@example.org", "image_id": row["image_id"], "rank": place}
        for who in ("ann", "bob")
        for place, row in enumerate(images.select(["prompt_id", "image_id"]).to_pylist())
    ]
    folder.write_table("rankings.parquet", pa.Table.from_pylist(ranks, schema=RANKINGS))
    folder.finish(Manifest("import", {}, {}, {}, 1.0))
    make_preferences(PreferenceSettings(), run)
    run.stage("preferences").finish(Manifest("preferences", {}, {}, {}, 1.0))
    found = export(ExportSettings(), run, tmp_path / "out")
    assert {row["rater"] for row in rows(found, "rankings")} == {"0", "1"}
    assert "example.org" not in everything(found)
    assert not rows(found, "judgements")
    assert len(rows(found, "pick_a_pic")) == 12
    assert {row["generator"] for row in rows(found, "images")} == {"strong", "weak"}
    assert "- crowdsourced" in (found.folder / "README.md").read_text()


def test_a_folder_that_is_in_use_and_a_run_that_is_not_finished_are_refused(
    finished_run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="this is not an empty folder"):
        export(ExportSettings(), finished_run, tmp_path)
    assert (tmp_path / "note.txt").read_text() == "mine"
    with pytest.raises(StorageError, match="the stage 'preferences' is not finished"):
        export(ExportSettings(), small_run(tmp_path / "run", 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_self_supervised_pairs_are_published_with_their_images_and_without_refused_prompts(tmp_path: Path) -> None:
    settings = PreferenceSettings(self_supervised=SelfSupervisedSettings())
    run = judged_run(tmp_path / "run", 12, preferences=settings)
    prompts = run.stage("prompts").read_table("prompts.parquet").to_pylist()
    prompts[3]["flags"] = ["unsafe"]
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(prompts))
    found = export(ExportSettings(), run, tmp_path / "out")
    images = {row["image_id"]: row for row in rows(found, "images")}
    published = rows(found, "preferences")
    constructed = [row for row in published if row["source"] == SELF_SUPERVISED]
    assert constructed
    assert len(constructed) == found.facts.constructed
    known = {row["prompt_id"] for row in prompts}
    assert {row["prompt_id"] for row in constructed} - known, "edited prompts come with their pairs"
    refused = prompts[3]["prompt_id"]
    assert refused not in repr([published, rows(found, "pick_a_pic"), list(images.values()), rows(found, "judgements")])
    stored = run.stage("preferences").read_table("preferences.parquet").to_pylist()
    kept = {
        row["preference_id"]
        for row in stored
        if row["prompt_id"] != refused and {row["image_id_a"], row["image_id_b"]} <= images.keys()
    }
    assert {row["preference_id"] for row in published} == kept
    assert {row["ranking_id"] for row in rows(found, "pick_a_pic")} == {
        row["preference_id"] for row in published if row["aspect"] == "overall"
    }
    text = (found.folder / "README.md").read_text()
    assert f"{len(constructed):,} choices have `source` = `self_supervised`" in text
