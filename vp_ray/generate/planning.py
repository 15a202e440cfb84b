"""What a generation will draw, and what it will take, before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from vp_ray.generate.config import GenerateSettings, GeneratorPool
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.image_plan import planned_images, planned_shards
from vp_ray.models.sources import native_size
from vp_ray.storage import StageFolder

MEASURED: Final = "measured.json"
_PNG_BYTES_PER_PIXEL: Final = 2.1
"""Of a photograph-like picture at PNG level 1; replaced by what a run has measured."""


@dataclass(frozen=True, slots=True)
class GeneratorPlan:
    """One generator's shards."""

    pool: GeneratorPool
    model: GeneratorSettings
    shards: list[dict[str, Any]]

    @property
    def images(self) -> int:
        """Rows of all shards."""
        return sum(len(shard["rows"]) for shard in self.shards)


def plan_generation(prompts: Sequence[Mapping[str, Any]], settings: GenerateSettings) -> list[GeneratorPlan]:
    """Prompts x generators x schedulers x guidance x seeds, in shards with fixed names."""
    return [
        GeneratorPlan(pool, pool.model_settings(), list(shards_of(prompts, pool, settings)))
        for pool in settings.generators
    ]


def shards_of(
    prompts: Iterable[Mapping[str, Any]], pool: GeneratorPool, settings: GenerateSettings
) -> Iterator[dict[str, Any]]:
    """The shards of one generator, one after the other; `prompts` are gone through once a scheduler."""
    model = pool.model_settings()
    rows = planned_images(prompts, model, pool.images_per_prompt, settings.seed, pool.guidance_scales, pool.schedulers)
    return planned_shards(rows, model, settings.batches_per_shard)


@dataclass(slots=True)
class Measured:
    """What one generator's finished shards took."""

    images: int = 0
    actor_seconds: float = 0.0
    bytes: int = 0

    def add(self, result: Mapping[str, Any]) -> None:
        """Counts one shard's result row."""
        self.images += result["rows"]
        self.actor_seconds += result["seconds"]
        self.bytes += result["bytes"]


def read_measured(stage: StageFolder) -> dict[str, Measured]:
    """What each generator's finished shards took, as far as this run has noted it."""
    if not stage.exists(MEASURED):
        return {}
    return {name: Measured(**values) for name, values in stage.read_json(MEASURED).items()}


def write_measured(stage: StageFolder, measured: Mapping[str, Measured]) -> None:
    """Notes it for later estimates."""
    stage.write_json(MEASURED, {name: asdict(values) for name, values in measured.items() if values.images})


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one generator's images will take; None where nothing tells."""

    generator: str
    images: int
    images_per_second: float | None
    """Of one actor."""
    actor_hours: float | None
    gpu_hours: float | None
    gigabytes: float | None
    source: str
    """Where the speed comes from."""


def estimate(pool: GeneratorPool, prompts: int, measured: Measured | None) -> Estimate:
    """Hours and gigabytes for so many prompts, from what this run has measured, else from the settings."""
    images = prompts * pool.images_of_a_prompt
    speed, source = pool.images_per_second, "settings"
    if measured is not None and measured.actor_seconds > 0:
        speed, source = measured.images / measured.actor_seconds, "measured in this run"
    hours = None if speed is None else images / speed / 3600
    bytes_of_one: float | None = None
    if measured is not None and measured.images:
        bytes_of_one = measured.bytes / measured.images
    else:
        own = native_size(pool.source)
        height, width = pool.height or (own and own[0]), pool.width or (own and own[1])
        if height and width:
            bytes_of_one = height * width * _PNG_BYTES_PER_PIXEL
    return Estimate(
        generator=pool.name,
        images=images,
        images_per_second=speed,
        actor_hours=hours,
        gpu_hours=None if hours is None else hours * pool.pool.gpus_per_actor,
        gigabytes=None if bytes_of_one is None else images * bytes_of_one / 1e9,
        source=source if speed is not None else "not measured yet",
    )
