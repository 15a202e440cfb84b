"""What the functions of the interface give back: a run directory, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vp_ray.storage import Manifest, RunFolder

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Judged:
    """What `annotate` made. Tables are Arrow's: `.to_pandas()` or `.to_pylist()` turns them into others."""

    run: RunFolder

    @property
    def ratings(self) -> pa.Table:
        """Mean level and standard error by image and aspect (`records.RATINGS`); of `pairwise` there are none."""
        return self.run.stage("annotate").read_table("ratings.parquet")

    @property
    def judgements(self) -> pa.Table:
        """Every answer with its status, levels and rationales (`records.JUDGEMENTS`)."""
        return self.run.stage("annotate").read_table("judgements.parquet")

    @property
    def preferences(self) -> pa.Table:
        """Pairs of images with the probability that the first is preferred (`records.PREFERENCES`)."""
        return self.run.stage("preferences").read_table("preferences.parquet")

    @property
    def figures(self) -> dict[str, Any]:
        """Agreement, bias of position and cost, as in the manifest of the stage."""
        return _manifest(self.run, "annotate").figures

    @property
    def cost_usd(self) -> float:
        """What the answers cost."""
        return _manifest(self.run, "annotate").cost_usd


@dataclass(frozen=True, slots=True)
class TrainedReward:
    """What `train_reward` made."""

    run: RunFolder

    @property
    def checkpoint(self) -> str:
        """Path or URI, for `score`, `tune`, `vp-ray serve` and `load_scorer`."""
        return (self.run.stage("reward") / "checkpoint").uri

    @property
    def accuracy(self) -> dict[str, Any]:
        """By aspect, the share of validation pairs that it orders as people did, with its 95 % interval."""
        accuracy: dict[str, Any] = _manifest(self.run, "reward").figures["accuracy"]
        return accuracy


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` made."""

    run: RunFolder
    generator: str

    @property
    def adapter(self) -> Path:
        """The folder that `pipe.load_lora_weights` takes; without `lora` that of the whole denoising network."""
        return (self.run.stage("rl") / "adapter").local_path

    @property
    def figures(self) -> dict[str, Any]:
        """First, last and best rewards, as in the manifest of the stage."""
        return _manifest(self.run, "rl").figures

    def pipeline(self) -> Any:
        """The generator as a diffusers pipeline, with what was trained."""
        from vp_ray.models.config import GeneratorSettings
        from vp_ray.models.loading import load_pipeline

        return load_pipeline(GeneratorSettings(name="tuned", source=self.generator, adapter=str(self.adapter)))


def _manifest(run: RunFolder, stage: str) -> Manifest:
    return run.stage(stage).finished()
