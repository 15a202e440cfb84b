"""Settings of the rl stage: what is rewarded, how images are drawn, and how the policy moves."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings
from vp_ray.distributed.config import OptimizerSettings, WorkerSettings
from vp_ray.models.config import LoraSettings
from vp_ray.rl.reward_config import ConstraintSettings, PersonalSettings, ScorerSettings

USER: Final = "user"
"""The name of the user's taste among the scorers."""


class RlSettings(Settings):
    """Fine-tunes a text-to-image model against a reward by reinforcement learning."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {"reward_timeout_seconds", "reward_attempts", "checkpoint_every", "trackers", "wandb_project"}
    )

    generator: str
    """The model to train: `embedded:NAME`, a Stable Diffusion 1.x or 2.x directory, or a hub id."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the frozen weights; adapter, latents and optimiser are float32."""
    lora: LoraSettings = LoraSettings()
    """The adapter that is trained."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, a third more time."""
    algorithm: Literal["ddpo"] = "ddpo"
    """The loss."""
    seed: int = 0
    """With the epoch, the prompt and the sample it fixes every random number."""

    reward_weights: dict[str, float] = Field(
        {"prompt_following": 1.0, "aesthetic": 1.0, "fidelity": 1.0, "harmlessness": 1.0}, min_length=1
    )
    """Weight of each aspect in the reward, which is their weighted sum: `ASPECT` of the run's own VP-Score, and
    `NAME.ASPECT` of each of `scorers`."""
    scorers: dict[str, ScorerSettings] = Field(default_factory=dict)
    """Scorers beside the run's own VP-Score, by name; those without a weight only watch, in the held-out score."""
    personal: PersonalSettings | None = None
    """The user whose taste the reward weighs as `user.preference`, beside accuracy."""
    constraints: dict[str, ConstraintSettings] = Field(default_factory=dict)
    """Aspects whose mean is held at a bound, such as `harmlessness: {at_least: 0}`; what the reward weighs is then
    raised as far as the bounds allow."""
    advantage_mixing: Literal["reward", "advantage"] = "reward"
    """Whether aspects are summed and the sum is normalised, or each is normalised alone and then summed."""
    reward_timeout_seconds: float = Field(120.0, gt=0)
    """How long to wait for one batch's scores."""
    reward_attempts: int = Field(3, ge=1)
    """How often a batch is sent, when a replica of the service dies, before the stage stops with a checkpoint."""

    epochs: int = Field(20, ge=0)
    """Rounds of drawing images and learning from them."""
    prompts_per_epoch: int = Field(16, ge=1)
    """Prompts of one epoch; all training prompts have their turn before one comes again."""
    samples_per_prompt: int = Field(16, ge=2)
    """Images of each prompt; an advantage compares an image with these."""
    batch_size: int = Field(32, ge=1)
    """Images of one forward pass, on each rank."""
    updates_per_epoch: int = Field(2, ge=1)
    """Optimiser steps of one pass over the epoch's images."""
    inner_epochs: int = Field(1, ge=1)
    """Passes over the epoch's images."""
    same_start_noise: bool = False
    """Whether the images of a prompt start from the same noise and differ by their steps' noise alone."""

    steps: int = Field(10, ge=1, le=1000)
    """Denoising steps of a training image."""
    eta: float = Field(1.0, gt=0, le=1)
    """Noise of a DDIM step: 1 is DDPM's; with 0 there would be nothing to learn from."""
    guidance_scale: float = Field(1.0, ge=1)
    """Classifier-free guidance in sampling and training; 1 is none and halves the work."""
    trained_steps_share: float = Field(1.0, gt=0, le=1)
    """Share of an image's steps that are trained, drawn at random for every image."""
    drop_last_steps: int = Field(0, ge=0)
    """Steps at the low-noise end that are never trained."""

    step_weights: Literal["variance", "equal"] = "variance"
    """How much each step's advantage counts: as the variance of the step's noise, or all alike as in DDPO. A step of
    std s has a gradient whose noise grows as 1 / s while the reward it can move does not, so that with equal weights
    the last steps drown the first."""
    clip_nats: float = Field(1.6, gt=0)
    """Clip range of the ratio in nats of a whole step; the loss divides it by the number of latent values."""
    advantage_clip: float = Field(5.0, gt=0)
    """Largest size of an advantage."""
    advantage_scale: Literal["prompt", "epoch"] = "prompt"
    """Whose standard deviation advantages are divided by: each prompt's, or that of the whole epoch."""
    statistics_window: int = Field(0, ge=0)
    """Last rewards of a prompt, over epochs, that its mean and deviation are taken from once it has 16; 0 takes this
    epoch's alone."""
    kl_coefficient: float = Field(0.01, ge=0)
    """Weight of the divergence from the start, in advantages a nat; 0 turns this guard off."""
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=3e-3)
    """The optimiser of the adapter."""
    ema_decay: float = Field(0.9, ge=0, lt=1)
    """Decay of the averaged weights that are evaluated and saved; 0 takes the last weights."""

    held_out_prompts: int = Field(64, ge=0)
    """Prompts that are taken out of training and drawn at each evaluation, with fixed seeds; 0 turns this guard off."""
    held_out_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each aspect in the held-out score; where none is given, the aspects that the reward leaves out, or the
    reward itself where it leaves out none."""
    evaluate_every: int = Field(5, ge=1)
    """Epochs between evaluations; each also writes a grid of images with fixed seeds."""
    evaluation_steps: int | None = Field(None, ge=1, le=1000)
    """Denoising steps of a held-out image, which is drawn with eta 0; as in training where it is not set."""
    early_stop_patience: int = Field(3, ge=0)
    """Evaluations in a row below the best, while the reward rises, after which training ends; 0 never ends it."""
    early_stop_tolerance: float = Field(0.02, ge=0)
    """How far below the best a held-out score counts as fallen."""
    diversity_floor: float = Field(0.3, ge=0, lt=1)
    """Share of the start's image diversity (the variance of VP-Score's image features over the held-out images) below
    which an evaluation counts like a fallen score, and is never the best; 0 turns this guard off."""
    keep: Literal["best", "last"] = "best"
    """Which weights become the adapter: those of the best held-out score, or the last."""
    checkpoint_every: int = Field(5, ge=1)
    """Epochs between checkpoints; two are kept."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where curves and grids go beside `metrics.jsonl`: TensorBoard files in `rl/tensorboard`, Weights & Biases."""
    wandb_project: str = "vp-ray"
    """The project at Weights & Biases."""

    workers: WorkerSettings = WorkerSettings()
    """The Ray Train workers."""

    @field_validator("reward_weights", "held_out_weights")
    @classmethod
    def _some_weight(cls, value: dict[str, float]) -> dict[str, float]:
        if value and not any(value.values()):
            raise ValueError("at least one weight must differ from 0")
        return value

    @field_validator("scorers")
    @classmethod
    def _plain_names(cls, value: dict[str, ScorerSettings]) -> dict[str, ScorerSettings]:
        if any("." in name or not name for name in value):
            raise ValueError("the name of a scorer has no dot")
        if USER in value:
            raise ValueError(f"the name '{USER}' is that of personal")
        return value

    @model_validator(mode="after")
    def _divisible(self) -> RlSettings:
        images = self.prompts_per_epoch * self.samples_per_prompt
        share = self.batch_size * self.updates_per_epoch * self.workers.num_workers
        if images % share:
            raise ValueError(
                f"prompts_per_epoch x samples_per_prompt ({images}) must be a multiple of"
                f" batch_size x updates_per_epoch x workers.num_workers ({share})"
            )
        if self.statistics_window and self.advantage_scale == "epoch":
            raise ValueError("statistics_window takes each prompt's own deviation, so advantage_scale must be 'prompt'")
        if self.statistics_window and self.constraints and self.advantage_mixing == "reward":
            raise ValueError(
                "with constraints, statistics_window would mix rewards of other multipliers: take advantage_mixing"
                " 'advantage'"
            )
        weighed = self.reward_weights.get(f"{USER}.preference") or f"{USER}.preference" in self.constraints
        if self.personal is not None and not weighed:
            raise ValueError("personal has no effect without a weight of 'user.preference'")
        if self.keep == "best" and self.held_out_prompts == 0:
            raise ValueError("keep 'best' needs held_out_prompts")
        if self.drop_last_steps >= self.steps:
            raise ValueError("drop_last_steps must leave a step to train")
        if self.workers.zero_stage == 3:
            raise ValueError(
                "ZeRO 3 does not fit sampling step by step; adapters are small, so take workers.zero_stage 0"
            )
        return self
