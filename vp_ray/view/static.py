"""Writes the page with all its chunks and thumbnails as files, to be opened without a server, mailed or archived."""

from __future__ import annotations

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from vp_ray.errors import InputError
from vp_ray.records import ImageStatus
from vp_ray.storage import explained
from vp_ray.telemetry import progress
from vp_ray.view.chunks import Chunks
from vp_ray.view.page import ASSETS, PAGE, page_file
from vp_ray.view.reading import ViewData
from vp_ray.view.thumbnails import Thumbnails

_THREADS: Final = 4
IMAGES_PER_FOLDER: Final = 1000


def write_static(data: ViewData, title: str, side: int, out: Path) -> Path:
    """The written page, whole or not at all; raises `InputError` for a folder that is not empty."""
    out = out.expanduser().resolve()
    with explained(str(out)):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError("this is not an empty folder", "Choose another one, or delete it.", str(out))
        making = out.with_name(f"{out.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            _write(data, title, side, making)
            if out.exists():
                out.rmdir()
            making.rename(out)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return out / PAGE


def _write(data: ViewData, title: str, side: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in (PAGE, *ASSETS):
        (folder / name).write_bytes(page_file(name, data, title))
    chunks = Chunks(data, title, served=False)
    for name in chunks.names():
        path = folder / "data" / f"{name}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chunks.script(name))
    thumbnails = Thumbnails(data, side)
    made = pc.equal(data.images["status"], str(ImageStatus.MADE)).fill_null(True).to_pylist()
    places = [place for place, there in enumerate(made) if there]
    for first in range(0, data.images.num_rows, IMAGES_PER_FOLDER):
        (folder / "thumbs" / str(first // IMAGES_PER_FOLDER)).mkdir(parents=True)

    def write(place: int) -> None:
        path = folder / "thumbs" / str(place // IMAGES_PER_FOLDER) / f"{place}.webp"
        path.write_bytes(thumbnails.small(place))

    with progress("view", "thumbnails", len(places)) as bar, ThreadPoolExecutor(_THREADS) as pool:
        for done, _ in enumerate(pool.map(write, places), start=1):
            bar.update(done, len(places))
