"""Which scorers a training asks, and which of them only watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vp_ray.models.rewards import JoinedRewards, named
from vp_ray.protocols import RewardSource
from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import aspect_weights, held_out_weights


def rewarding(settings: RlSettings, sources: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of the sources of which an aspect is weighed or constrained; `sources` are their aspects.

    Raises `SettingsError` for an aspect that none of them has.
    """
    every = [named(name, aspect) for name, aspects in sources.items() for aspect in aspects]
    aspect_weights(settings.reward_weights, every, "rl.reward_weights")
    aspect_weights(dict.fromkeys(settings.constraints, 1.0), every, "rl.constraints")
    aspect_weights(
        held_out_weights(settings.held_out_weights, settings.reward_weights, every), every, "rl.held_out_weights"
    )
    asked = {name for name, weight in settings.reward_weights.items() if weight} | set(settings.constraints)
    return [name for name, aspects in sources.items() if any(named(name, aspect) in asked for aspect in aspects)]


def joined(settings: RlSettings, sources: Mapping[str, RewardSource]) -> tuple[JoinedRewards, JoinedRewards]:
    """(what training images are sent to, what held-out images are sent to: all sources)."""
    chosen = rewarding(settings, {name: source.aspects for name, source in sources.items()})
    return JoinedRewards({name: sources[name] for name in chosen}), JoinedRewards(sources)
