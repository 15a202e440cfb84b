"""The instructions by which a model polishes prompts: a YAML file, named by the hash of its content."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from pydantic import Field

from vp_ray.config import Settings, read_yaml
from vp_ray.errors import SettingsError
from vp_ray.ids import fingerprint

_PACKAGED: Final = "guides"


class _GuideFile(Settings):
    """What a guide's file holds."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: int = Field(ge=1)
    instructions: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Guide:
    """Instructions and what names them."""

    version: str
    instructions: str

    @classmethod
    def load(cls, source: str) -> Guide:
        """The guide of a file, or of a packaged name such as `visionprefer`; raises `SettingsError`."""
        packaged = Path(str(files("vp_ray.prompts"))) / _PACKAGED
        path = Path(source) if source.endswith((".yaml", ".yml")) else packaged / f"{source}.yaml"
        if not path.exists():
            known = ", ".join(sorted(found.stem for found in packaged.glob("*.yaml")))
            raise SettingsError(f"there is no guide '{source}'", f"Give a YAML file or one of: {known}.")
        content = _GuideFile.load(read_yaml(path), str(path))
        version = f"{content.name}-{content.version}-{fingerprint(content.model_dump())[:8]}"
        return cls(version, content.instructions.strip())
