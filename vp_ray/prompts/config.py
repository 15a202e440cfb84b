"""Settings of the prompts stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vp_ray.config import Settings


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
    """The file."""
    column: str = "prompt"
    """The key or column that holds the prompt."""
    category_column: str | None = None
    """The key or column that holds a category; prompts have none where it is not set."""
    limit: int | None = Field(None, ge=1)
    """Takes only the first prompts."""


PromptSource = Annotated[ShapeworldPrompts | FilePrompts, Field(discriminator="kind")]


class PromptSettings(Settings):
    """Where prompts come from and which are kept."""

    sources: tuple[PromptSource, ...] = Field(min_length=1)
    """Read in this order; of equal prompts the first is kept."""
    min_characters: int = Field(1, ge=1)
    """Shorter prompts are dropped, and counted."""
    max_characters: int = Field(2000, ge=1)
    """Longer prompts are dropped, and counted."""
    held_out_share: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts of files, chosen by the prompt's hash, that no model is trained on."""

    @model_validator(mode="after")
    def _ordered(self) -> PromptSettings:
        if self.max_characters < self.min_characters:
            raise ValueError("max_characters must be at least min_characters")
        return self
