"""A run whose preferences follow from pixels: brighter images are better, and the prompt does not matter."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vp_ray.records import ASPECTS, IMAGES, OVERALL, PREFERENCES
from vp_ray.storage import Manifest, RunFolder

PER_PROMPT = 4


def png(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def image_rows(prompts: int, side: int = 32) -> list[dict[str, object]]:
    rng = np.random.default_rng(11)
    rows = []
    for prompt in range(prompts):
        for place in range(PER_PROMPT):
            level = 40 + 50 * ((place + prompt) % PER_PROMPT)
            pixels = rng.integers(level - 20, level + 20, (side, side, 3), dtype=np.uint8)
            rows.append(
                {
                    "image_id": f"image-{prompt:03d}-{place}",
                    "prompt_id": f"prompt-{prompt:03d}",
                    "prompt": f"a {'red' if prompt % 2 else 'blue'} circle",
                    "generator": "noise",
                    "scheduler": "",
                    "steps": 1,
                    "guidance_scale": 1.0,
                    "seed": place,
                    "width": side,
                    "height": side,
                    "status": "made",
                    "image": {"bytes": png(pixels), "path": f"{prompt}-{place}.png"},
                }
            )
    return rows


def preference_rows(prompts: int, aspects: tuple[str, ...]) -> list[dict[str, object]]:
    rows = []
    for prompt in range(prompts):
        for aspect in aspects:
            for a in range(PER_PROMPT):
                for b in range(a + 1, PER_PROMPT):
                    margin = (a + prompt) % PER_PROMPT - (b + prompt) % PER_PROMPT
                    rows.append(
                        {
                            "preference_id": f"{prompt}-{aspect}-{a}-{b}",
                            "prompt_id": f"prompt-{prompt:03d}",
                            "prompt": f"a {'red' if prompt % 2 else 'blue'} circle",
                            "aspect": aspect,
                            "image_id_a": f"image-{prompt:03d}-{a}",
                            "image_id_b": f"image-{prompt:03d}-{b}",
                            "probability_a": 1 / (1 + np.exp(-2.0 * margin)),
                            "margin": float(margin),
                            "weight": 1.0,
                            "same_generator": True,
                            "split": "train",
                        }
                    )
    return rows


def write_run(folder: Path, prompts: int, aspects: tuple[str, ...] = (*ASPECTS, OVERALL)) -> RunFolder:
    run = RunFolder.at(folder)
    tables = {
        "generate": ("images/images.parquet", image_rows(prompts), IMAGES),
        "preferences": ("preferences.parquet", preference_rows(prompts, aspects), PREFERENCES),
    }
    for stage, (name, rows, schema) in tables.items():
        place = run.stage(stage)
        place.start({}, {})
        place.write_table(name, pa.Table.from_pylist(rows, schema=schema), schema)
        place.finish(Manifest(stage, {}, {}, {"rows": len(rows)}, 1.0))
    return run


@pytest.fixture(scope="session")
def bright_run() -> Callable[..., RunFolder]:
    """`write_run(folder, prompts, aspects)`: a run that is finished up to its preferences."""
    return write_run
