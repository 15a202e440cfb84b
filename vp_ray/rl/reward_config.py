"""Settings of what is rewarded beside the run's own VP-Score: more scorers, constraints, a user's taste."""

from __future__ import annotations

from pydantic import Field, model_validator

from vp_ray.config import Settings


class ScorerSettings(Settings):
    """One more scorer; its aspects are named `NAME.ASPECT` in weights, constraints and metrics."""

    app: str | None = None
    """A Serve application on the same cluster that scores, by its name."""
    source: str | None = None
    """A scorer that each worker loads and scores with in a thread of its own: a VP-Score's checkpoint, or
    `KIND:PLACE` as `vp-ray score` takes it, such as `pickscore:yuvalkirstain/PickScore_v1`."""

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


class PersonalSettings(Settings):
    """The taste of one user or group, learnt from their choices; its aspect is `user.preference`."""

    user: str
    """Who: a `rater` of the comparisons, a person or the name of a group."""
    comparisons: str | None = None
    """A Parquet file of choices between images of this run (`rater`, `image_id_a`, `image_id_b`, `preferred_a`,
    `prompt_id`); the run's own comparisons where it is not set."""
    dimensions: int = Field(8, ge=1)
    """Numbers of a user's embedding."""
    ridge: float = Field(1e-3, ge=0)
    """Weight of the squares of embeddings and projection."""
    updates: int = Field(300, ge=1)
    """Updates of the fit, each on all choices."""
    learning_rate: float = Field(0.02, gt=0)
    """Learning rate of the fit."""
    held_out_share: float = Field(0.2, ge=0, lt=1)
    """Share of the prompts whose choices only measure how well the taste was learnt."""
