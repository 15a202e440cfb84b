"""What `datasets` makes of an exported folder, config by config."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vp_ray.publish.job import Exported
from vp_ray.records import ASPECTS, OVERALL
from vp_ray.storage import RunFolder

datasets.disable_progress_bars()


@pytest.fixture
def load(exported: Exported, tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.getbasetemp() / "datasets-cache"

    def loaded(config: str) -> datasets.DatasetDict:
        return datasets.load_dataset(str(exported.folder), config, cache_dir=str(cache))

    return loaded


def rows_of(run: RunFolder, stage: str, name: str) -> int:
    return run.stage(stage).read_table(name).num_rows


def test_prompts_load_with_every_split_and_no_prompt_in_two(load, finished_run: RunFolder) -> None:
    found = load("prompts")
    stored = finished_run.stage("prompts").read_table("prompts.parquet")["split"].to_pylist()
    assert {split: len(rows) for split, rows in found.items()} == Counter(stored)
    assert len(found) > 1
    assert sum(len(rows) for rows in found.values()) == 40
    ids = [prompt_id for rows in found.values() for prompt_id in rows["prompt_id"]]
    assert len(set(ids)) == 40
    assert "prompt_raw" not in found["train"].column_names
    for split, rows in found.items():
        assert set(rows["split"]) == {split}


def test_images_load_as_pictures_equal_to_those_of_the_run(load, finished_run: RunFolder) -> None:
    table = (finished_run.stage("generate") / "images").read_table(".")
    originals = {row["image_id"]: row["image"]["bytes"] for row in table.to_pylist()}
    found = load("images")
    assert sum(len(rows) for rows in found.values()) == len(originals) == 160
    assert isinstance(found["train"].features["image"], datasets.Image)
    for rows in found.values():
        for row in rows:
            expected = np.asarray(Image.open(io.BytesIO(originals[row["image_id"]])))
            np.testing.assert_array_equal(np.asarray(row["image"]), expected)
    first = found["train"][:4]
    assert len(set(first["prompt_id"])) == 1, "the images of a prompt lie together"


def test_judgements_load_with_levels_orders_and_refusals(load, finished_run: RunFolder) -> None:
    found = load("judgements")
    rows = [row for split in found.values() for row in split]
    assert len(rows) == rows_of(finished_run, "annotate", "judgements.parquet") == 160
    refused = [row for row in rows if row["status"] == "refused"]
    assert len(refused) == 18
    assert all(row["levels"] == [] for row in refused)
    scored = next(row for row in rows if row["status"] == "scored")
    assert {entry["aspect"] for entry in scored["levels"]} == set(ASPECTS)
    assert [entry["image_id"] for entry in scored["levels"][:: len(ASPECTS)]] == scored["order"]
    assert all(entry["level"] in range(1, 6) and entry["rationale"] for entry in scored["levels"])


def test_preferences_load_with_the_generators_of_both_images(load, finished_run: RunFolder) -> None:
    found = load("preferences")
    rows = [row for split in found.values() for row in split]
    assert len(rows) == rows_of(finished_run, "preferences", "preferences.parquet") > 0
    assert {row["aspect"] for row in rows} == {*ASPECTS, OVERALL}
    for row in rows:
        assert row["same_generator"] == (row["generator_a"] == row["generator_b"])


def test_pick_a_pic_loads_as_training_scripts_read_it(load, finished_run: RunFolder) -> None:
    table = (finished_run.stage("generate") / "images").read_table(".")
    originals = {row["image_id"]: row["image"]["bytes"] for row in table.to_pylist()}
    overall = [
        row
        for row in finished_run.stage("preferences").read_table("preferences.parquet").to_pylist()
        if row["aspect"] == OVERALL
    ]
    rows = {row["ranking_id"]: row for split in load("pick_a_pic").values() for row in split}
    assert len(rows) == len(overall)
    for wanted in overall:
        row = rows[wanted["preference_id"]]
        assert row["jpg_0"] == originals[wanted["image_id_a"]]
        assert row["jpg_1"] == originals[wanted["image_id_b"]]
        assert Image.open(io.BytesIO(row["jpg_0"])).size == (32, 32)
        assert row["caption"] == wanted["prompt"]
        expected = 0.5 if wanted["probability_a"] == 0.5 else float(wanted["probability_a"] > 0.5)
        assert (row["label_0"], row["label_1"]) == (expected, 1 - expected)
        best = {1.0: row["image_0_uid"], 0.0: row["image_1_uid"], 0.5: "tie"}[expected]
        assert row["best_image_uid"] == best


def test_row_groups_are_small_and_have_a_page_index(exported: Exported) -> None:
    for file in exported.files:
        metadata = pq.ParquetFile(exported.folder / file.path).metadata
        most = 16 if file.config in ("images", "pick_a_pic") else 160
        sizes = [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]
        assert sum(sizes) == file.rows
        assert all(size == most for size in sizes[:-1]), "all are full but the last"
        assert sizes[-1] <= most
        column = metadata.row_group(0).column(0)
        assert column.has_column_index
        assert column.has_offset_index
        assert file.size == (exported.folder / file.path).stat().st_size


def test_image_columns_carry_the_features_that_datasets_reads(exported: Exported) -> None:
    path = exported.folder / next(file.path for file in exported.files if file.config == "images")
    schema = pq.read_schema(path)
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": {"image": {"_type": "Image"}}}}


def test_the_folder_holds_nothing_else(exported: Exported) -> None:
    paths = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    assert paths == {"README.md", "croissant.json", *(file.path for file in exported.files)}
    assert list(Path(exported.folder).parent.iterdir()) == [exported.folder]
