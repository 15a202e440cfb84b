"""Small run folders that tests start from: rendered scenes where a generator's images would be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from safetensors.torch import load_file

from vp_ray.ids import content_id
from vp_ray.records import IMAGES, PROMPTS
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, prompt_of, split_of
from vp_ray.storage import Manifest, RunFolder


def png(pixels: np.ndarray) -> bytes:
    """PNG bytes of (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bits_of(weights: Path) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of each tensor of a safetensors file, which leaves the order of its metadata open."""
    return {name: (str(tensor.dtype), tensor.numpy().tobytes()) for name, tensor in load_file(weights).items()}


def small_run(path: Path, prompts: int, images: int = 4) -> RunFolder:
    """A run with finished `prompts` and `generate` stages: scenes drawn better and worse, by two generators' names."""
    run = RunFolder.at(path)
    scenes = list(all_scenes())[11 :: 6000 // prompts][:prompts]
    prompt_rows, image_rows = [], []
    for number, scene in enumerate(scenes):
        prompt = prompt_of(scene)
        prompt_id = content_id("prompt", prompt)
        row = {"prompt_id": prompt_id, "prompt": prompt, "prompt_raw": prompt, "source": "test", "category": ""}
        prompt_rows.append({**row, "split": split_of(scene), "flags": []})
        for place in range(images):
            rng = np.random.default_rng([number, place])
            pixels = render(arrange(scene, rng, hazard_share=0.2)).astype(np.float64)
            pixels = np.clip(pixels + rng.normal(0, 12 * place, pixels.shape), 0, 255).astype(np.uint8)
            image_id = content_id("image", prompt_id, place)
            image_rows.append(
                {
                    "image_id": image_id,
                    "prompt_id": prompt_id,
                    "prompt": prompt,
                    "generator": ("strong", "weak")[place % 2],
                    "scheduler": "ddim",
                    "steps": 1,
                    "guidance_scale": 1.0,
                    "seed": place,
                    "width": 32,
                    "height": 32,
                    "status": "made",
                    "image": {"bytes": png(pixels), "path": f"{image_id}.png"},
                }
            )
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(prompt_rows, schema=PROMPTS))
    for name in ("strong", "weak"):
        part = [row for row in image_rows if row["generator"] == name]
        run.stage("generate").write_table(f"images/{name}.parquet", pa.Table.from_pylist(part, schema=IMAGES))
    for stage in ("prompts", "generate"):
        run.stage(stage).finish(Manifest(stage, {}, {}, {}, 0.0))
    return run
