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

Algorithm = Literal["ddpo", "flow_grpo", "nft", "online_dpo", "dpo", "refl"]


class DpoSettings(Settings):
    """Diffusion-DPO, on the run's preferences (`dpo`) or on the best and worst of each prompt (`online_dpo`)."""

    beta: float = Field(5000.0, gt=0)
    """How strongly the policy is held to its start; the papers take 5000, and 2000 for flow models."""
    pairs_per_epoch: int = Field(256, ge=1)
    """Pairs of one epoch of `dpo`; all pairs have their turn before one comes again."""


class NftSettings(Settings):
    """DiffusionNFT."""

    strength: float = Field(1.0, gt=0, le=1)
    """b: how far the implicit policies of good and bad images lie from the old one."""
    reference_weight: float = Field(1e-4, ge=0)
    """Weight of the squared distance of the network's predictions from those at the start."""
    old_growth: float = Field(0.001, ge=0)
    """The old policy, which draws the images, is an average of the trained one over epochs: at epoch n it keeps the
    share old_growth x n of itself."""
    old_limit: float = Field(0.5, ge=0, lt=1)
    """The largest share that it keeps; 0 makes it the policy at the epoch's start."""


class ReflSettings(Settings):
    """ReFL: the gradient of the reward itself."""

    threshold: float = 2.0
    """Reward above which an image is good enough and gives no gradient."""
    scale: float = Field(1e-3, gt=0)
    """Factor on the loss."""
    last_share: float = Field(0.25, gt=0, le=1)
    """The step with gradient is drawn from this share of the steps, at the end."""


_READ_BY: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("eta", "noise_window", "trained_steps_share", "drop_last_steps", "clip_nats", "kl_coefficient"),
        frozenset({"ddpo", "flow_grpo"}),
    ),
    **dict.fromkeys(("same_start_noise",), frozenset({"ddpo", "flow_grpo"})),
    **dict.fromkeys(("step_weights",), frozenset({"ddpo"})),
    **dict.fromkeys(
        ("advantage_clip", "advantage_scale", "statistics_window"), frozenset({"ddpo", "flow_grpo", "nft"})
    ),
    **dict.fromkeys(("inner_epochs",), frozenset({"ddpo", "flow_grpo", "nft", "online_dpo"})),
    **dict.fromkeys(
        ("reward_timeout_seconds", "reward_attempts", "constraints", "advantage_mixing"),
        frozenset({"ddpo", "flow_grpo", "nft", "online_dpo"}),
    ),
    **dict.fromkeys(
        ("prompts_per_epoch", "samples_per_prompt", "personal"),
        frozenset({"ddpo", "flow_grpo", "nft", "online_dpo", "refl"}),
    ),
    "timesteps_per_image": frozenset({"nft", "online_dpo", "dpo"}),
    "dpo": frozenset({"dpo", "online_dpo"}),
    "nft": frozenset({"nft"}),
    "refl": frozenset({"refl"}),
}
"""Options that some algorithms do not read; all others are read by each."""


