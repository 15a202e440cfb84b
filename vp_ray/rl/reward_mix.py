"""How the scores of an epoch become advantages: weights, constraints with their multipliers, and the level of mixing.

Letters of shapes: N images, A aspects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vp_ray.maths.advantages import PromptStatistics, group_advantages, zero_variance_share
from vp_ray.maths.constraints import next_multiplier
from vp_ray.protocols import Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import aspect_weights

MINIMUM_REWARDS: Final = 16
"""Rewards that a prompt must have before its own buffer is used, as in DDPO's public code."""

_SUM: Final = "reward"
"""The name of the buffers of a whole reward, where aspects are summed before they are normalised."""

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mixed:
    """What one epoch's scores came to."""

    reward: Float
    """(N,) weighted sums, without the multipliers."""
    advantages: Float
    """(N,)."""
    figures: dict[str, float]
    """`zero_variance_share`, and `multiplier_ASPECT` of each constraint as it was in this epoch."""


class RewardMix:
    """Weighs aspects, keeps the constraints' multipliers and the prompts' statistics; all that it learns is in `state`.

    With mixing by `reward`, A = normalise(sum_k w_k R_k); with mixing by `advantage`, each aspect is normalised alone,
    A = sum_k w_k normalise(R_k) / sum_k |w_k|, so that no aspect of large spread drowns another. A constraint's
    multiplier adds to the weight of its aspect.
    """

    def __init__(self, settings: RlSettings, aspects: Sequence[str]) -> None:
        self._settings, self._aspects = settings, tuple(aspects)
        self._weights = np.asarray(aspect_weights(settings.reward_weights, aspects, "rl.reward_weights"))
        aspect_weights(dict.fromkeys(settings.constraints, 1.0), aspects, "rl.constraints")
        self._multipliers = {aspect: one.start for aspect, one in settings.constraints.items()}
        self._statistics: dict[str, PromptStatistics] = {}

    def mix(self, scores: Scores, owners: Sequence[str]) -> Mixed:
        """The rewards and advantages of an epoch's (N, A) scores, `owners` being the prompts of its images; then moves
        the multipliers by the means of these scores."""
        values = scores.astype(np.float64)
        used = dict(self._multipliers)
        weights = self._weights + np.array([used.get(aspect, 0.0) for aspect in self._aspects])
        total = values @ weights
        if self._settings.advantage_mixing == "reward":
            advantages = self._normalised(_SUM, total, owners)
        else:
            parts = [
                weight * self._normalised(aspect, values[:, column], owners)
                for column, (aspect, weight) in enumerate(zip(self._aspects, weights, strict=True))
                if weight
            ]
            advantages = np.sum(parts, axis=0) / np.abs(weights).sum()
        for aspect, one in self._settings.constraints.items():
            mean = float(values[:, self._aspects.index(aspect)].mean())
            self._multipliers[aspect] = next_multiplier(used[aspect], mean, one.at_least, one.rate, one.most)
        figures = {f"multiplier_{aspect}": value for aspect, value in used.items()}
        return Mixed(
            values @ self._weights, advantages, {"zero_variance_share": zero_variance_share(total, owners), **figures}
        )

    def _normalised(self, name: str, values: Float, owners: Sequence[str]) -> Float:
        """(N,) advantages against the prompt's last values, or against this epoch's where no window is set."""
        settings = self._settings
        if not settings.statistics_window:
            return group_advantages(values, owners, settings.advantage_clip, settings.advantage_scale)
        return self._of(name).advantages(values, owners, settings.advantage_clip)

    def _of(self, name: str, state: dict[str, list[float]] | None = None) -> PromptStatistics:
        window = self._settings.statistics_window
        if name not in self._statistics:
            self._statistics[name] = PromptStatistics(window, min(MINIMUM_REWARDS, window), state)
        return self._statistics[name]

    def state(self) -> dict[str, Any]:
        """Multipliers and statistics as a JSON value."""
        statistics = {name: one.state() for name, one in self._statistics.items()}
        return {"multipliers": dict(self._multipliers), "statistics": statistics}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._multipliers.update(state.get("multipliers", {}))
        for name, buffers in state.get("statistics", {}).items():
            self._of(name, buffers)
