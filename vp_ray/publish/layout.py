"""The Hugging Face layout: Parquet files by config and split, small row groups, page index, `Image` features."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vp_ray.errors import InputError
from vp_ray.records import IMAGE
from vp_ray.storage import explained

ROW_GROUPS_OF_TEXT: Final = 10
"""A row group without images has this many times the rows of one with images."""

_DTYPES: Final = {"bool": "bool", "float": "float32", "double": "float64"}


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One Parquet file of the data set."""

    config: str
    split: str
    path: str
    """Relative to the data set's folder."""
    rows: int
    size: int
    uncompressed: int
    """Bytes of its columns in memory, which the Hub calls `num_bytes`."""
    sha256: str


@dataclass(slots=True)
class Layout:
    """Writes tables into the files of a data set and remembers what it wrote."""

    folder: Path
    rows_per_row_group: int
    file_megabytes: int
    files: list[WrittenFile] = field(default_factory=list)
    schemas: dict[str, pa.Schema] = field(default_factory=dict)

    def writer(self, config: str, split: str, schema: pa.Schema) -> SplitWriter:
        """A writer of one split of a config; all splits of a config share their schema."""
        known = self.schemas.setdefault(config, schema)
        if not known.equals(schema):
            raise AssertionError(f"the splits of {config} have different columns")
        return SplitWriter(self, config, split, with_features(schema))

    def splits(self, config: str) -> dict[str, list[WrittenFile]]:
        """The files of a config by split."""
        found: dict[str, list[WrittenFile]] = {}
        for file in self.files:
            if file.config == config:
                found.setdefault(file.split, []).append(file)
        return found


class SplitWriter:
    """Writes the rows of one split, a row group at a time; a context manager. Without rows it writes no file."""

    def __init__(self, layout: Layout, config: str, split: str, schema: pa.Schema) -> None:
        self._layout, self._config, self._split, self._schema = layout, config, split, schema
        with_images = any(holds_images(column) for column in schema)
        self.rows_per_row_group = layout.rows_per_row_group * (1 if with_images else ROW_GROUPS_OF_TEXT)
        self._waiting: list[pa.Table] = []
        self._rows_waiting = 0
        self._parquet: pq.ParquetWriter | None = None
        self._path = Path()
        self._number = self._rows = self._bytes = 0

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and self._rows_waiting:
            self._write_group(pa.concat_tables(self._waiting))
        self._close(keep=kind is None)

    def write(self, table: pa.Table) -> None:
        """Adds rows."""
        self._waiting.append(table.cast(self._schema))
        self._rows_waiting += table.num_rows
        while self._rows_waiting >= self.rows_per_row_group:
            rows = pa.concat_tables(self._waiting)
            self._write_group(rows.slice(0, self.rows_per_row_group))
            self._waiting = [rows.slice(self.rows_per_row_group)]
            self._rows_waiting = self._waiting[0].num_rows

    def _write_group(self, rows: pa.Table) -> None:
        with explained(str(self._layout.folder)):
            if self._parquet is None:
                self._path = self._layout.folder / self._config / f"{self._split}-{self._number:05d}.parquet"
                self._path.parent.mkdir(parents=True, exist_ok=True)
                text = [column.name for column in self._schema if not holds_images(column)]
                # Chunks cut by content let the Hub keep the unchanged parts of a file that is published anew.
                self._parquet = pq.ParquetWriter(
                    self._path,
                    self._schema,
                    compression="zstd",
                    use_dictionary=text,
                    write_page_index=True,
                    use_content_defined_chunking=True,
                )
            self._parquet.write_table(rows, row_group_size=rows.num_rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._path.stat().st_size >= self._layout.file_megabytes * 10**6:
            self._close(keep=True)

    def _close(self, keep: bool) -> None:
        if self._parquet is None:
            return
        with explained(str(self._path)):
            self._parquet.close()
            if keep:
                with self._path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                name = self._path.relative_to(self._layout.folder).as_posix()
                size = self._path.stat().st_size
                self._layout.files.append(
                    WrittenFile(self._config, self._split, name, self._rows, size, self._bytes, digest)
                )
        self._parquet = None
        self._number, self._rows, self._bytes = self._number + 1, 0, 0


def split_names(splits: list[str]) -> dict[str, str]:
    """The Hub's name of each split of a run: letters, digits and underscores.

    Raises `InputError` where two splits would get the same name.
    """
    names: dict[str, str] = {}
    for split in splits:
        name = re.sub(r"\W", "_", split, flags=re.ASCII) or "train"
        name = f"{name}_rows" if name == "all" else name
        if name in names.values():
            raise InputError(f"two splits would both be named '{name}'", "Rename one in the prompts stage.", split)
        names[split] = name
    return names


def holds_images(column: pa.Field) -> bool:
    """Whether a column holds pictures: as an `Image` struct or as plain bytes."""
    return bool(column.type.equals(IMAGE) or pa.types.is_binary(column.type))


def with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the metadata by which `datasets` decodes its `Image` columns; the others it reads from Arrow."""
    images = {column.name: {"_type": "Image"} for column in schema if column.type.equals(IMAGE)}
    if not images:
        return schema
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": images}})})


def yaml_features(schema: pa.Schema) -> list[dict[str, Any]]:
    """The columns as a card's `dataset_info.features` lists them."""
    return [{"name": column.name, **_yaml_type(column.type)} for column in schema]


def _yaml_type(kind: pa.DataType) -> dict[str, Any]:
    if kind.equals(IMAGE):
        return {"dtype": "image"}
    if pa.types.is_list(kind):
        inner = _yaml_type(kind.value_type)
        return {"list": inner.get("struct") or inner["dtype"]}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": item.name, **_yaml_type(item.type)} for item in kind]}
    return {"dtype": _DTYPES.get(str(kind), str(kind))}
