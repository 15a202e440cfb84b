"""What a VP-Score checkpoint says of itself in `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from vp_ray.errors import CheckpointError
from vp_ray.records import ASPECTS

ARCHITECTURE: Final = "VPScore"


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of the raw scores on a stated set, so that scores there have mean 0 and spread 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    overall_mean: float
    overall_std: float
    measured_on: str
    """The set, in words."""

    @classmethod
    def none(cls, aspects: int) -> Self:
        """Leaves raw scores as they are."""
        return cls((0.0,) * aspects, (1.0,) * aspects, 0.0, 1.0, "nothing: scores are raw")


@dataclass(frozen=True, slots=True)
class VPScoreConfig:
    """The shape of a VP-Score, how its inputs are prepared, and what its outputs mean."""

    blip: dict[str, Any]
    """The backbone's own BLIP settings."""
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    text_tokens: int
    """Longest prompt in tokens; what is longer is cut."""
    aspects: tuple[str, ...] = ASPECTS
    overall_weights: tuple[float, ...] = (1.0,) * len(ASPECTS)
    """Weight of each aspect's raw score in the overall score, which is their weighted mean."""
    head_widths: tuple[int, ...] = (64,)
    """Widths of the head's hidden layers."""
    dropout: float = 0.0
    normalisation: Normalisation = field(default_factory=lambda: Normalisation.none(len(ASPECTS)))

    @property
    def image_side(self) -> int:
        """Side of the square images that the backbone sees, in pixels."""
        side: int = self.blip["vision_config"]["image_size"]
        return side

    def to_json(self) -> dict[str, Any]:
        """The values of `config.json`."""
        return {"architecture": ARCHITECTURE, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Self:
        """What `to_json` gave; raises `CheckpointError` for anything else."""
        found = dict(values)
        if found.pop("architecture", None) != ARCHITECTURE:
            raise CheckpointError(
                "this is no VP-Score checkpoint", "Give the folder `reward/checkpoint` of a run.", where
            )
        try:
            measured = found.pop("normalisation")
            normalisation = Normalisation(**{key: _tuple(value) for key, value in measured.items()})
            return cls(**{key: _tuple(value) for key, value in found.items()}, normalisation=normalisation)
        except (TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint is of another version ({error})", "Train it again.", where) from None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
