"""What is drawn and what is shown side by side, before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vp_ray.errors import InputError
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.ids import uniform_from
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.image_plan import plan_images, plan_shards
from vp_ray.records import BASE, TUNED


@dataclass(frozen=True, slots=True)
class Drawing:
    """One of the two models, and the shards of images that it draws."""

    model: GeneratorSettings
    shards: list[dict[str, Any]]


def choose_prompts(prompts: Sequence[Mapping[str, Any]], settings: EvaluateSettings) -> list[Mapping[str, Any]]:
    """The prompts of the chosen splits in the order of the table, at most `settings.prompts`, picked by hash.

    Raises `InputError` when there is none.
    """
    eligible = [row for row in prompts if row["split"] in settings.splits]
    if not eligible:
        raise InputError(
            f"no prompt is in the splits {', '.join(settings.splits)}", "Set evaluate.splits to a split that has some."
        )
    if settings.prompts is None or len(eligible) <= settings.prompts:
        return eligible
    ranked = sorted(eligible, key=lambda row: uniform_from("evaluate", settings.seed, row["prompt_id"]))
    chosen = {row["prompt_id"] for row in ranked[: settings.prompts]}
    return [row for row in eligible if row["prompt_id"] in chosen]


def plan_drawings(
    prompts: Sequence[Mapping[str, Any]], settings: EvaluateSettings, adapter: str, adapter_version: str
) -> tuple[Drawing, Drawing]:
    """The base's drawing and the tuned model's, image by image from the same noise.

    With `settings.tuned` the second is that model, and the adapter is not read. `adapter` is where the adapter lies;
    ids take `adapter_version` in its place, so that a run directory can move.
    """
    base = settings.base.model_copy(update={"name": BASE, "adapter": None})
    models: list[tuple[GeneratorSettings, str | None]] = [(base, None)]
    if settings.tuned is not None:
        # Shards of both hold the same prompts, so that pairs are read two shards at a time.
        alike = {"name": TUNED, "batch_size": settings.base.batch_size}
        models.append((settings.tuned.model_copy(update=alike), settings.tuned.adapter))
    else:
        models.append((settings.base.model_copy(update={"name": TUNED, "adapter": adapter_version}), adapter))
    drawings = []
    for model, place in models:
        rows = plan_images(prompts, model, settings.images_per_prompt, settings.seed)
        shards = plan_shards(rows, model, settings.batches_per_shard)
        drawings.append(Drawing(model.model_copy(update={"adapter": place}), shards))
    return drawings[0], drawings[1]


def pair_images(images: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(base, tuned) rows of the same prompt and seed, in the order of the base's; what has no partner is left out."""
    tuned = {(row["prompt_id"], row["seed"]): row for row in images if row["generator"] == TUNED}
    pairs = ((row, tuned.get((row["prompt_id"], row["seed"]))) for row in images if row["generator"] == BASE)
    return [(base, partner) for base, partner in pairs if partner is not None]
