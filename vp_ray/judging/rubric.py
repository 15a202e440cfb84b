"""The guideline that an annotator judges by: a YAML file with instructions, worded levels and one text an aspect."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import Field, field_validator

from vp_ray.config import Settings, read_yaml
from vp_ray.errors import SettingsError
from vp_ray.ids import fingerprint
from vp_ray.records import ASPECTS, LEVELS

_PACKAGED: Final = "rubrics"


class _RubricFile(Settings):
    """What a rubric file holds."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: int = Field(ge=1)
    levels: tuple[str, ...]
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
    def _known_aspects(cls, aspects: dict[str, str]) -> dict[str, str]:
        unknown = set(aspects) - set(ASPECTS)
        if unknown or not aspects:
            raise ValueError(f"aspects must be among {', '.join(ASPECTS)}")
        return aspects


@dataclass(frozen=True, slots=True)
class Rubric:
    """A rubric that can be sent: its version names its whole content."""

    version: str
    levels: tuple[str, ...]
    """The wording of levels 1 to 5."""
    aspects: tuple[str, ...]
    text: str
    """The prefix of every request, the same to the byte, so that providers can cache it."""

    @classmethod
    def load(cls, source: str) -> Rubric:
        """The rubric of a file, or of a packaged name such as `visionprefer`; raises `SettingsError`."""
        packaged = Path(str(files("vp_ray.judging"))) / _PACKAGED
        path = Path(source) if source.endswith((".yaml", ".yml")) else packaged / f"{source}.yaml"
        if not path.exists():
            known = ", ".join(sorted(found.stem for found in packaged.glob("*.yaml")))
            raise SettingsError(f"there is no rubric '{source}'", f"Give a YAML file or one of: {known}.")
        return cls._of(_RubricFile.load(read_yaml(path), str(path)))

    @classmethod
    def _of(cls, content: _RubricFile) -> Rubric:
        plain: dict[str, Any] = content.model_dump()
        guides = "\n\n".join(f"## {aspect}\n{guide.strip()}" for aspect, guide in content.aspects.items())
        levels = "; ".join(content.levels)
        return cls(
            version=f"{content.name}-{content.version}-{fingerprint(plain)[:8]}",
            levels=content.levels,
            aspects=tuple(content.aspects),
            text=f"{content.instructions.strip()}\n\nLevels: {levels}.\n\n{guides}\n",
        )
