"""What must hold while a policy is trained, and when training has gone too far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vp_ray.errors import NumericsError, SettingsError
from vp_ray.rl.losses.interface import RATIO_DEVIATION, Seen

RATIO_TOLERANCE = 1e-6
_SETTINGS = ("patience", "tolerance", "diversity_floor")


def check_first_ratios(seen: Sequence[Seen]) -> None:
    """Raises `NumericsError` unless every ratio is 1 as long as the weights are those that sampled."""
    deviation = float(torch.stack([one[RATIO_DEVIATION] for one in seen]).max())
    if not deviation <= RATIO_TOLERANCE:
        raise NumericsError(
            f"before the first update a ratio differs from 1 by {deviation:.2e}",
            "Sampling and training must call the same module, at the same batch shape and guidance, without dropout.",
            "rl",
        )


def aspect_weights(weights: dict[str, float], aspects: Sequence[str], setting: str) -> list[float]:
    """The weights in the order of the scorer's aspects; raises `SettingsError` for one that it does not know."""
    unknown = [aspect for aspect in weights if aspect not in aspects]
    if unknown:
        raise SettingsError(
            f"the scorer has no aspect {', '.join(map(repr, unknown))}", f"It has: {', '.join(aspects)}.", setting
        )
    return [weights.get(aspect, 0.0) for aspect in aspects]


def held_out_weights(chosen: dict[str, float], reward: dict[str, float], aspects: Sequence[str]) -> dict[str, float]:
    """The chosen weights; without any, 1 for each aspect that the reward leaves out, or the reward's own weights."""
    left_out = {aspect: 1.0 for aspect in aspects if not reward.get(aspect)}
    return chosen or left_out or reward


@dataclass(slots=True)
class EarlyStop:
    """Sees a held-out score fall while the reward rises (over-optimisation, arXiv 2210.10760), or images grow alike."""

    patience: int
    tolerance: float
    diversity_floor: float = 0.0
    """Share of the diversity at the start below which images count as alike."""
    best_score: float | None = None
    best_epoch: int = 0
    best_reward: float | None = None
    """The training reward when the best held-out score was seen; None before the first epoch."""
    below: int = 0
    """Evaluations in a row that lay below the best while the reward lay above its value there."""
    start_diversity: float | None = None
    alike: int = 0
    """Evaluations in a row whose images were alike."""

    def observe(self, epoch: int, score: float, reward: float | None, diversity: float | None = None) -> bool:
        """Whether `score` is the best so far; counts the evaluations that show over-optimisation or images alike.

        A score whose images are alike is never the best.
        """
        if diversity is not None:
            if self.start_diversity is None:
                self.start_diversity = diversity
            self.alike = self.alike + 1 if diversity < self.diversity_floor * self.start_diversity else 0
            if self.alike:
                return False
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_epoch, self.best_reward, self.below = score, epoch, reward, 0
            return True
        fallen = score < self.best_score - self.tolerance
        risen = reward is not None and (self.best_reward is None or reward > self.best_reward)
        self.below = self.below + 1 if fallen and risen else 0
        return False

    @property
    def stopped(self) -> bool:
        """Whether training should end."""
        return self.patience > 0 and max(self.below, self.alike) >= self.patience

    def state(self) -> dict[str, Any]:
        """What was seen so far, as a JSON value."""
        return {name: value for name, value in asdict(self).items() if name not in _SETTINGS}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)