class RlSettings(Settings):
    """Fine-tunes a text-to-image model against a reward, or on preferences."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {"reward_timeout_seconds", "reward_attempts", "checkpoint_every", "trackers", "wandb_project"}
    )

    generator: str
    """The model to train: `embedded:NAME`, a directory or hub id of Stable Diffusion (1.x, 2.x, XL, 3) or FLUX."""
    height: int | None = Field(None, ge=8, le=4096)
    """Height in pixels of what is drawn; the model's own where it is not set."""
    width: int | None = Field(None, ge=8, le=4096)
    """Width in pixels; the model's own where it is not set."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the frozen weights; adapter, latents and optimiser are float32."""
    vae_dtype: Literal["auto", "float32", "same"] = "auto"
    """Precision of decoding; `auto` is float32 where SDXL's VAE says that it overflows in float16, else `same`."""
    vae_tiling: bool = False
    """Whether large images are decoded in tiles, which takes less memory and may show seams."""
    offload_text_encoders: bool = False
    """Whether text encoders lie in main memory except while new prompts are read, which frees their share of a GPU."""
    lora: LoraSettings | None = LoraSettings()
    """The adapter that is trained; `null` trains all weights of the denoising network instead."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Whether `torch.compile` compiles the blocks of the denoising network, which pays on long runs on a GPU; the
    first images then take a minute more."""
    algorithm: Algorithm = "ddpo"
    """The loss: `ddpo` (policy gradient), `flow_grpo` (the same for flow models), `nft` (DiffusionNFT), `online_dpo`
    (pairs of the best and worst image of each prompt), `dpo` (the run's own preferences; nothing is drawn), `refl`
    (gradient of the reward itself)."""
    dpo: DpoSettings = DpoSettings()
    """Of `dpo` and `online_dpo`."""
    nft: NftSettings = NftSettings()
    """Of `nft`."""
    refl: ReflSettings = ReflSettings()
    """Of `refl`."""
    seed: int = 0
    """With the epoch, the prompt and the sample it fixes every random number."""

    reward_weights: dict[str, float] = Field(
        {"prompt_following": 1.0, "aesthetic": 1.0, "fidelity": 1.0, "harmlessness": 1.0}, min_length=1
    )
    """Weight of each aspect in the reward, which is their weighted sum: `ASPECT` of the run's own VP-Score, and
    `NAME.ASPECT` of each of `scorers`. For `dpo`, weight of each aspect's preferences."""
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
    """Images of one forward pass, on each rank; half as many pairs."""
    updates_per_epoch: int = Field(2, ge=1)
    """Optimiser steps of one pass over the epoch's images."""
    inner_epochs: int = Field(1, ge=1)
    """Passes over the epoch's images."""
    same_start_noise: bool = False
    """Whether the images of a prompt start from the same noise and differ by their steps' noise alone."""

    sampler: Literal["ddim", "euler_ancestral", "flow_sde"] | None = None
    """How images are drawn; where it is not set, `flow_sde` for flow models (SD3, FLUX) and `ddim` for the rest."""
    steps: int = Field(10, ge=1, le=1000)
    """Denoising steps of a training image."""
    eta: float = Field(1.0, gt=0, le=1)
    """Noise of a step: 1 is DDPM's for `ddim` and the sampler's own for `euler_ancestral`; Flow-GRPO takes 0.7 for
    `flow_sde`. With 0 there would be nothing to learn from."""
    noise_window: tuple[int, int] | None = None
    """First and last step, counted from 0, that have noise and are trained; all where it is not set."""
    timesteps_per_image: int = Field(1, ge=1)
    """Noise levels, drawn anew each time, at which each image or pair is learnt from in one update."""
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
    def _each_option_has_an_effect(self) -> RlSettings:
        for option, algorithms in _READ_BY.items():
            default = type(self).model_fields[option].get_default(call_default_factory=True)
            if self.algorithm not in algorithms and getattr(self, option) != default:
                known = " and ".join(map(repr, sorted(algorithms)))
                raise ValueError(f"{option} has no effect with algorithm {self.algorithm!r}; it is for {known}")
        if self.algorithm == "flow_grpo" and self.sampler not in (None, "flow_sde"):
            raise ValueError(f"algorithm 'flow_grpo' is for sampler 'flow_sde', not {self.sampler!r}; take 'ddpo'")
        return self

    @property
    def asks_the_service(self) -> bool:
        """Whether rewards come from a service; the others need none, or the scorer in their own process."""
        return self.algorithm not in ("dpo", "refl")

    @model_validator(mode="after")
    def _divisible(self) -> RlSettings:
        share = self.updates_per_epoch * self.workers.num_workers
        if self.algorithm == "dpo":
            _multiple("dpo.pairs_per_epoch", self.dpo.pairs_per_epoch, "updates_per_epoch x workers.num_workers", share)
        else:
            images = self.prompts_per_epoch * self.samples_per_prompt
            factors = "batch_size x updates_per_epoch x workers.num_workers"
            _multiple("prompts_per_epoch x samples_per_prompt", images, factors, self.batch_size * share)
        if self.algorithm == "online_dpo":
            _multiple("prompts_per_epoch", self.prompts_per_epoch, "updates_per_epoch x workers.num_workers", share)
        if self.algorithm in ("dpo", "online_dpo") and self.batch_size < 2:
            raise ValueError("batch_size must be at least 2, one pair")
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
        if self.noise_window is not None and not 0 <= self.noise_window[0] <= self.noise_window[1] < self.steps:
            raise ValueError(f"noise_window must name a first and a last step within 0..{self.steps - 1}")
        if self.lora is None and self.dtype != "float32":
            raise ValueError("lora null trains all weights, which needs dtype 'float32'")
        if self.workers.zero_stage == 3:
            raise ValueError(
                "ZeRO 3 does not fit sampling step by step; adapters are small, so take workers.zero_stage 0"
            )
        return self


def _multiple(name: str, value: int, factors: str, share: int) -> None:
    if value % share:
        raise ValueError(f"{name} ({value}) must be a multiple of {factors} ({share})")
