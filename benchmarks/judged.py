"""What the benchmarks of the annotation stage share: runs to be judged, and what judges say they let in."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vp_ray.ids import content_id
from vp_ray.records import IMAGES
from vp_ray.storage import Manifest, RunFolder

SECONDS, WARM_UP_SECONDS = 180, 10
"""What servers let in is counted for so long, from so long after the first request on."""
SERVERS = {"sliding_window": 60.0, "gcra": 1.0}
"""Kinds of limits, and how many seconds' worth of the limit may come at once."""

Samples = list[tuple[float, dict[str, Any]]]


def pictures(count: int, side: int, step: int = 1) -> list[bytes]:
    """PNGs of noise, in colours that are multiples of `step`: the larger it is, the smaller the file."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256 // step, (side, side, 3), np.uint8) * step
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        found.append(buffer.getvalue())
    return found


def small_run(path: Path, prompts: int, shown: Sequence[bytes], prompts_per_file: int = 1000) -> RunFolder:
    """A run whose images are made: four a prompt, of those that are given."""
    folder = RunFolder.at(path)
    for first in range(0, prompts, prompts_per_file):
        rows = []
        for prompt, place in product(range(first, min(prompts, first + prompts_per_file)), range(4)):
            row = {"prompt_id": f"p{prompt}", "prompt": f"a red circle {prompt}", "generator": "any", "status": "made"}
            image_id = content_id("image", prompt, place)
            picture = {"bytes": shown[(4 * prompt + place) % len(shown)], "path": f"{image_id}.png"}
            rows.append({**row, "image_id": image_id, "image": picture})
        table = pa.Table.from_pylist(rows, schema=IMAGES)
        folder.stage("generate").write_table(f"images/part-{first:06d}.parquet", table)
    folder.stage("generate").finish(Manifest("generate", {}, {}, {}, 0.0))
    return folder


def stats(url: str) -> dict[str, Any]:
    """What a judge says it was asked and answered."""
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=60) as reply:  # noqa: S310
        found: dict[str, Any] = json.loads(reply.read())
        return found


@contextmanager
def watched(urls: Sequence[str]) -> Iterator[dict[str, Samples]]:
    """(time, statistics) of each judge, twice a second while the context lasts."""
    samples: dict[str, Samples] = {url: [] for url in urls}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for url in urls:
                found = stats(url)
                samples[url].append((time.monotonic(), found))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


def refused_at(samples: Samples) -> list[float]:
    """Seconds from the first request on at which answers of 429 had come, at most the first ten."""
    first = next(time for time, found in samples if found["admitted"])
    steps = pairwise(samples)
    times = [round(now[0] - first, 1) for before, now in steps if now[1]["rate_limited"] > before[1]["rate_limited"]]
    return times[:10]


def share(samples: Samples, kind: str, limit: int, warm_up: float = WARM_UP_SECONDS) -> float:
    """What was let in of `limit` a minute during the three minutes that begin `warm_up` seconds after the first."""
    first = next(time for time, found in samples if found["admitted"])
    before = [(time, found[kind]) for time, found in samples if time <= first + warm_up + 0.6][-1]
    after = [(time, found[kind]) for time, found in samples if time <= first + warm_up + SECONDS + 0.6][-1]
    assert after[0] - before[0] > 0.9 * SECONDS, "the work ended before three minutes were over"
    return float((after[1] - before[1]) / (limit * (after[0] - before[0]) / 60))
