"""Run folders on S3: the same calls as on a disk, against a real endpoint."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vp_ray.errors import StorageError
from vp_ray.storage import Folder, Manifest, RunFolder


def test_files_tables_and_folders_are_written_read_listed_and_deleted(bucket: str) -> None:
    folder = Folder.at(f"{bucket}/a/run/").make()
    assert folder.uri == f"{bucket}/a/run"
    assert not folder.is_local
    folder.write_bytes("one.txt", b"1")
    (folder / "inner").write_json("two.json", {"two": [2]})
    (folder / "inner").write_table("three.parquet", pa.table({"three": [3, 3, 3]}))
    assert folder.names() == ["one.txt"]
    assert (folder / "inner").names() == ["three.parquet", "two.json"]
    assert folder.exists("one.txt")
    assert folder.exists("inner")
    assert not folder.exists("four")
    assert folder.read_bytes("one.txt") == b"1"
    assert (folder / "inner").read_json("two.json") == {"two": [2]}
    assert folder.read_table("inner")["three"].to_pylist() == [3, 3, 3]
    assert (folder / "inner").read_table(".")["three"].to_pylist() == [3, 3, 3]
    folder.write_bytes("one.txt", b"11")
    assert folder.read_bytes("one.txt") == b"11"
    folder.delete("inner")
    folder.delete("one.txt")
    folder.delete("never there")
    assert not folder.exists("inner")
    assert folder.names() == []


def test_a_stage_lives_on_an_object_store(bucket: str) -> None:
    stage = RunFolder.at(f"{bucket}/b").stage("prompts")
    assert stage.start({"a": 1}, {})
    with pytest.raises(StorageError, match=r"settings\.a: 1 -> 2"):
        stage.start({"a": 2}, {})
    stage.finish(Manifest("prompts", {"a": 1}, {}, {"kept": 3}, 1.0))
    assert not stage.start({"a": 1}, {})
    assert stage.finished().rows == {"kept": 3}


def test_what_is_not_there_and_a_bucket_that_is_not_are_told(bucket: str) -> None:
    with pytest.raises(StorageError, match="there is no such file"):
        Folder.at(f"{bucket}/c").read_bytes("never")
    with pytest.raises(StorageError, match="s3://no-such-bucket"):
        Folder.at("s3://no-such-bucket/run").write_bytes("a", b"a")
