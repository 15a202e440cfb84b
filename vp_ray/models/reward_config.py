"""What a VP-Score checkpoint says of itself in `config.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from vp_ray.errors import CheckpointError, InputError
from vp_ray.models.preparation import Preparation
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
    def measured(cls, raw: NDArray[Any], weights: Sequence[float], measured_on: str) -> Self:
        """Of (N, A) raw scores and the weight of each aspect in the overall score; a spread of 0 is left as it is."""
        overall = weighted_mean(raw, weights)
        mean, std = raw.mean(axis=0, dtype=np.float64), raw.std(axis=0, dtype=np.float64)
        return cls(
            tuple(mean.tolist()),
            tuple(value or 1.0 for value in std.tolist()),
            float(overall.mean()),
            float(overall.std()) or 1.0,
            measured_on,
        )

    @classmethod
    def none(cls, aspects: int) -> Self:
        """Leaves raw scores as they are."""
        return cls((0.0,) * aspects, (1.0,) * aspects, 0.0, 1.0, "nothing: scores are raw")


@dataclass(frozen=True, slots=True)
class VPScoreConfig:
    """The shape of a VP-Score, how its inputs are prepared, and what its outputs mean."""

    family: str
    """The backbone's family: transformers' `model_type`."""
    backbone: dict[str, Any]
    """The backbone's own settings, as transformers has them."""
    preparation: Preparation
    """How pictures are fitted, and the mean and standard deviation of their pixels."""
    text_tokens: int
    """Longest prompt in tokens; what is longer is cut."""
    aspects: tuple[str, ...] = ASPECTS
    overall_weights: tuple[float, ...] = (1.0,) * len(ASPECTS)
    """Weight of each aspect's raw score in the overall score, which is their weighted mean."""
    head_widths: tuple[int, ...] = (64,)
    """Widths of the head's hidden layers."""
    dropout: float = 0.0
    normalisation: Normalisation = field(default_factory=lambda: Normalisation.none(len(ASPECTS)))

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
            records: dict[str, Any] = {
                name: kind(**{key: _tuple(value) for key, value in found.pop(name).items()})
                for name, kind in (("normalisation", Normalisation), ("preparation", Preparation))
            }
            return cls(**{key: _tuple(value) for key, value in found.items()}, **records)
        except (TypeError, KeyError, AttributeError, InputError) as error:
            raise CheckpointError(f"the checkpoint is of another version ({error})", "Train it again.", where) from None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def weighted_mean(raw: NDArray[Any], weights: Sequence[float]) -> NDArray[np.float64]:
    """(N,) weighted means of (N, A) raw scores."""
    mean: NDArray[np.float64] = raw @ (np.array(weights) / np.sum(weights))
    return mean
