"""Settings of the generate stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import PoolSettings
from vp_ray.models.config import GeneratorSettings, Scheduler


class GeneratorPool(GeneratorSettings):
    """A generator, how many images of each prompt it draws, and the actors that hold it."""

    operational: ClassVar[frozenset[str]] = frozenset({"pool", "device", "images_per_second"})

    images_per_prompt: int = Field(1, ge=1, le=64)
    """Images of each prompt, each from its own noise, with each guidance scale and scheduler."""
    guidance_scales: tuple[float, ...] = ()
    """Draws every prompt with each of these scales, in place of `guidance_scale`."""
    schedulers: tuple[Scheduler, ...] = ()
    """Draws every prompt with each of these samplers, in place of `scheduler`."""
    images_per_second: float | None = Field(None, gt=0)
    """Speed of one actor, for the plan's estimate; what this run has measured takes its place."""
    pool: PoolSettings = PoolSettings()
    """Its Ray Data actors."""

    @property
    def images_of_a_prompt(self) -> int:
        """How many images it draws of each prompt."""
        return self.images_per_prompt * max(1, len(self.guidance_scales)) * max(1, len(self.schedulers))

    @field_validator("guidance_scales")
    @classmethod
    def _scales_differ(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value) or any(not 0 <= scale <= 100 for scale in value):
            raise ValueError("guidance scales must differ and be within 0..100")
        return value

    @field_validator("schedulers")
    @classmethod
    def _schedulers_differ(cls, value: tuple[Scheduler, ...]) -> tuple[Scheduler, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the schedulers must differ")
        return value

    def model_settings(self) -> GeneratorSettings:
        """The part that a worker needs."""
        return GeneratorSettings.model_validate(self.model_dump(include=set(GeneratorSettings.model_fields)))


class GenerateSettings(Settings):
    """Which generators draw which images."""

    generators: tuple[GeneratorPool, ...] = Field(min_length=1)
    """Generators; each draws every prompt."""
    splits: tuple[str, ...] = ("train",)
    """Splits of the prompts that are drawn."""
    batches_per_shard: int = Field(4, ge=1)
    """Batches that are written, and after a fault repeated, together."""
    seed: int = 0
    """Changes every image."""

    @field_validator("generators")
    @classmethod
    def _names_differ(cls, value: tuple[GeneratorPool, ...]) -> tuple[GeneratorPool, ...]:
        names = [generator.name for generator in value]
        if len(set(names)) < len(names):
            raise ValueError("two generators have the same name")
        return value
