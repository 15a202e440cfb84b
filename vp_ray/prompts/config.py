"""Settings of the prompts stage."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from vp_ray.config import Settings
from vp_ray.judging.config import ModelSettings

Personal = Literal["mail", "phone", "handle"]


class ShapeworldPrompts(Settings):
    """Prompts of the embedded world, drawn evenly from its categories."""

    kind: Literal["shapeworld"]
    """Chooses this kind of source."""
    counts: dict[Literal["train", "held_out", "compositional"], int] = Field({"train": 256, "held_out": 256})
    """How many prompts of each split."""
    seed: int = 0
    """Changes which prompts are drawn."""


class FilePrompts(Settings):
    """Prompts of one file."""

    kind: Literal["text", "json", "jsonl", "csv", "tsv", "parquet"]
    """`text` holds a prompt a line, `json` a list of strings or objects, the others a column of prompts."""
    path: str
    """The file: a path, or a URI such as s3://bucket/prompts.jsonl."""
    column: str = "prompt"
    """The key or column that holds the prompt."""
    category_column: str | None = None
    """The key or column that holds a category; prompts have none where it is not set."""
    limit: int | None = Field(None, ge=1)
    """Takes only the first prompts."""


BenchmarkName = Literal["t2i_compbench", "parti_prompts", "drawbench", "geneval"]


class BenchmarkPrompts(Settings):
    """A published test suite with its categories, from the files in which its authors publish it."""

    kind: Literal["benchmark"]
    """Chooses this kind of source."""
    name: BenchmarkName
    """T2I-CompBench (its validation lists), PartiPrompts, DrawBench or GenEval."""
    path: str
    """The file; the folder of its lists for T2I-CompBench."""
    split: Literal["held_out", "compositional"] = "held_out"
    """The split of all its prompts; none is ever trained on."""
    per_category: int | None = Field(None, ge=1)
    """Takes only the first prompts of each category."""


PromptSource = Annotated[ShapeworldPrompts | FilePrompts | BenchmarkPrompts, Field(discriminator="kind")]


class ModeratorSettings(ModelSettings):
    """A moderation endpoint that is asked about every prompt."""

    name: str = Field("moderation", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The name in the ledger."""
    model: str = "omni-moderation-latest"
    """The model's name at its address."""
    max_reply_tokens: int = Field(16, ge=16)
    """What is counted against a limit on tokens beside the prompt."""
    on_flagged: Literal["drop", "keep"] = "drop"
    """Whether prompts that are flagged, or that nobody could answer for, are dropped, or kept with their flags.
    Neither is ever polished."""

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> ModeratorSettings:
        for name in ("api", "temperature"):
            if name in self.model_fields_set:
                raise ValueError(f"{name} has no effect on a moderation")
        return self


class PolisherSettings(ModelSettings):
    """A language model that writes prompts again, without bias, inconsistency and unsafe content."""

    name: str = Field("polish", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The name in the ledger."""
    guide: str = "visionprefer"
    """Packaged instructions by name, or a YAML file of your own."""


class PromptSettings(Settings):
    """Where prompts come from and which are kept."""

    operational: ClassVar[frozenset[str]] = frozenset({"budget_usd"})

    sources: tuple[PromptSource, ...] = Field(min_length=1)
    """Read in this order; of equal prompts the first is kept."""
    min_characters: int = Field(1, ge=1)
    """Shorter prompts are dropped, and counted."""
    max_characters: int = Field(2000, ge=1)
    """Longer prompts are dropped, and counted."""
    held_out_share: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts of files, chosen by the prompt's hash, that no model is trained on."""

    mask: tuple[Personal, ...] = ()
    """Personal data that is replaced in `prompt` and `prompt_raw`: mail addresses, telephone numbers, handles."""
    near_duplicates: float | None = Field(None, gt=0, le=1)
    """Prompts whose Jaccard similarity to an earlier one is at least this are dropped, and counted; 0.8 is usual."""
    moderation: ModeratorSettings | None = None
    """Asks a moderation endpoint about every prompt."""
    polish: PolisherSettings | None = None
    """Has a language model write every prompt again; `prompt_raw` stays as it was."""
    budget_usd: float | None = Field(None, gt=0)
    """The stage stops before a request that could cost more than this in all; null is no limit."""

    @property
    def models(self) -> tuple[ModelSettings, ...]:
        """The models that are asked."""
        return tuple(model for model in (self.moderation, self.polish) if model is not None)

    @model_validator(mode="after")
    def _models_differ(self) -> PromptSettings:
        if len({model.name for model in self.models}) < len(self.models):
            raise ValueError("moderation and polish must have different names")
        if self.budget_usd is not None and not self.models:
            raise ValueError("budget_usd has no effect where neither moderation nor polish is set")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> PromptSettings:
        if self.max_characters < self.min_characters:
            raise ValueError("max_characters must be at least min_characters")
        return self
