"""The plan of a generation: every image with its id, seed and guidance before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from vp_ray.ids import content_id, fingerprint, seed_from, uniform_from
from vp_ray.models.config import GeneratorSettings, Scheduler


def plan_images(
    prompts: Sequence[Mapping[str, Any]],
    generator: GeneratorSettings,
    images_per_prompt: int,
    seed: int,
    guidance_scales: Sequence[float] = (),
    schedulers: Sequence[Scheduler] = (),
) -> list[dict[str, Any]]:
    """Rows of `records.PLAN`, without the file, for every scheduler, prompt, guidance scale and repetition, so nested.

    Noise depends on (seed, prompt, repetition) and not on the generator, the scheduler or guidance, so that two of
    them start from the same noise. Without a list of scales guidance is uniform in the generator's range, drawn by the
    image's id; without a list of schedulers it is the generator's own.
    """
    # What says how fast an image is drawn does not name it; nor does the name, which the id takes beside it.
    drawing = fingerprint(generator.model_dump(exclude={"name", "device", "batch_size"}))
    low, high = generator.guidance_scale
    rows = []
    for scheduler, prompt, scale, repetition in product(
        schedulers or (generator.scheduler,), prompts, guidance_scales or (None,), range(images_per_prompt)
    ):
        told = "" if scale is None else repr(float(scale))
        image_id = content_id(prompt["prompt"], generator.name, drawing, scheduler, told, seed, repetition)
        rows.append(
            {
                "image_id": image_id,
                "prompt_id": prompt["prompt_id"],
                "prompt": prompt["prompt"],
                "generator": generator.name,
                "scheduler": scheduler,
                "steps": generator.steps,
                "guidance_scale": low + (high - low) * uniform_from("guidance", image_id) if scale is None else scale,
                "seed": seed_from(seed, prompt["prompt"], repetition),
            }
        )
    return rows


def plan_shards(rows: Sequence[Mapping[str, Any]], generator: GeneratorSettings, batches: int) -> list[dict[str, Any]]:
    """Consecutive rows in shards of `batches` forward passes, each with the file name that it is written to.

    A shard has one scheduler, since a forward pass has. Rows, and with them batches, are fixed here once and for all,
    so that no picture depends on what is drawn where or when.
    """
    size = batches * generator.batch_size
    shards = []
    for number, part in enumerate(_parts(rows, size)):
        name = content_id(*(row["image_id"] for row in part))
        shards.append({"file": f"{generator.name}-{number:06d}-{name}.parquet", "rows": part})
    return shards


def _parts(rows: Sequence[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    part: list[Mapping[str, Any]] = []
    for row in rows:
        if part and (len(part) == size or part[0]["scheduler"] != row["scheduler"]):
            yield part
            part = []
        part.append(row)
    if part:
        yield part
