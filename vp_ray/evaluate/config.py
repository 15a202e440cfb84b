"""Settings of the evaluate stage."""

from __future__ import annotations

import re
from typing import ClassVar, Final, Literal

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import PoolSettings
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.models.config import GeneratorSettings, Scheduler

VP_SCORE: Final = "vp_score"
"""The name of the run's reward model among the scorers."""

Aspect = Literal["prompt_following", "aesthetic", "fidelity", "harmlessness"]


class ConditionSettings(Settings):
    """Another way in which both models draw; what is not set is as in `evaluate.base` and `evaluate`."""

    steps: int | None = Field(None, ge=1, le=1000)
    """Denoising steps."""
    guidance_scale: float | None = Field(None, ge=0, le=100)
    """Classifier-free guidance; 1 is none."""
    scheduler: Scheduler | None = None
    """Sampler."""
    seed: int | None = None
    """Other noise."""
    prompts: int | None = Field(None, ge=1)
    """At most so many prompts."""

    @model_validator(mode="after")
    def _differs(self) -> ConditionSettings:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("a condition must set something")
        return self


class EvaluateSettings(Settings):
    """Compares the tuned model with its base, or any two models, on the same prompts and the same noise."""

    operational: ClassVar[frozenset[str]] = frozenset({"pool", "budget_usd", "device"})

    base: GeneratorSettings
    """The model before tuning, and how both draw; the tables call the two `base` and `tuned`."""
    adapter: str | None = None
    """Directory of the LoRA adapter that makes it the tuned one; the run's own from `rl` where it is not set."""
    tuned: GeneratorSettings | None = None
    """Another model in the place of the tuned one; the tables call it `tuned`, whatever its name. Pairs share prompt,
    guidance and seed, and the noise where both latents have the same shape; batches have the base's size."""
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
    scorers: dict[str, str] = Field(default_factory=dict)
    """Further scorers by name, as `vp-ray score` takes them (`imagereward:ImageReward.pt`): those that were not trained
    against tell whether the reward was merely exploited."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where VP-Score and the scorers compute, in this process; `auto` takes a GPU where there is one."""
    conditions: dict[str, ConditionSettings] = Field(default_factory=dict)
    """By name other guidance, samplers, step counts and seeds than in training, each a comparison of its own: whether
    the gain holds for images that are drawn differently."""
    judge_conditions: bool = False
    """Whether the judges see these images, too; else VP-Score and the scorers alone tell."""
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

    @property
    def scorer_names(self) -> tuple[str, ...]:
        """VP-Score, where it is asked, and the further scorers."""
        return (*((VP_SCORE,) if self.vp_score else ()), *self.scorers)

    def condition(self, name: str) -> EvaluateSettings:
        """The settings of one condition."""
        wanted = self.conditions[name]
        drawing = wanted.model_dump(include={"steps", "scheduler"}, exclude_none=True)
        if wanted.guidance_scale is not None:
            drawing["guidance_scale"] = (wanted.guidance_scale, wanted.guidance_scale)
        changes: dict[str, object] = {"base": self.base.model_copy(update=drawing), "conditions": {}}
        if self.tuned is not None:
            changes["tuned"] = self.tuned.model_copy(update=drawing)
        changes |= wanted.model_dump(include={"seed", "prompts"}, exclude_none=True)
        return self.model_copy(update=changes | ({} if self.judge_conditions else {"judges": ()}))

    def pairs_of(self, prompts: int) -> tuple[int, int]:
        """Pairs of images that so many prompts give, under every condition, and how many of them the judges see."""
        drawn = [min(prompts, way.prompts or prompts) for way in (self, *map(self.condition, self.conditions))]
        judged = drawn if self.judge_conditions else drawn[:1]
        return sum(drawn) * self.images_per_prompt, sum(judged) * self.images_per_prompt

    @field_validator("conditions")
    @classmethod
    def _conditions_name_folders(cls, value: dict[str, ConditionSettings]) -> dict[str, ConditionSettings]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise ValueError(f"'{name}' cannot name a folder; use letters, digits, '-', '_' and '.'")
        return value

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
        if not names and not self.scorer_names:
            raise ValueError("nothing would score the images; set vp_score, or name a scorer or a judge")
        everyone = [*names, *self.scorers]
        if len(set(everyone)) < len(everyone) or VP_SCORE in everyone:
            raise ValueError(f"judges and scorers must have different names, and none may be '{VP_SCORE}'")
        return self

    @model_validator(mode="after")
    def _the_other_model_draws_alike(self) -> EvaluateSettings:
        if self.tuned is None:
            return self
        if self.adapter is not None:
            raise ValueError("adapter has no effect with tuned, which is another model: set tuned.adapter")
        if self.tuned.guidance_scale != self.base.guidance_scale:
            raise ValueError("tuned.guidance_scale must be that of base, so that both images of a pair share it")
        return self

    @model_validator(mode="after")
    def _conditions_are_scored(self) -> EvaluateSettings:
        if self.judge_conditions and not (self.conditions and self.judges):
            raise ValueError("judge_conditions has no effect without conditions and judges")
        if self.conditions and not self.judge_conditions and not self.scorer_names:
            raise ValueError("nothing would score the conditions' images; set judge_conditions, or name a scorer")
        return self
