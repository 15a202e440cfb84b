"""Run folders on S3: the same calls as on a disk, against a real endpoint."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vp_ray.errors import StorageError
from vp_ray.local_copies import to_read, to_write
from vp_ray.pictures import image_places
from vp_ray.storage import FILES, Folder, Manifest, RunFolder


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


def test_the_folders_of_a_bucket_share_one_client_while_the_endpoint_is_the_same(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = Folder.at(bucket).filesystem()
    client, path = Folder.at(f"{bucket}/a/run").filesystem()
    assert client is root
    assert f"s3://{path}" == f"{bucket}/a/run"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert Folder.at(f"{bucket}/a/run").filesystem()[0] is not root


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


def test_a_sealed_folder_is_read_by_its_names_where_a_listing_is_late_or_shows_too_much(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(f"{bucket}/d") / "images"
    for name, number in (("a.parquet", 1), ("b.parquet", 2), ("left-over.parquet", 3)):
        folder.write_table(name, pa.table({"n": [number]}))
    folder.seal(["b.parquet", "a.parquet"])
    for shown in ([], ["a.parquet", "left-over.parquet"]):
        monkeypatch.setattr(Folder, "listed", lambda self, shown=shown: shown)
        assert folder.names() == ["a.parquet", "b.parquet"]
        assert folder.read_table(".")["n"].to_pylist() == [1, 2]
        assert Folder.at(f"{bucket}/d").read_table("images")["n"].to_pylist() == [1, 2]
        places = image_places(folder, ["n"])
        assert places is not None
        assert places["part"].to_pylist() == ["a.parquet", "b.parquet"]
    assert folder.sizes(["a.parquet", "never"])["never"] is None


def test_on_a_disk_the_listing_is_exact_and_nothing_is_sealed(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    folder.write_bytes("a", b"a")
    folder.seal([])
    assert folder.names() == ["a"]
    assert not folder.exists(FILES)


def test_files_of_libraries_are_sent_when_they_are_whole_and_come_back(bucket: str) -> None:
    folder = Folder.at(f"{bucket}/e")

    def fail() -> None:
        with to_write(folder) as path:
            (path / "one").write_bytes(b"1")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert folder.names() == []
    with to_write(folder) as path:
        (path / "one").write_bytes(b"1")
        (path / "in").mkdir()
        (path / "in" / "two").write_bytes(b"22" * 10**6)
        (path / "half.tmp").write_bytes(b"")
    assert not path.exists()
    assert folder.names() == ["in/two", "one"]
    with to_read(folder) as path:
        assert (path / "in" / "two").read_bytes() == b"22" * 10**6
        assert sorted(found.name for found in path.iterdir()) == ["in", "one"]
    assert not path.exists()
