"""Encoded images: their pixels, and where a run stores them, so that no reader needs all pixels at once."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from vp_ray.errors import InputError
from vp_ray.records import IMAGES
from vp_ray.storage import Folder, RunFolder, explained

_ROW_GROUPS_KEPT: Final = 8
"""About two for each of four generators: a group's images lie in one file for each generator."""

PLACE: Final = ("part", "row_group", "row")


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes of an (H, W, 3) picture at compression level 1, which is quick and makes files little larger."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of an encoded image."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def image_places(folder: Folder, columns: Sequence[str]) -> pa.Table | None:
    """`columns` of all images of a folder, without their pixels, and the place of each: `part` (a Parquet file's
    name), `row_group`, `row` (within the row group). None where there is no file.
    """
    filesystem, path = folder.filesystem()
    tables = []
    for part in folder.names():
        if not part.endswith(".parquet"):
            continue
        with explained(f"{folder.uri}/{part}"), pq.ParquetFile(f"{path}/{part}", filesystem=filesystem) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns))
                count = table.num_rows
                table = table.append_column("part", pa.array([part] * count, pa.string()))
                table = table.append_column("row_group", pa.array([group] * count, pa.int32()))
                tables.append(table.append_column("row", pa.array(range(count), pa.int32())))
    return pa.concat_tables(tables) if tables else None


def stored_images(run: RunFolder) -> pa.Table:
    """All images of a run without their pixels: `records.IMAGES`, `folder` (of the run) and the place in it.

    Raises `InputError` when there is none.
    """
    columns = [name for name in IMAGES.names if name != "image"]
    tables = []
    for folder in (run.source("generate") / "images", run.stage("preferences") / "images"):
        table = image_places(folder, columns)
        if table is not None:
            tables.append(table.append_column("folder", pa.array([folder.uri] * table.num_rows, pa.string())))
    if not tables:
        raise InputError("the run holds no images", "Run the generate or the import stage first.", run.uri)
    return pa.concat_tables(tables)


class StoredPictures:
    """Encoded images by their rows of `stored_images`, whichever folder they lie in."""

    def __init__(self, row_groups_kept: int = _ROW_GROUPS_KEPT) -> None:
        self._kept = row_groups_kept
        self._readers: dict[str, ImageReader] = {}

    def read(self, folder: str, part: str, row_group: int, row: int) -> bytes:
        """The encoded bytes of one image; raises `StorageError` when the file cannot be read."""
        reader = self._readers.setdefault(folder, ImageReader(Folder(folder), self._kept))
        return reader.read(part, row_group, row)


class ImageReader:
    """Encoded images of a folder of Parquet files; keeps the row groups that were read last."""

    def __init__(self, folder: Folder, row_groups_kept: int = _ROW_GROUPS_KEPT) -> None:
        self._folder, self._most = folder, row_groups_kept
        self._kept: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, part: str, row_group: int, row: int) -> bytes:
        """The encoded bytes of one image; raises `StorageError` when the file cannot be read."""
        with self._lock:
            images = self._kept.pop((part, row_group), None)
            if images is None:
                images = self._load(part, row_group)
            self._kept[(part, row_group)] = images
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return bytes(images[row]["bytes"].as_py())

    def _load(self, part: str, row_group: int) -> pa.ChunkedArray:
        filesystem, path = self._folder.filesystem()
        with explained(f"{self._folder.uri}/{part}"), pq.ParquetFile(f"{path}/{part}", filesystem=filesystem) as file:
            return file.read_row_group(row_group, columns=["image"])["image"]
