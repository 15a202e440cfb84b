"""Draws shards of either model with one pool of actors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vp_ray.models.image_shards import ImageShardMaker


class ModelShardMaker:
    """Draws one shard after the other; a shard's `model` says by which of the named models.

    One model is in memory at a time. Shards come model by model, so an actor loads each of them once.
    """

    def __init__(self, generators: Mapping[str, Mapping[str, Any]], folder: str) -> None:
        self._generators, self._folder = generators, folder
        self._maker: ImageShardMaker | None = None

    def __call__(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        """The maker's result row; the images are in the shard's file by then."""
        from vp_ray.models.image_shards import ImageShardMaker  # diffusers, for the actor alone

        name = shard["model"]
        if self._maker is None or self._maker.settings.name != name:
            self._maker = None
            self._maker = ImageShardMaker(self._generators[name], self._folder)
        return {**self._maker(shard), "model": name}
