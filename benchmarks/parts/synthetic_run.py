"""Runs of synthetic rows: the tables that the prompts, generate and annotate stages leave, written part by part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vp_ray.ids import content_id, uniform_from
from vp_ray.records import ASPECTS, IMAGES, JUDGEMENTS, LEVEL, PROMPTS, RATINGS
from vp_ray.storage import Folder, Manifest, RunFolder
from vp_ray.streams import table_writer

IMAGES_A_PROMPT: Final = 4
GENERATORS: Final = ("weak", "strong")
ORDERS: Final = 2
_PROMPTS_A_PART: Final = 10_000
_WORDS: Final = 5000
_WORDS_A_PROMPT: Final = 12


def texts(count: int, seed: int = 0) -> Iterator[list[str]]:
    """Prompts of twelve words out of five thousand, some ten thousand at a time."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(letters[rng.integers(0, 26, size)]) for size in rng.integers(3, 10, _WORDS)])
    for start in range(0, count, _PROMPTS_A_PART):
        size = min(_PROMPTS_A_PART, count - start)
        yield [" ".join(row) for row in words[rng.integers(0, _WORDS, (size, _WORDS_A_PROMPT))]]


def write_prompt_file(path: Path, count: int) -> None:
    """A Parquet file with a column `prompt`."""
    with table_writer(Folder.at(path.parent), path.name, pa.schema([("prompt", pa.string())])) as append:
        for part in texts(count):
            append(pa.table({"prompt": part}))


def write_rated_run(path: Path, prompts: int) -> RunFolder:
    """A run whose annotate stage is finished: four images a prompt, two orders of each group, every aspect rated."""
    run = RunFolder.at(path)
    prompts_folder, images, annotate = run.stage("prompts"), run.stage("generate") / "images", run.stage("annotate")
    rng = np.random.default_rng(1)
    with (
        table_writer(prompts_folder, "prompts.parquet", PROMPTS) as add_prompts,
        table_writer(images, "all.parquet", IMAGES) as add_images,
        table_writer(annotate, "ratings.parquet", RATINGS) as add_ratings,
        table_writer(annotate, "judgements.parquet", JUDGEMENTS) as add_judgements,
    ):
        for part in texts(prompts, seed=1):
            ids = [content_id("prompt", text) for text in part]
            add_prompts(_prompts(part, ids))
            image_ids = np.array([[content_id("image", name, n) for n in range(IMAGES_A_PROMPT)] for name in ids])
            add_images(_images(part, ids, image_ids, rng))
            quality = rng.normal(3.2, 0.9, (len(ids), IMAGES_A_PROMPT, len(ASPECTS)))
            add_ratings(_ratings(ids, image_ids, quality))
            add_judgements(_judgements(part, ids, image_ids, quality, rng))
    for stage in ("prompts", "generate", "annotate"):
        run.stage(stage).finish(Manifest(stage, {}, {}, {}, 0.0))
    return run


def _filled(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """The columns, and nulls for those that are not given."""
    rows = len(next(iter(columns.values())))
    return pa.table({field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in schema}).cast(schema)


def _prompts(part: list[str], ids: list[str]) -> pa.Table:
    split = ["held_out" if uniform_from(name) < 0.1 else "train" for name in ids]
    return _filled({"prompt_id": ids, "prompt": part, "prompt_raw": part, "split": split}, PROMPTS)


def _images(part: list[str], ids: list[str], image_ids: np.ndarray, rng: np.random.Generator) -> pa.Table:
    each = np.repeat(np.arange(len(ids)), IMAGES_A_PROMPT)
    columns = {
        "image_id": image_ids.reshape(-1),
        "prompt_id": np.array(ids)[each],
        "prompt": np.array(part)[each],
        "generator": np.tile(np.array(GENERATORS), len(ids) * IMAGES_A_PROMPT // len(GENERATORS)),
        "guidance_scale": rng.uniform(3, 12, len(each)).astype(np.float32),
        "status": np.full(len(each), "made"),
    }
    return _filled(columns, IMAGES)


def _ratings(ids: list[str], image_ids: np.ndarray, quality: np.ndarray) -> pa.Table:
    rows = quality.size
    image = np.repeat(np.arange(image_ids.size), len(ASPECTS))
    columns = {
        "image_id": image_ids.reshape(-1)[image],
        "prompt_id": np.array(ids)[image // IMAGES_A_PROMPT],
        "generator": np.array(GENERATORS)[image % len(GENERATORS)],
        "aspect": np.tile(np.array(ASPECTS), image_ids.size),
        "mean": np.clip(quality.reshape(-1), 1, 5),
        "standard_error": np.full(rows, 0.35),
        "count": np.full(rows, ORDERS),
    }
    return _filled(columns, RATINGS)


def _judgements(
    part: list[str], ids: list[str], image_ids: np.ndarray, quality: np.ndarray, rng: np.random.Generator
) -> pa.Table:
    """Each group in two orders, forward and reversed, with a short rationale for every level."""
    size = IMAGES_A_PROMPT * len(ASPECTS)
    shown = np.stack([image_ids, image_ids[:, ::-1]], 1).reshape(-1, IMAGES_A_PROMPT)
    meant = np.stack([quality, quality[:, ::-1]], 1).reshape(-1)
    level = np.clip(np.rint(meant + rng.normal(0, 0.5, meant.shape)), 1, 5).astype(np.int8)
    rows = len(shown)
    levels = pa.StructArray.from_arrays(
        [
            pa.array(np.repeat(shown.reshape(-1), len(ASPECTS))),
            pa.array(np.tile(np.array(ASPECTS), shown.size)),
            pa.array(level),
            pa.array(np.array(["", "weak", "poor", "fair", "good", "the scene is as it was asked for"])[level]),
        ],
        fields=list(LEVEL),
    )
    prompt = np.repeat(np.arange(len(ids)), ORDERS)
    columns = {
        "judgement_id": [f"{ids[n // ORDERS]}-{n % ORDERS}" for n in range(rows)],
        "prompt_id": np.array(ids)[prompt],
        "prompt": np.array(part)[prompt],
        "mode": np.full(rows, "listwise"),
        "aspects": pa.array([list(ASPECTS)] * rows, pa.list_(pa.string())),
        "order": pa.array(list(shown), pa.list_(pa.string())),
        "sample": np.zeros(rows, np.int32),
        "annotator": np.full(rows, "judge"),
        "status": np.full(rows, "scored"),
        "levels": pa.ListArray.from_arrays(np.arange(0, (rows + 1) * size, size, dtype=np.int32), levels),
        "reply": np.full(rows, "{" + "x" * 400 + "}"),
        "request_tokens": np.full(rows, 900),
        "reply_tokens": np.full(rows, 400),
        "answered_at": 1.7e9 + np.sort(rng.uniform(0, 3600, rows)),
    }
    return _filled(columns, JUDGEMENTS)
