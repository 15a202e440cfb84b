"""Tables that need not fit into memory: written part by part into one Parquet file, and read likewise."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vp_ray.errors import StorageError
from vp_ray.storage import Folder, explained

ROW_GROUP: Final = 1 << 17
"""Rows of a row group, as `Folder.write_table` makes them."""


@contextmanager
def table_writer(
    folder: Folder, name: str, schema: pa.Schema, row_group: int | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends a table to the Parquet file `name`, which is there, whole, when the context has ended.

    After an error there is no file. No more than a row group, of `row_group` rows, and the table at hand are held.
    """
    where, rows = f"{folder.uri}/{name}", row_group or ROW_GROUP
    waiting: list[pa.Table] = [schema.empty_table()]
    with (
        _whole_file(folder, name) as sink,
        pq.ParquetWriter(sink, schema, compression="zstd", write_page_index=True) as writer,
    ):

        def append(table: pa.Table) -> None:
            waiting.append(table.select(schema.names).cast(schema))
            if sum(part.num_rows for part in waiting) >= rows:
                together = pa.concat_tables(waiting)
                whole = together.num_rows - together.num_rows % rows
                with explained(where):
                    writer.write_table(together.slice(0, whole), row_group_size=rows)
                waiting[:] = [together.slice(whole)]

        yield append
        with explained(where):
            writer.write_table(pa.concat_tables(waiting))


@contextmanager
def _whole_file(folder: Folder, name: str) -> Iterator[IO[bytes] | Any]:
    """A file that is moved to its name at the end; on object stores, one upload that ends with the context."""
    where = f"{folder.uri}/{name}"
    if folder.is_local:
        target = folder.local_path / name
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        with explained(where):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("wb")
        try:
            with file:
                yield file
                with explained(where):
                    file.flush()
                    os.fsync(file.fileno())
            with explained(where):
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return
    filesystem, path = folder.filesystem()
    with explained(where):
        stream = filesystem.open_output_stream(f"{path}/{name}")
    try:
        yield stream
        with explained(where):
            stream.close()
    except BaseException:
        # Closing ends the upload: a part of the table must not pass for the whole.
        with suppress(StorageError, OSError):
            stream.close()
            folder.delete(name)
        raise


def table_parts(
    folder: Folder, name: str, columns: Sequence[str] | None = None, rows: int = ROW_GROUP
) -> Iterator[pa.Table]:
    """The rows of one Parquet file in their order, at most so many at a time."""
    filesystem, path = folder.filesystem()
    where = f"{folder.uri}/{name}"
    with explained(where), pq.ParquetFile(f"{path}/{name}", filesystem=filesystem) as file:
        for batch in file.iter_batches(rows, columns=list(columns) if columns is not None else None):
            yield pa.Table.from_batches([batch])


def encoded_table(folder: Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file with each string held once, in dictionaries: a fraction of the memory where they repeat."""
    filesystem, path = folder.filesystem()
    with explained(f"{folder.uri}/{name}"):
        schema = pq.read_schema(f"{path}/{name}", filesystem=filesystem)
        strings = [field.name for field in schema if field.type == pa.string()]
        with pq.ParquetFile(f"{path}/{name}", filesystem=filesystem, read_dictionary=strings) as file:
            return file.read(columns=list(columns) if columns is not None else None).unify_dictionaries()


def table_without(folder: Folder, name: str, left_out: Collection[str]) -> pa.Table:
    """One Parquet file without these columns; `levels.rationale` is the field of a list's structs."""
    filesystem, path = folder.filesystem()
    with explained(f"{folder.uri}/{name}"), pq.ParquetFile(f"{path}/{name}", filesystem=filesystem) as file:
        paths = [file.schema.column(number).path for number in range(len(file.schema))]
        return file.read(
            columns=[path for path in paths if not {path, path.split(".")[0], _field(path)} & set(left_out)]
        )


def _field(path: str) -> str:
    parts = path.split(".")
    return f"{parts[0]}.{parts[-1]}"
