"""Rows out of JSON, JSON lines, CSV, TSV and Parquet, each with its place, and pictures out of files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError

MAX_PIXELS: Final = 64_000_000
"""Larger pictures are refused before they are decoded."""
_ROWS_AT_ONCE: Final = 64
"""Parquet rows may hold pictures of megabytes."""


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of every row; a JSON line that cannot be parsed is an `InputError` in the place of its row.

    Raises `InputError` for a file that is missing, cannot be read as what its suffix says, or has another suffix.
    """
    try:
        if path.is_dir() or path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".json":
            yield from _json(path)
        elif path.suffix in (".jsonl", ".ndjson"):
            yield from _json_lines(path)
        elif path.suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                for row in rows:
                    yield f"{path}:{rows.line_num}", row
        else:
            path.open("rb").close()
            raise InputError(
                f"the suffix '{path.suffix}' is not known", "Give a .json, .jsonl, .csv, .tsv or .parquet.", str(path)
            )
    except FileNotFoundError:
        raise InputError(
            "there is no such file", "Set `import.path` to the data set, for instance HPDv2's.", str(path)
        ) from None
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise InputError(f"the file cannot be read ({error})", "Check that it is whole.", str(path)) from None


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path}:{number}"
                try:
                    yield where, json.loads(line)
                except ValueError as error:
                    yield where, InputError(f"this is not valid JSON ({error})", "Mend or remove the line.", where)


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"this is not valid JSON ({error})", "Check that the file is whole.", str(path)) from None
    if not isinstance(values, list):
        raise InputError("the file must hold a list", "Give JSON lines for one object a line.", str(path))
    for number, row in enumerate(values, start=1):
        yield f"{path}, row {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    parts = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise InputError("there are no Parquet files", "Set `import.path` to the folder that holds them.", str(path))
    for part in parts:
        with pq.ParquetFile(part) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{part}, row {number}", row


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file that can be decoded."""

    data: bytes
    width: int
    height: int


def read_picture(path: Path) -> Picture:
    """The file as it is, decoded once to be sure of it; raises `InputError` that names it where it cannot be used."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            "there is no such image", "Set `import.images` to the folder of the image files.", str(path)
        ) from None
    except OSError as error:
        raise InputError(f"the image cannot be read ({error})", "Mend its rights.", str(path)) from None
    return decoded(data, str(path))


def decoded(data: bytes, where: str) -> Picture:
    """The picture in these bytes; raises `InputError` that names `where` for what cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"the image has {image.width} x {image.height} pixels", "Scale it down first.", where)
            image.load()
            return Picture(data, image.width, image.height)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(
            f"this cannot be read as an image ({error})", "Replace the file or remove its row.", where
        ) from None
