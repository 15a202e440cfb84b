"""Settings of what is rewarded beside the run's own VP-Score: more scorers, and constraints."""

from __future__ import annotations

from pydantic import Field, model_validator

from vp_ray.config import Settings


class ScorerSettings(Settings):
    """One more scorer; its aspects are named `NAME.ASPECT` in weights, constraints and metrics."""

    app: str | None = None
    """A Serve application on the same cluster that scores, by its name."""
    source: str | None = None
    """A checkpoint that each worker loads and scores with in a thread of its own."""

    @model_validator(mode="after")
    def _one_of_them(self) -> ScorerSettings:
        if (self.app is None) == (self.source is None):
            raise ValueError("give either app or source")
        return self


class ConstraintSettings(Settings):
    """Holds the mean of an aspect at a bound: a Lagrange multiplier grows while it lies below."""

    at_least: float
    """The bound, in the scorer's own units."""
    rate: float = Field(0.1, gt=0)
    """What the multiplier grows by in an epoch for each unit that the mean lies below the bound."""
    start: float = Field(0.0, ge=0)
    """The multiplier of the first epoch."""
    most: float = Field(10.0, gt=0)
    """The largest multiplier."""
