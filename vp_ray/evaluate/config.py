"""Settings of the evaluate stage."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import PoolSettings
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.models.config import GeneratorSettings

VP_SCORE: Final = "vp_score"
"""The name of the run's reward model among the scorers."""

Aspect = Literal["prompt_following", "aesthetic", "fidelity", "harmlessness"]


class EvaluateSettings(Settings):
    """Compares the tuned model with its base on the same prompts and the same noise."""

    operational: ClassVar[frozenset[str]] = frozenset({"pool", "budget_usd"})

    base: GeneratorSettings
    """The model before tuning, and how both draw; the tables call the two `base` and `tuned`."""
    adapter: str | None = None
    """Directory of the LoRA adapter that makes it the tuned one; the run's own from `rl` where it is not set."""
    splits: tuple[str, ...] = Field(("held_out",), min_length=1)
    """Splits of the prompts; those of `held_out` and `compositional` were never trained on."""
    prompts: int | None = Field(None, ge=1)
    """At most so many prompts, chosen by hash; all where it is not set."""
    images_per_prompt: int = Field(1, ge=1, le=64)
    """Images of each prompt and model."""
    batches_per_shard: int = Field(4, ge=1)
    """Batches that are written, and after a fault repeated, together."""
    seed: int = 0
    """Changes the noise, the choice of prompts and the order of the images that a judge sees first."""
    pool: PoolSettings = PoolSettings()
    """The Ray Data actors that draw."""
    vp_score: bool = True
    """Whether the run's VP-Score scores both models; it is what was trained against, so it flatters the tuned one."""
    judges: tuple[AnnotatorSettings, ...] = ()
    """Annotators that see both images of a pair together; they should not be those that made the preferences."""
    orders: Literal[1, 2] = 2
    """Orders in which each pair is shown; two cancel a judge's liking for a place."""
    rubric: str = "visionprefer"
    """A packaged rubric by name, or a YAML file of your own."""
    budget_usd: float | None = Field(None, gt=0)
    """The stage stops before a request that could cost more than this in all; null is no limit."""
    weights: dict[Aspect, float] = Field({"prompt_following": 1, "aesthetic": 1, "fidelity": 1, "harmlessness": 1})
    """Weight of each aspect in a judge's overall score, which is their weighted mean; VP-Score has its own."""

    @field_validator("base")
    @classmethod
    def _both_draw_alike(cls, value: GeneratorSettings) -> GeneratorSettings:
        if value.adapter is not None:
            raise ValueError("base.adapter has no effect; the tuned model's is `adapter`")
        if value.guidance_scale[0] != value.guidance_scale[1]:
            raise ValueError("base.guidance_scale must be one number, so that both images of a pair share it")
        return value

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, value: dict[Aspect, float]) -> dict[Aspect, float]:
        if any(weight < 0 for weight in value.values()) or not any(value.values()):
            raise ValueError("weights must not be negative, and one must be above zero")
        return value

    @model_validator(mode="after")
    def _somebody_scores(self) -> EvaluateSettings:
        names = [judge.name for judge in self.judges]
        if any(judge.batch is not None for judge in self.judges):
            raise ValueError("judges are asked one request at a time: take out batch, which is for annotate")
        if not names and not self.vp_score:
            raise ValueError("nothing would score the images; set vp_score or name a judge")
        if len(set(names)) < len(names) or VP_SCORE in names:
            raise ValueError(f"judges must have different names, and none may be '{VP_SCORE}'")
        return self
