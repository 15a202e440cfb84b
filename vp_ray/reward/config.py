"""Settings of the reward stage and of the service that serves what it made."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import OptimizerSettings, WorkerSettings

Aspect = Literal["prompt_following", "aesthetic", "fidelity", "harmlessness"]


class FrozenStatesSettings(Settings):
    """Where the states that the frozen lower layers of the vision network make of images are kept.

    They are the same at every step, so that each image goes through these layers once.
    """

    operational: ClassVar[frozenset[str]] = frozenset({"store", "limit_gb"})

    store: Literal["memory", "disk", "none"] = "memory"
    """Each rank's own `memory`; `disk`, files in the stage's folder that all ranks share and that are removed at its
    end, or in each machine's temporary folder where the run is on an object store; `none` makes them at every step."""
    limit_gb: float = Field(4.0, gt=0)
    """Bound in GiB, of each rank in memory and of all together on disk; ViT-L at 224 pixels needs 0.8 MB an image. When
    it is reached, what is kept stays and other images are worked out at every step."""


class VariantSettings(Settings):
    """Another training on the same preferences, for an ablation or a curve; what is not set is as in `reward`."""

    aspects: tuple[Aspect, ...] | None = Field(None, min_length=1)
    """See `reward.aspects`."""
    train_share: float | None = Field(None, gt=0, le=1)
    """See `reward.train_share`."""
    frozen_share: float | None = Field(None, ge=0, lt=1)
    """See `reward.frozen_share`."""
    backbone: str | None = None
    """See `reward.backbone`."""
    pretrained: bool | None = None
    """See `reward.pretrained`."""
    preferences: str | None = None
    """See `reward.preferences`."""

    @model_validator(mode="after")
    def _differs(self) -> VariantSettings:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("a variant must set something")
        return self


class RewardSettings(Settings):
    """Trains VP-Score on the preferences of the run."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {"workers", "micro_batches", "frozen_states", "gradient_checkpointing"}
    )

    backbone: str = "embedded:blip"
    """The BLIP, CLIP or SigLIP that it starts from: `embedded:NAME`, a directory or a hub id
    (`Salesforce/blip-itm-large-coco`)."""
    revision: str | None = None
    """Hub revision; pin it, so that the model cannot change between two runs."""
    pretrained: bool = True
    """Whether it starts from the backbone's weights; otherwise from random ones of the same shape, which shows what
    pre-training is worth."""
    preferences: str | None = None
    """A run whose preferences, and their images, are learnt from; this one's where it is not set."""
    text_tokens: int | None = Field(None, ge=4)
    """Longest prompt in tokens; the backbone's own limit where it is not set, ImageReward's is 35. Longer prompts are
    cut and counted."""
    head_widths: tuple[int, ...] = (64,)
    """Widths of the hidden layers between the first token's state and the scores."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in the head."""
    frozen_share: float = Field(0.0, ge=0, lt=1)
    """Share of the lower layers of both networks that are not trained, with their embeddings; ImageReward's is 0.7."""
    frozen_states: FrozenStatesSettings = FrozenStatesSettings()
    """What the frozen layers made is kept and not made again."""
    aspects: tuple[Aspect, ...] | None = Field(None, min_length=1)
    """Aspects that are trained, for instance all but one; all that are labelled where it is not set."""
    overall_weights: dict[Aspect, float] = Field(
        {"prompt_following": 1, "aesthetic": 1, "fidelity": 1, "harmlessness": 1}, min_length=1
    )
    """Weight of each aspect's raw score in the overall score."""
    train_share: float = Field(1.0, gt=0, le=1)
    """Share of the training prompts, by hash, that are used; for a curve of accuracy over training-set size."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products; `auto` is bfloat16 on a GPU that has it. Weights, gradients and moments are float32."""
    gradient_checkpointing: bool = False
    """Computes a layer's inner states again when its gradient is, to save memory."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the weights (0.999 with some thousand updates), which is validated and kept in place
    of the weights themselves; no average where it is not set. Not at ZeRO stage 3."""
    batch_groups: int = Field(16, ge=1)
    """Groups (prompts with all their images) of one update, over all ranks."""
    micro_batches: int = Field(1, ge=1)
    """Parts in which each rank works through its share of an update, to save memory. Where ranks times parts are more
    than groups, the images of a group are shared by several of them."""
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
    variants: dict[str, VariantSettings] = Field(default_factory=dict)
    """By name further trainings, each validated on the same prompts: the paper's ablation leaves one aspect out, and a
    curve over training-set size takes shares. Their checkpoints are `reward/variants/NAME/checkpoint`."""
    workers: WorkerSettings = WorkerSettings()
    """The Ray Train workers; their number and ZeRO stage may change when a training goes on."""
    sharded_checkpoints: bool = False
    """At ZeRO stage 3 each rank writes its own part of a checkpoint, for models whose whole state is too large for one
    rank; another number of ranks goes on by DeepSpeed's universal checkpoint. These files are pickles: keep the run
    where nobody else can write."""
    seed: int = 0
    """Changes the head's first weights, the order of the groups and the choice of the validation prompts."""

    @model_validator(mode="after")
    def _parts_are_equal(self) -> RewardSettings:
        parts = self.workers.num_workers * self.micro_batches
        if self.batch_groups % parts and parts % self.batch_groups:
            raise ValueError(
                f"batch_groups must be a multiple of workers.num_workers x micro_batches, here {parts}, or divide it"
            )
        return self

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> RewardSettings:
        trained = [weight for name, weight in self.overall_weights.items() if name in (self.aspects or (name,))]
        if any(weight < 0 for weight in self.overall_weights.values()) or not any(trained):
            raise ValueError("overall_weights must not be negative, and that of a trained aspect must be above zero")
        if self.frozen_share > 0 and not self.pretrained:
            raise ValueError("random layers must not be frozen: set frozen_share to 0 where pretrained is false")
        if self.frozen_share == 0 and self.frozen_states != FrozenStatesSettings():
            raise ValueError("frozen_states has no effect while frozen_share is 0")
        for name in self.variants:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise ValueError(f"the variant '{name}' cannot name a folder; use letters, digits, '-', '_' and '.'")
            self.variant(name)
        if self.sharded_checkpoints and self.workers.zero_stage != 3:
            raise ValueError("sharded_checkpoints has no effect below workers.zero_stage 3")
        if self.ema_decay is not None and self.workers.zero_stage == 3:
            raise ValueError("ema_decay needs whole weights on each rank; set workers.zero_stage to 2 or less")
        return self

    @property
    def trainings(self) -> int:
        """How many trainings the stage makes: its own, one for each fold, and one for each variant."""
        return 1 + (self.folds or 0) + len(self.variants)

    def variant(self, name: str) -> RewardSettings:
        """The settings of one variant."""
        changes = {key: value for key, value in self.variants[name].model_dump().items() if value is not None}
        return RewardSettings.model_validate({**self.model_dump(), **changes, "variants": {}, "folds": None})


