"""Settings of the annotate stage: who judges, by which rubric, in what way, in how many orders, for how much."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import PoolSettings
from vp_ray.judging.config import AnnotatorSettings, Mode, OrderCount


class ChoiceSettings(Settings):
    """Compares the annotators on the same groups, to choose one: agreement with the truth, price and bias."""

    truth: str | None = None
    """The annotator whose answers count as true, and enter no rating; the people's choices of the run's import where it
    is not set."""
    tolerance: float = Field(0.02, gt=0, lt=0.5)
    """Accuracy that a cheaper annotator may lack to be recommended before the best."""


class AnnotateSettings(Settings):
    """Judges every group of images with every annotator in every order."""

    operational: ClassVar[frozenset[str]] = frozenset({"actors", "budget_usd", "requests_per_shard"})

    annotators: tuple[AnnotatorSettings, ...] = Field(min_length=1)
    """The models that judge; ratings are means over all of them."""
    rubric: str = "visionprefer"
    """A packaged rubric by name, or a YAML file of your own."""
    mode: Mode = "listwise"
    """`listwise`: levels for all images of a group in one request. `pointwise`: levels for one image a request.
    `pairwise`: which of two images is better, or a tie, for every two images of a group."""
    ask: Literal["all", "each"] = "all"
    """One request with all aspects, or one for `each` aspect, whose guideline then comes after the images."""
    show_prompt: Literal["always", "prompt_following"] = "always"
    """`prompt_following`: the prompt is shown only where that aspect is asked about, lest what was wanted colours what
    is said of quality (the halo between aspects); needs `ask: each`."""
    group_size: int = Field(4, ge=1, le=9)
    """Images that are judged together, or compared with each other; a prompt with more is split into groups as even as
    they can be."""
    orders: OrderCount = 2
    """Orders in which each group is shown: 1; 2 (one drawn by hash, and its reverse); or 4 (Williams square). Pairs
    have at most 2."""
    samples: int = Field(1, ge=1, le=32)
    """Answers to every request (self-consistency), each a judgement of its own; needs a temperature above 0."""
    choice: ChoiceSettings | None = None
    """Compares the annotators with the truth and recommends one; null does not."""
    budget_usd: float | None = Field(None, gt=0)
    """The stage stops before a request that could cost more than this in all; null is no limit."""
    requests_per_shard: int = Field(32, ge=1)
    """Requests that are handed to an actor at a time."""
    actors: PoolSettings = PoolSettings()
    """The pool of actors that send the requests."""

    @field_validator("annotators")
    @classmethod
    def _names_differ(cls, annotators: tuple[AnnotatorSettings, ...]) -> tuple[AnnotatorSettings, ...]:
        if len({item.name for item in annotators}) != len(annotators):
            raise ValueError("annotators must have different names")
        return annotators

    @model_validator(mode="after")
    def _truth_judges_with_others(self) -> AnnotateSettings:
        truth = self.choice.truth if self.choice else None
        names = [annotator.name for annotator in self.annotators]
        if truth is not None and (truth not in names or len(names) < 2):
            raise ValueError(f"choice.truth names '{truth}', which must be one of several annotators")
        return self

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> AnnotateSettings:
        if self.show_prompt == "prompt_following" and self.ask == "all":
            raise ValueError("show_prompt: prompt_following needs ask: each, since one request has one prompt")
        for name in ("orders", "group_size") if self.mode == "pointwise" else ():
            if name in self.model_fields_set and getattr(self, name) != 1:
                raise ValueError(f"{name} has no effect in the mode pointwise, which shows one image at a time")
        if self.mode == "pairwise" and self.orders == 4:
            raise ValueError("two images have two orders: set orders to 1 or 2 in the mode pairwise")
        if self.mode == "pairwise" and self.group_size == 1:
            raise ValueError("groups of one image have no pairs: raise group_size, or take the mode pointwise")
        if self.samples > 1:
            for annotator in self.annotators:
                if annotator.temperature == 0:
                    raise ValueError(
                        f"samples of '{annotator.name}' are all the same at temperature 0: raise its temperature"
                    )
        return self
