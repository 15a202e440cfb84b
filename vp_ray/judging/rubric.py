"""The guideline that an annotator judges by: a YAML file with tasks, rules, worded levels and one text an aspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import Field, field_validator

from vp_ray.config import Settings, read_yaml
from vp_ray.errors import SettingsError
from vp_ray.ids import fingerprint
from vp_ray.judging.config import Mode
from vp_ray.records import ASPECTS, LEVELS

_PACKAGED: Final = "rubrics"


class _RubricFile(Settings):
    """What a rubric file holds."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: int = Field(ge=1)
    levels: tuple[str, ...]
    tasks: dict[Mode, str] = Field(min_length=1)
    instructions: str = Field(min_length=1)
    aspects: dict[str, str]

    @field_validator("levels")
    @classmethod
    def _one_word_a_level(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if len(levels) != len(LEVELS) or len(set(levels)) != len(LEVELS):
            raise ValueError(f"{len(LEVELS)} different levels are needed, the worst first")
        return levels

    @field_validator("aspects")
    @classmethod
    def _all_aspects(cls, aspects: dict[str, str]) -> dict[str, str]:
        unknown = [aspect for aspect in aspects if aspect not in ASPECTS]
        if unknown:
            raise ValueError(f"aspects must be among {', '.join(ASPECTS)}, and '{unknown[0]}' is not")
        missing = [aspect for aspect in ASPECTS if not aspects.get(aspect, "").strip()]
        if missing:
            raise ValueError(f"there is no guideline for {', '.join(missing)}; all of {', '.join(ASPECTS)} need one")
        return aspects


@dataclass(frozen=True, slots=True)
class Rubric:
    """A rubric that can be sent: its version names its whole content."""

    version: str
    levels: tuple[str, ...]
    """The wording of levels 1 to 5."""
    tasks: Mapping[Mode, str]
    """What is to be done, by mode."""
    instructions: str
    """What holds in every mode."""
    guides: Mapping[str, str]
    """What each aspect means."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects that it guides, in its order."""
        return tuple(self.guides)

    @classmethod
    def load(cls, source: str, mode: Mode = "listwise") -> Rubric:
        """The rubric of a file, or of a packaged name such as `visionprefer`, for a mode; raises `SettingsError`."""
        packaged = Path(str(files("vp_ray.judging"))) / _PACKAGED
        path = Path(source) if source.endswith((".yaml", ".yml")) else packaged / f"{source}.yaml"
        if not path.exists():
            known = ", ".join(sorted(found.stem for found in packaged.glob("*.yaml")))
            raise SettingsError(f"there is no rubric '{source}'", f"Give a YAML file or one of: {known}.")
        content = _RubricFile.load(read_yaml(path), str(path))
        if mode not in content.tasks:
            raise SettingsError(f"the rubric says nothing of the mode '{mode}'", f"Add tasks.{mode}.", str(path))
        return cls._of(content)

    @classmethod
    def _of(cls, content: _RubricFile) -> Rubric:
        plain: dict[str, Any] = content.model_dump()
        return cls(
            version=f"{content.name}-{content.version}-{fingerprint(plain)[:8]}",
            levels=content.levels,
            tasks={mode: text.strip() for mode, text in content.tasks.items()},
            instructions=content.instructions.strip(),
            guides={aspect: guide.strip() for aspect, guide in content.aspects.items()},
        )

    def preface(self, mode: Mode) -> str:
        """Task, rules and levels: what all requests of a mode have in common."""
        levels = "" if mode == "pairwise" else f"\n\nLevels: {'; '.join(self.levels)}."
        return f"{self.tasks[mode]}\n\n{self.instructions}{levels}\n"

    def guide(self, aspects: Sequence[str]) -> str:
        """What these aspects mean."""
        return "\n\n".join(f"## {aspect}\n{self.guides[aspect]}" for aspect in aspects) + "\n"

    def text(self, mode: Mode, aspects: Sequence[str]) -> str:
        """All that an annotator is told, the same to the byte for every group, so that providers can cache it."""
        return f"{self.preface(mode)}\n{self.guide(aspects)}"
