import os
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vp_ray.errors import StorageError
from vp_ray.records import IMAGES
from vp_ray.storage import Folder, Manifest, RunFolder, explained


def manifest_of(stage: str, rows: int) -> Manifest:
    return Manifest(stage=stage, settings={"a": 1}, inputs={}, rows={"kept": rows}, seconds=1.0)


def test_a_stage_is_done_once_and_then_skipped(tmp_path: Path) -> None:
    stage = RunFolder.at(tmp_path).stage("prompts")
    assert stage.start({"a": 1}, {}) is True
    assert stage.start({"a": 1}, {}) is True, "cut off before its manifest: it goes on"
    stage.finish(manifest_of("prompts", 3))
    assert stage.start({"a": 1}, {}) is False
    assert stage.finished().rows == {"kept": 3}


@pytest.mark.parametrize(
    ("settings", "inputs", "said"), [({"a": 2}, {}, r"settings\.a: 1 -> 2"), ({"a": 1}, {"x": "f"}, r"inputs\.x")]
)
def test_a_stage_that_was_started_with_other_settings_or_inputs_is_refused(
    tmp_path: Path, settings: dict[str, int], inputs: dict[str, str], said: str
) -> None:
    stage = RunFolder.at(tmp_path).stage("prompts")
    stage.start({"a": 1}, {})
    with pytest.raises(StorageError, match=said):
        stage.start(settings, inputs)


def test_the_fingerprint_names_the_result_and_not_its_timing() -> None:
    slow = Manifest(stage="s", settings={}, inputs={}, rows={"kept": 1}, seconds=9.0)
    quick = Manifest(stage="s", settings={}, inputs={}, rows={"kept": 1}, seconds=1.0, cost_usd=2.0)
    assert slow.fingerprint == quick.fingerprint
    assert slow.fingerprint != Manifest(stage="s", settings={}, inputs={}, rows={"kept": 2}, seconds=9.0).fingerprint


def test_a_stage_that_is_not_finished_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="`vp-ray reward`"):
        RunFolder.at(tmp_path).stage("reward").finished()


def test_a_file_is_whole_or_not_there_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.at(tmp_path)
    folder.write_bytes("a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"no space is left.*goes on"):
        folder.write_bytes("a", b"new and longer")
    monkeypatch.undo()
    assert folder.read_bytes("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _write_explained(file: BinaryIO) -> None:
    with explained("/dev/full"):
        file.write(b"x")


def test_a_real_full_disk_is_one_clear_sentence() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(StorageError, match="no space is left"):
        _write_explained(file)


def test_tables_keep_their_schema_and_small_row_groups_of_images(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    row = {"image_id": "i", "prompt": "p", "image": {"bytes": b"png", "path": "i.png"}}
    folder.write_table("images/a.parquet", pa.Table.from_pylist([row] * 250, schema=IMAGES), IMAGES)
    folder.write_table("images/b.parquet", pa.Table.from_pylist([row], schema=IMAGES), IMAGES)
    assert folder.read_table("images").num_rows == 251
    assert folder.read_table("images", columns=["prompt"]).column_names == ["prompt"]
    file = pq.ParquetFile(tmp_path / "images" / "a.parquet")
    assert file.num_row_groups == 3
    assert file.schema_arrow.equals(IMAGES)


def test_an_fsspec_uri_serves_as_storage() -> None:
    stage = RunFolder("memory://bucket/run").stage("prompts")
    assert stage.start({"a": 1}, {})
    stage.write_table("prompts.parquet", pa.table({"a": [1, 2]}))
    stage.finish(manifest_of("prompts", 2))
    assert stage.read_table("prompts.parquet").num_rows == 2
    assert not stage.start({"a": 1}, {})
    RunFolder("memory://bucket/run").delete("prompts")
    assert stage.manifest() is None


def test_relative_paths_become_absolute_since_workers_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunFolder.at("runs/demo").uri == str(tmp_path / "runs" / "demo")
    assert RunFolder.at("s3://bucket/demo/").uri == "s3://bucket/demo"
