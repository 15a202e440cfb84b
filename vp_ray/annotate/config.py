"""Settings of the annotate stage: who judges, by which rubric, in how many orders, for how much."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import PoolSettings
from vp_ray.judging.config import AnnotatorSettings, OrderCount


class AnnotateSettings(Settings):
    """Judges every group of images with every annotator in every order."""

    operational: ClassVar[frozenset[str]] = frozenset({"actors", "budget_usd", "requests_per_shard"})

    annotators: tuple[AnnotatorSettings, ...] = Field(min_length=1)
    """The models that judge; ratings are means over all of them."""
    rubric: str = "visionprefer"
    """A packaged rubric by name, or a YAML file of your own."""
    group_size: int = Field(4, ge=1, le=9)
    """Images that are judged together; a prompt with more is split into groups as even as they can be."""
    orders: OrderCount = 2
    """Orders in which each group is shown: 1; 2 (one drawn by hash, and its reverse); or 4 (Williams square)."""
    budget_usd: float | None = Field(None, gt=0)
    """The stage stops before a request that could cost more than this in all; null is no limit."""
    requests_per_shard: int = Field(32, ge=1)
    """Requests that are handed to an actor at a time."""
    actors: PoolSettings = PoolSettings()
    """The pool of actors that send the requests."""

    @field_validator("annotators")
    @classmethod
    def _names_differ(cls, annotators: tuple[AnnotatorSettings, ...]) -> tuple[AnnotatorSettings, ...]:
        if len({item.name for item in annotators}) != len(annotators):
            raise ValueError("annotators must have different names")
        return annotators
