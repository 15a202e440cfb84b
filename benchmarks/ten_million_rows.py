"""Seconds and peak memory of what one process does with ten million rows: prompts, pairs, a plan of images, an index.

    python benchmarks/ten_million_rows.py [--rows 10000000] [--only prompts,preferences,plan,index,ledger]

Each part runs in a process of its own, which imports no more than it needs, after its input was written by another.
`preferences` counts ratings (of 16 a prompt), from which 1.9 times as many pairs come; `plan` and `index` count images.
`ledger` counts judgements, and is not among the parts that run by themselves: at ten million it needs 150 GiB.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from parts.synthetic_run import IMAGES_A_PROMPT, texts, write_prompt_file, write_rated_run
from runs import print_figure
from vp_ray.ids import content_id
from vp_ray.records import ASPECTS, IMAGES
from vp_ray.storage import Folder, RunFolder

SHARD_ROWS = 128
LINKED_SHARDS = 50


def put_prompts(folder: Path, rows: int) -> None:
    write_prompt_file(folder / "prompts_in.parquet", rows)


def prompts(folder: Path, rows: int) -> int:
    """The prompts stage: normalise, drop duplicates, split, write."""
    from vp_ray.prompts.config import PromptSettings
    from vp_ray.prompts.job import run as clean_prompts

    source = {"kind": "parquet", "path": str(folder / "prompts_in.parquet")}
    outcome = clean_prompts(PromptSettings.load({"sources": [source]}), RunFolder.at(folder / "run"))
    return outcome.rows["kept"]


def put_ratings(folder: Path, rows: int) -> None:
    write_rated_run(folder / "run", rows // (IMAGES_A_PROMPT * len(ASPECTS)))


def preferences(folder: Path, rows: int) -> int:
    """The preferences stage with all its checks but those that read pixels."""
    from vp_ray.preferences.config import PreferenceSettings
    from vp_ray.preferences.job import run as make_preferences

    settings = PreferenceSettings.load({"checks": {"predictor_prompts": 0}})
    return make_preferences(settings, RunFolder.at(folder / "run")).rows["preferences"]


def put_plan(folder: Path, rows: int) -> None:
    """Nothing: prompts are made where they are planned."""


def plan(folder: Path, rows: int) -> int:
    """The generate stage's plan, two generators and two images of each prompt, and the shards that are read of it."""
    from vp_ray.generate.config import GenerateSettings
    from vp_ray.generate.plan_file import shard_places, write_plan

    generators = [{"name": name, "source": "embedded:weak", "images_per_prompt": 2} for name in ("weak", "strong")]
    settings = GenerateSettings.load({"generators": generators})
    table = pa.concat_tables(
        pa.table({"prompt_id": [content_id("prompt", text) for text in part], "prompt": part})
        for part in texts(rows // IMAGES_A_PROMPT)
    )
    write_plan(Folder.at(folder), table, settings)
    return sum(shard.rows for shards in shard_places(Folder.at(folder)).values() for shard in shards)


def put_images(folder: Path, rows: int) -> None:
    """Shards of images without pixels: fifty, and links to them under other names."""
    images, rng = Folder.at(folder / "images").make(), np.random.default_rng(0)
    names = [content_id("image", n) for n in range(LINKED_SHARDS * SHARD_ROWS)]
    part = [text for some in texts(len(names) // IMAGES_A_PROMPT) for text in some]
    for shard in range(LINKED_SHARDS):
        mine = range(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)
        table = pa.Table.from_pylist(
            [
                {
                    "image_id": names[n],
                    "prompt_id": content_id("prompt", part[n // IMAGES_A_PROMPT]),
                    "prompt": part[n // IMAGES_A_PROMPT],
                    "generator": "weak",
                    "guidance_scale": float(rng.uniform(3, 12)),
                    "status": "made",
                    "flags": [],
                }
                for n in mine
            ],
            schema=IMAGES,
        )
        images.write_table(f"weak-{shard:06d}.parquet", table, IMAGES)
    for shard in range(LINKED_SHARDS, rows // SHARD_ROWS):
        os.link(
            folder / "images" / f"weak-{shard % LINKED_SHARDS:06d}.parquet",
            folder / "images" / f"weak-{shard:06d}.parquet",
        )


def index(folder: Path, rows: int) -> int:
    """The listing of a run's image files, and the place of every image in them."""
    from vp_ray.annotate.planning import index_images

    return index_images(Folder.at(folder / "images")).num_rows


def put_ledger(folder: Path, rows: int) -> None:
    """Answers as the annotate stage keeps them: sixteen levels with a rationale of 55 characters, and the reply."""
    said = "the circle is red and lies left of the square, as asked"
    by_aspect = {aspect: {"rationale": said, "level": 3} for aspect in ASPECTS}
    reply = json.dumps({f"image_{place}": by_aspect for place in range(1, IMAGES_A_PROMPT + 1)})
    with (folder / "writer.jsonl").open("w") as file:
        for number in range(rows):
            order = [f"{number // 2:012d}{place:012d}" for place in range(IMAGES_A_PROMPT)]
            level = [{"image_id": i, "aspect": a, "level": 3, "rationale": said} for i in order for a in ASPECTS]
            row = {"judgement_id": f"{number:024d}", "prompt_id": f"{number // 2:024d}", "prompt": "p" * 80}
            row |= {"mode": "listwise", "aspects": list(ASPECTS), "order": order, "sample": 0, "annotator": "judge"}
            row |= {"status": "scored", "levels": level, "reply": reply, "attempts": 1, "answered_at": 1.7e9}
            file.write(json.dumps(row) + "\n")


def ledger(folder: Path, rows: int) -> int:
    """The annotate stage's judgements out of its ledger."""
    from vp_ray.judging.ledger import read_ledger

    return read_ledger(Folder.at(folder)).num_rows


PARTS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path, int], int]]] = {
    "prompts": (put_prompts, prompts),
    "preferences": (put_ratings, preferences),
    "plan": (put_plan, plan),
    "index": (put_images, index),
    "ledger": (put_ledger, ledger),
}
BY_THEMSELVES = ("prompts", "preferences", "plan", "index")


def apart(work: Callable[[Path, int], int | None], folder: Path, rows: int) -> tuple[int | None, float, float]:
    """What a call in a process of its own returns, its seconds, and the peak memory of the process in GiB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, folder, rows).result()


def _measured(work: Callable[[Path, int], int | None], folder: Path, rows: int) -> tuple[int | None, float, float]:
    # The display of progress is no figure.
    sys.stdout = sys.stderr
    started = time.perf_counter()
    made = work(folder, rows)
    return made, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", default=",".join(BY_THEMSELVES))
    options = parser.parse_args()
    for name in options.only.split(","):
        put, work = PARTS[name]
        with tempfile.TemporaryDirectory(prefix="vp-rows-") as place:
            apart(put, Path(place), options.rows)
            made, seconds, peak = apart(work, Path(place), options.rows)
        told = f"one process, {options.rows:,} rows"
        print_figure(f"rows_{name}_seconds", seconds, "s", told, rows=options.rows, made=made)
        print_figure(f"rows_{name}_peak_gb", peak, "GiB", told, bytes_a_row=round(peak * 2**30 / options.rows))
