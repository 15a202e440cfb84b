"""What is to be scored: image files, patterns of file names, folders, and rows of CSV and Parquet files."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vp_ray.errors import InputError

T = TypeVar("T")

IMAGE_COLUMNS: Final = ("image", "path")
PROMPT_COLUMN: Final = "prompt"
_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_ROWS_AT_ONCE: Final = 64
"""Parquet rows may hold pictures of megabytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image and its prompt, as the input has them."""

    image: str
    """Name of the image: its path, or where it lies in a table."""
    place: str
    """Where the row comes from: the file, or `table:line`."""
    source: bytes | Path | None
    """The encoded image, or its file; None where the row has none."""
    prompt: str | None
    """None where the row has none."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of tables; where they are not given, `image` or `path`, and `prompt`."""

    image: str | None = None
    prompt: str | None = None


def in_parts(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """The rows in lists of `size`, the last of which may be shorter."""
    rest = iter(rows)
    while part := list(islice(rest, size)):
        yield part


def expand(inputs: Sequence[str]) -> list[Path]:
    """The files that are meant, patterns and folders in the order of names.

    A file that does not exist stays, so that its row can say so; raises `InputError` for a pattern or folder that
    means nothing.
    """
    files: list[Path] = []
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in {*_PICTURES, ".parquet"})
            problem = "the folder holds no PNG, JPEG, WebP or Parquet file"
        elif not path.exists() and glob.has_magic(text):
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207 - a pattern may begin anywhere
            found = sorted(file for file in map(Path, names) if file.is_file())
            problem = "no file has such a name"
        else:
            found, problem = [path], ""
        if not found:
            raise InputError(problem, "Give images, a pattern in quotes, a CSV or a Parquet file.", text)
        files += found
    return files


def is_table(file: Path) -> bool:
    """Whether a file holds rows rather than one image."""
    return file.suffix.lower() in (*_SEPARATORS, ".parquet")


def read_rows(files: Sequence[Path], prompt: str | None, columns: Columns) -> Iterator[Row]:
    """The rows of all files in order; `prompt` is that of image files, and of tables without a column for it.

    Raises `InputError` for a table that cannot be read or lacks the column of its images.
    """
    for file in files:
        if not is_table(file):
            yield Row(str(file), str(file), file, prompt)
            continue
        try:
            yield from _parquet(file, prompt, columns) if file.suffix == ".parquet" else _csv(file, prompt, columns)
        except FileNotFoundError:
            raise InputError("there is no such file", "Give the path of a table.", str(file)) from None
        except (OSError, UnicodeDecodeError, pa.ArrowException, csv.Error) as error:
            raise InputError(f"the table cannot be read ({error})", "Check that it is whole.", str(file)) from None


def _chosen(names: Sequence[str], columns: Columns, where: Path) -> tuple[str, str | None]:
    """The columns of images and prompts; raises `InputError` for one that was named or is needed and is not there."""
    image = columns.image or next((name for name in IMAGE_COLUMNS if name in names), IMAGE_COLUMNS[0])
    missing = [name for name in (image, columns.prompt) if name is not None and name not in names]
    if missing:
        raise InputError(
            f"there is no column '{missing[0]}' among {', '.join(names) or 'none'}",
            "Name the columns with --image-column and --prompt-column.",
            str(where),
        )
    return image, columns.prompt or (PROMPT_COLUMN if PROMPT_COLUMN in names else None)


def _csv(file: Path, prompt: str | None, columns: Columns) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = csv.DictReader(opened, delimiter=_SEPARATORS[file.suffix.lower()])
        image, words = _chosen(rows.fieldnames or (), columns, file)
        for row in rows:
            yield _row(f"{file}:{rows.line_num}", file, row[image], row[words] if words else prompt)


def _parquet(file: Path, prompt: str | None, columns: Columns) -> Iterator[Row]:
    with pq.ParquetFile(file) as opened:
        image, words = _chosen(opened.schema_arrow.names, columns, file)
        number = 0
        for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=[image, *([words] if words else [])]):
            for row in batch.to_pylist():
                yield _row(f"{file}:{number}", file, row[image], row[words] if words else prompt)
                number += 1


def _row(place: str, table: Path, image: Any, prompt: Any) -> Row:
    """A row whose image is a path, encoded bytes, or a struct of both; paths are relative to the table's folder."""
    data, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (None, image)
    if isinstance(path, bytes):
        data, path = path, None
    name = path if isinstance(path, str) and path.strip() else None
    source = data or (table.parent / name if name else None)
    return Row(name or place, place, source, prompt if isinstance(prompt, str) and prompt.strip() else None)
