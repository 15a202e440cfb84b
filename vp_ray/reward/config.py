"""Settings of the reward stage and of the service that serves what it made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import OptimizerSettings, WorkerSettings

Aspect = Literal["prompt_following", "aesthetic", "fidelity", "harmlessness"]


class RewardSettings(Settings):
    """Trains VP-Score on the preferences of the run."""

    backbone: str = "embedded:blip"
    """The BLIP, CLIP or SigLIP that it starts from: `embedded:NAME`, a directory or a hub id
    (`Salesforce/blip-itm-large-coco`)."""
    revision: str | None = None
    """Hub revision; pin it, so that the model cannot change between two runs."""
    text_tokens: int | None = Field(None, ge=4)
    """Longest prompt in tokens; the backbone's own limit where it is not set, ImageReward's is 35. Longer prompts are
    cut and counted."""
    head_widths: tuple[int, ...] = (64,)
    """Widths of the hidden layers between the first token's state and the scores."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in the head."""
    frozen_share: float = Field(0.0, ge=0, lt=1)
    """Share of the lower layers of both networks that are not trained, with their embeddings; ImageReward's is 0.7."""
    overall_weights: dict[Aspect, float] = Field(
        {"prompt_following": 1, "aesthetic": 1, "fidelity": 1, "harmlessness": 1}, min_length=1
    )
    """Weight of each aspect's raw score in the overall score."""
    batch_groups: int = Field(16, ge=1)
    """Groups (prompts with all their images) of one update, over all ranks."""
    micro_batches: int = Field(1, ge=1)
    """Parts in which each rank works through its share of an update, to save memory."""
    epochs: float = Field(8.0, gt=0)
    """Passes over the training groups."""
    warm_up_share: float = Field(0.1, ge=0, lt=1)
    """Share of the updates over which the learning rate rises; after it, it falls as a cosine."""
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=3e-4, weight_decay=0.01)
    """AdamW."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Share of the prompts, by hash, that are not trained on: they choose the best weights and scale the scores."""
    validate_every: int = Field(20, ge=1)
    """Updates between two validations, each with a checkpoint from which a training that was cut off goes on."""
    folds: int | None = Field(None, ge=2, le=100)
    """Also trains once without each of so many parts of the prompts and scores the part that was left out: what the
    model is worth on prompts that it has not seen, where there are too few to hold some back."""
    workers: WorkerSettings = WorkerSettings()
    """The Ray Train workers."""
    seed: int = 0
    """Changes the head's first weights, the order of the groups and the choice of the validation prompts."""

    @model_validator(mode="after")
    def _parts_are_equal(self) -> RewardSettings:
        parts = self.workers.num_workers * self.micro_batches
        if self.batch_groups % parts:
            raise ValueError(f"batch_groups must be a multiple of workers.num_workers x micro_batches, here {parts}")
        if any(weight < 0 for weight in self.overall_weights.values()) or not any(self.overall_weights.values()):
            raise ValueError("overall_weights must not be negative, and one must be above zero")
        return self


class ServiceSettings(Settings):
    """Serves a VP-Score to many clients at once."""

    min_replicas: int = Field(1, ge=1)
    """Replicas that are kept."""
    max_replicas: int = Field(1, ge=1)
    """Replicas up to which the service grows under load."""
    cpus_per_replica: float = Field(1.0, ge=0)
    """Logical CPUs that each replica reserves."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """GPUs that each replica reserves; a fraction shares one."""
    threads_per_replica: int = Field(1, ge=1)
    """OpenMP threads of each replica."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may hold the replicas, for instance `{vp-ray/pool: train}`."""
    max_batch_requests: int = Field(16, ge=1)
    """Requests, of whichever clients, that share forward passes."""
    batch_wait_seconds: float = Field(0.005, ge=0)
    """How long a request waits for others to share with."""
    stuck_after_seconds: float = Field(300.0, gt=0)
    """A replica whose batch takes longer is replaced."""

    @model_validator(mode="after")
    def _ordered(self) -> ServiceSettings:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self
