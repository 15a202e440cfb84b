"""Advantages: how much better an image was than others of its prompt, in standard deviations.

    A = clip((R - mean) / (std + 1e-6), -c, c)

mean and std are those of the prompt, from this epoch's group (GRPO, arXiv 2402.03300, section 4.1) or from a buffer of
the prompt's last rewards (DDPO, arXiv 2305.13301, section 4.2 and its public code). Letters of shapes: N rewards.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPSILON = 1e-6

Scale = Literal["prompt", "epoch"]
"""Whose standard deviation divides: each prompt's own, or that of all deviations of the epoch."""

Float = NDArray[np.float64]


def _rows_by_group(groups: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return rows


def _deviations(values: Float, centre_from: Float) -> Float:
    # Subtracting one member first makes equal rewards give exactly 0, whatever their size.
    anchor = centre_from[0]
    return (values - anchor) - (centre_from - anchor).mean()


def _scaled(deviations: Float, std: Float | float, clip: float) -> Float:
    return np.clip(deviations / (std + EPSILON), -clip, clip)


def group_advantages(
    rewards: ArrayLike, groups: Sequence[Hashable], clip: float = 5.0, scale: Scale = "prompt"
) -> Float:
    """(N,) advantages within `groups`: mean 0 in each group before clipping; a group of equal rewards gives 0."""
    values = np.asarray(rewards, np.float64)
    deviations, std = np.zeros_like(values), np.zeros_like(values)
    for rows in _rows_by_group(groups).values():
        deviations[rows] = _deviations(values[rows], values[rows])
        std[rows] = np.sqrt(np.mean(deviations[rows] ** 2))
    return _scaled(deviations, std if scale == "prompt" else float(np.sqrt(np.mean(deviations**2))), clip)


def zero_variance_share(rewards: ArrayLike, groups: Sequence[Hashable]) -> float:
    """Share of groups whose rewards are all equal: these carry no signal."""
    values = np.asarray(rewards, np.float64)
    equal = [float(np.ptp(values[rows])) == 0.0 for rows in _rows_by_group(groups).values()]
    return float(np.mean(equal))


class PromptStatistics:
    """The last `window` rewards of every prompt; until a prompt has `minimum` of them, the epoch's rewards stand in."""

    def __init__(self, window: int, minimum: int, state: Mapping[str, Iterable[float]] | None = None) -> None:
        self.window, self.minimum = window, minimum
        self._rewards = {prompt: list(rewards) for prompt, rewards in (state or {}).items()}

    def advantages(self, rewards: ArrayLike, prompts: Sequence[str], clip: float = 5.0) -> Float:
        """(N,) advantages after this epoch's rewards were added to the buffers of their prompts."""
        values = np.asarray(rewards, np.float64)
        result = np.zeros_like(values)
        for prompt, rows in _rows_by_group(prompts).items():
            buffer = self._rewards.setdefault(str(prompt), [])
            buffer += values[rows].tolist()
            del buffer[: -self.window]
            reference = np.asarray(buffer) if len(buffer) >= self.minimum else values
            std = float(np.sqrt(np.mean(_deviations(reference, reference) ** 2)))
            result[rows] = _scaled(_deviations(values[rows], reference), std, clip)
        return result

    def state(self) -> dict[str, Any]:
        """The buffers as a JSON value, from which another instance goes on."""
        return {prompt: list(rewards) for prompt, rewards in self._rewards.items()}
