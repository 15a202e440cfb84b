"""The plan of a generation: every image with its id, seed and guidance before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from vp_ray.ids import content_id, fingerprint, seed_from, uniform_from
from vp_ray.models.config import GeneratorSettings, Scheduler


def planned_images(
    prompts: Iterable[Mapping[str, Any]],
    generator: GeneratorSettings,
    images_per_prompt: int,
    seed: int,
    guidance_scales: Sequence[float] = (),
    schedulers: Sequence[Scheduler] = (),
) -> Iterator[dict[str, Any]]:
    """Rows of `records.PLAN`, without the file, for every scheduler, prompt, guidance scale and repetition, so nested.

    Noise depends on (seed, prompt, repetition) and not on the generator, the scheduler or guidance, so that two of
    them start from the same noise. Without a list of scales guidance is uniform in the generator's range, drawn by the
    image's id; without a list of schedulers it is the generator's own. `prompts` are gone through once a scheduler.
    """
    # What says how fast an image is drawn does not name it; nor does the name, which the id takes beside it.
    drawing = fingerprint(generator.model_dump(exclude={"name", "device", "batch_size"}))
    low, high = generator.guidance_scale
    for scheduler in schedulers or (generator.scheduler,):
        for prompt in prompts:
            for scale, repetition in product(guidance_scales or (None,), range(images_per_prompt)):
                told = "" if scale is None else repr(float(scale))
                image_id = content_id(prompt["prompt"], generator.name, drawing, scheduler, told, seed, repetition)
                drawn = low + (high - low) * uniform_from("guidance", image_id) if scale is None else scale
                yield {
                    "image_id": image_id,
                    "prompt_id": prompt["prompt_id"],
                    "prompt": prompt["prompt"],
                    "generator": generator.name,
                    "scheduler": scheduler,
                    "steps": generator.steps,
                    "guidance_scale": drawn,
                    "seed": seed_from(seed, prompt["prompt"], repetition),
                }


def plan_images(
    prompts: Sequence[Mapping[str, Any]], generator: GeneratorSettings, images_per_prompt: int, seed: int
) -> list[dict[str, Any]]:
    """All rows of `planned_images`, with the generator's own guidance and scheduler."""
    return list(planned_images(prompts, generator, images_per_prompt, seed))


def planned_shards(
    rows: Iterable[Mapping[str, Any]], generator: GeneratorSettings, batches: int
) -> Iterator[dict[str, Any]]:
    """Consecutive rows in shards of `batches` forward passes, each with the file name that it is written to.

    A shard has one scheduler, since a forward pass has. Rows, and with them batches, are fixed here once and for all,
    so that no picture depends on what is drawn where or when.
    """
    size = batches * generator.batch_size
    for number, part in enumerate(_parts(rows, size)):
        name = content_id(*(row["image_id"] for row in part))
        yield {"file": f"{generator.name}-{number:06d}-{name}.parquet", "rows": part}


def plan_shards(rows: Iterable[Mapping[str, Any]], generator: GeneratorSettings, batches: int) -> list[dict[str, Any]]:
    """All of `planned_shards`."""
    return list(planned_shards(rows, generator, batches))


def _parts(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    part: list[Mapping[str, Any]] = []
    for row in rows:
        if part and (len(part) == size or part[0]["scheduler"] != row["scheduler"]):
            yield part
            part = []
        part.append(row)
    if part:
        yield part
