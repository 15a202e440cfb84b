"""Tables that are written part by part."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vp_ray import streams
from vp_ray.storage import Folder
from vp_ray.streams import table_parts, table_writer

SCHEMA = pa.schema([("number", pa.int64()), ("name", pa.string())])


def numbers(start: int, count: int) -> pa.Table:
    return pa.table({"number": range(start, start + count), "name": [f"n{n}" for n in range(start, start + count)]})


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder.at(tmp_path / "tables")
    return Folder(f"memory://streams/{tmp_path.name}")


def test_parts_of_any_size_become_the_table_that_one_write_makes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ROW_GROUP", 100)
    folder.make()
    with table_writer(folder, "parts.parquet", SCHEMA) as append:
        start = 0
        for count in (1, 0, 250, 99, 3):
            append(numbers(start, count))
            start += count
        assert folder.names() == [] or not folder.is_local
    assert folder.read_table("parts.parquet").equals(numbers(0, 353).cast(SCHEMA))
    sizes = [part.num_rows for part in table_parts(folder, "parts.parquet", ["number"], 200)]
    assert sum(sizes) == 353
    assert max(sizes) <= 200


def test_row_groups_are_those_of_a_table_written_at_once(tmp_path: Path) -> None:
    folder, count = Folder.at(tmp_path), (1 << 17) + 5
    folder.write_table("once.parquet", numbers(0, count), SCHEMA)
    with table_writer(folder, "parts.parquet", SCHEMA) as append:
        for start in range(0, count, 50_000):
            append(numbers(start, min(50_000, count - start)))
    once, parts = (pq.ParquetFile(tmp_path / f"{name}.parquet").metadata for name in ("once", "parts"))
    assert [parts.row_group(n).num_rows for n in range(parts.num_row_groups)] == [1 << 17, 5]
    assert parts.num_row_groups == once.num_row_groups


def test_nothing_is_left_after_an_error_and_an_empty_table_is_a_table(folder: Folder) -> None:
    folder.make()
    with pytest.raises(pa.ArrowInvalid), table_writer(folder, "broken.parquet", SCHEMA) as append:
        append(numbers(0, 10).set_column(1, "name", [["a"] * 9 + [b"\xff"]]))
    assert not folder.exists("broken.parquet")
    assert folder.names() == []
    with table_writer(folder, "empty.parquet", SCHEMA):
        pass
    assert folder.read_table("empty.parquet").equals(SCHEMA.empty_table())
