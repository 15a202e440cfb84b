"""Shards of an image plan, the unit of work and of commit: one Parquet file each, with a name fixed by the plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Final

import pyarrow as pa

from vp_ray.models.config import GeneratorSettings
from vp_ray.models.generators import Drawn, TextToImage
from vp_ray.models.sampler import ImageRequest
from vp_ray.pictures import encode_png
from vp_ray.records import IMAGES, ImageStatus
from vp_ray.storage import Folder

_ENCODING_THREADS: Final = 2


class ImageShardMaker:
    """Draws the images of one shard after the other with one loaded model, and writes each shard atomically.

    A shard is `{"file": name, "rows": [plan rows]}`; rows share forward passes in the order of the plan,
    `batch_size` at a time, so that a picture does not depend on which process draws it or what was drawn before.
    Called by two threads at once, it draws the one's shard while it writes the other's.
    """

    def __init__(self, generator: Mapping[str, Any], folder: str) -> None:
        self.settings = GeneratorSettings.load(generator, "generator")
        self.folder = Folder(folder)
        self.model = TextToImage(self.settings)
        self._drawing = Lock()

    def __call__(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        """The result row: file, rows, rows that are not made, seconds of drawing, and bytes written."""
        rows = shard["rows"]
        size = self.settings.batch_size
        encoded: list[Any] = []
        # Encoding runs beside the next batch's denoising: both release the interpreter lock.
        with ThreadPoolExecutor(_ENCODING_THREADS) as pool:
            with self._drawing:
                started = time.monotonic()
                for first in range(0, len(rows), size):
                    batch = rows[first : first + size]
                    requests = [ImageRequest(row["prompt"], row["seed"], row["guidance_scale"]) for row in batch]
                    drawn = self.model.draw(requests, batch[0]["scheduler"])
                    encoded += [pool.submit(_finish, one) for one in drawn]
                seconds = time.monotonic() - started
            finished = [row | future.result() for row, future in zip(rows, encoded, strict=True)]
        for row in finished:
            row["image"]["path"] = f"{row['image_id']}.png"
        self.folder.write_table(shard["file"], pa.Table.from_pylist(finished, schema=IMAGES), IMAGES)
        return {
            "file": shard["file"],
            "rows": len(finished),
            "not_made": sum(row["status"] != ImageStatus.MADE for row in finished),
            "seconds": seconds,
            "bytes": sum(len(row["image"]["bytes"] or b"") for row in finished),
        }


def _finish(drawn: Drawn) -> dict[str, Any]:
    made = drawn.status == ImageStatus.MADE
    return {
        "height": drawn.pixels.shape[0],
        "width": drawn.pixels.shape[1],
        "status": str(drawn.status),
        "flags": list(drawn.flags),
        "image": {"bytes": encode_png(drawn.pixels) if made else None, "path": None},
    }
