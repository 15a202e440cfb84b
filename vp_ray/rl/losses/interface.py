"""What a loss is: what it needs, what it is given a piece of, and what it tells of that piece.

Letters of shapes: B samples, P pairs, C, h and w of latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from vp_ray.models.policy import DiffusionPolicy, Prompted, Trajectory
from vp_ray.rl.config import RlSettings

Needs = Literal["trajectory", "final latents", "pairs", "differentiable reward"]
"""What a loss learns from: every step of an image (`StepBatch`), the finished image alone (`LatentBatch`), two images
of a prompt (`PairBatch`), or a scorer that gradients flow through (`PromptBatch`)."""

Seen = dict[str, Tensor]
"""Named figures of one micro-batch: zero-dimensional tensors, detached; NaN where one was not measured."""

RATIO_DEVIATION = "ratio_deviation"
"""The largest |ratio - 1| of a micro-batch, which a loss with ratios tells under this name."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One step of every image of a batch."""

    trajectory: Trajectory
    index: Tensor
    """(B,) which step."""
    advantages: Tensor
    """(B,)."""


@dataclass(frozen=True, slots=True)
class LatentBatch:
    """Finished images, each at one noise level."""

    latents: Tensor
    """(B, C, h, w) x0."""
    prompted: Prompted
    advantages: Tensor
    """(B,)."""
    noise: Tensor
    """(B, C, h, w)."""
    index: Tensor
    """(B,) which level of the model's forward process."""


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Two images of each prompt, both at one noise level with the same noise."""

    first: Tensor
    """(P, C, h, w) x0."""
    second: Tensor
    prompted: Prompted
    probability: Tensor
    """(P,) that the first is preferred."""
    weight: Tensor
    """(P,)."""
    noise: Tensor
    index: Tensor


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts to draw with gradient."""

    prompts: tuple[str, ...]
    prompted: Prompted
    noise: Tensor
    """(B, 1, C, h, w)."""
    stop: int
    """The step whose prediction of the picture is scored."""
    reward: Callable[[Tensor, tuple[str, ...]], Tensor]
    """(B,) rewards of pixels (B, 3, H, W) in 0..1 and their prompts; gradients flow through."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss and what it needs."""

    needs: Needs
    function: Callable[[DiffusionPolicy, Any, RlSettings, bool], tuple[Tensor, Seen]]
    """`function(policy, micro_batch, settings, measure)`: (loss, figures); `measure` asks for those that cost extra."""
    figures: tuple[str, ...]
    """Names of the figures that stand in the metrics."""
    has_ratios: bool = False
    """Whether it begins at ratio 1, which is checked at the start of each run."""