class ServiceLimits(Settings):
    """What one request over HTTP may hold; more is refused by name, an image alone or the request as a whole."""

    body_megabytes: float = Field(64.0, gt=0)
    """Longest body in megabytes; a longer one is refused before it is read to its end."""
    images: int = Field(256, ge=1)
    """Most images of a request."""
    image_side: int = Field(8192, ge=16)
    """Longest side of an image in pixels, by its header: what is larger is not decoded."""
    image_megapixels: float = Field(32.0, gt=0)
    """Most pixels of an image, in millions, by its header."""
    request_megapixels: float = Field(256.0, gt=0)
    """Most pixels of all images of a request together, in millions; the images that go beyond them are refused."""
    prompt_characters: int = Field(4096, ge=1)
    """Longest prompt in characters."""


class ServiceSettings(Settings):
    """Serves reward models to many clients at once."""

    min_replicas: int = Field(1, ge=1)
    """Replicas that are kept."""
    max_replicas: int = Field(1, ge=1)
    """Replicas up to which the service grows under load."""
    target_ongoing_requests: float | None = Field(None, gt=0)
    """Requests in work or waiting for each replica above which the service grows; two batches when it is not set."""
    scale_up_seconds: float = Field(10.0, ge=0)
    """How long a load must last before the service grows."""
    scale_down_seconds: float = Field(300.0, ge=0)
    """How long replicas must have been idle before the service shrinks."""
    cpus_per_replica: float = Field(1.0, ge=0)
    """Logical CPUs that each replica reserves."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """GPUs that each replica reserves; a fraction shares one."""
    threads_per_replica: int = Field(1, ge=1)
    """OpenMP threads of each replica."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may hold the replicas, for instance `{vp-ray/pool: train}`."""
    models_per_replica: int = Field(2, ge=1)
    """Models that a replica keeps in memory; the one that was not asked for longest makes room for another."""
    max_batch_images: int = Field(32, ge=1)
    """Images, of whichever clients, that share a forward pass."""
    batch_wait_seconds: float = Field(0.005, ge=0)
    """How long an image waits for others to share with, where the model is idle."""
    stuck_after_seconds: float = Field(300.0, gt=0)
    """A replica whose batch takes longer is replaced."""
    max_waiting_requests: int = Field(1024, ge=1)
    """Requests that may wait for a replica; further ones are told to come again."""
    request_timeout_seconds: float = Field(120.0, gt=0)
    """A request over HTTP that takes longer is answered with an error."""
    attempts: int = Field(4, ge=1)
    """How often a request over HTTP is given to a replica, where the replica that held it died."""
    gateways: int = Field(1, ge=1)
    """Processes that take HTTP requests and decode their images."""
    decoding_threads: int = Field(2, ge=1)
    """Threads of each of these processes that decode images."""
    token_env: str | None = Field(None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the bearer token which HTTP requests must bring; on a cluster it is
    set on the nodes, never in a job's settings. Without one the service answers on loopback only."""
    limits: ServiceLimits = ServiceLimits()
    """What a request may hold."""

    @model_validator(mode="after")
    def _ordered(self) -> ServiceSettings:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self
