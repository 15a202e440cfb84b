"""Settings of a text-to-image model: where it comes from and how it draws."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from vp_ray.config import Settings
from vp_ray.models.presets import PRESETS

Scheduler = Literal["own", "ddim", "euler", "euler_ancestral", "dpm_solver", "pndm", "flow_euler"]


class GeneratorSettings(Settings):
    """One way of drawing: a model, a scheduler, guidance, and how many rows share a forward pass."""

    operational: ClassVar[frozenset[str]] = frozenset({"device"})

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The name in tables and reports."""
    source: str
    """`embedded:NAME`, a local directory, or a hub id; anything that `DiffusionPipeline.from_pretrained` loads."""
    revision: str | None = None
    """Hub revision; pin it, so that the model cannot change between two runs."""
    variant: str | None = None
    """Variant of the weight files, such as `fp16`."""
    adapter: str | None = None
    """Directory of a LoRA adapter that is loaded on top (`pipe.load_lora_weights`), or of a whole denoising network
    (with its `config.json`) that takes the place of the model's own."""
    refiner: str | None = None
    """SDXL's refiner, a directory or hub id, which draws the last steps."""
    refiner_start: float = Field(0.8, gt=0, lt=1)
    """Share of the noise schedule after which the refiner takes over."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the weights; latents stay float32 between steps."""
    vae: str | None = None
    """Directory or hub id of a VAE in place of the model's own, such as one that is mended for float16."""
    vae_dtype: Literal["auto", "float32", "same"] = "auto"
    """Precision of decoding; `auto` is float32 where SDXL's VAE says that it overflows in float16, else `same`."""
    vae_tiling: bool = False
    """Whether large images are decoded in tiles, which takes less memory and may show seams."""
    safety_checker: bool = False
    """Whether the model's own safety checker looks at each image; what it finds is flagged, never blackened."""
    attention: str | None = None
    """Attention backend of diffusers, such as `native`, `flash` or `sage`; the model's own where it is not set."""
    compile: bool = False
    """Whether `torch.compile` compiles the denoising network, which pays on long runs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; `auto` takes a GPU where the worker has one."""
    scheduler: Scheduler = "own"
    """Sampler; `own` keeps the one that the model came with."""
    steps: int = Field(50, ge=1, le=1000)
    """Denoising steps."""
    guidance_scale: tuple[float, float] = (7.5, 7.5)
    """Range from which each image's guidance is drawn by its id; one number, or equal ends, fixes it; 1 is none."""
    negative_prompt: str = ""
    """What guidance leads away from; models with built-in guidance (FLUX) have none."""
    height: int | None = Field(None, ge=8, le=4096)
    """Height in pixels; the model's own where it is not set."""
    width: int | None = Field(None, ge=8, le=4096)
    """Width in pixels; the model's own where it is not set."""
    batch_size: int = Field(4, ge=1, le=4096)
    """Images of one forward pass."""

    @model_validator(mode="before")
    @classmethod
    def _preset_is_filled_in(cls, values: object) -> object:
        if not isinstance(values, dict) or "preset" not in values:
            return values
        given = dict(values)
        name = given.pop("preset")
        if name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}; these are there: {', '.join(PRESETS)}")
        return {"name": name, **PRESETS[name], **given}

    @field_validator("guidance_scale", mode="before")
    @classmethod
    def _one_number_is_a_range(cls, value: object) -> object:
        return (value, value) if isinstance(value, int | float) else value

    @field_validator("guidance_scale")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 100:
            raise ValueError("a guidance range must be ordered and within 0..100")
        return value


class LoraSettings(Settings):
    """A low-rank adapter (arXiv 2106.09685) on a UNet: each chosen layer W becomes W + alpha / rank B A."""

    rank: int = Field(8, ge=1, le=1024)
    """Rank of the added matrices."""
    alpha: float = Field(8.0, gt=0)
    """Scale of the adapter; what it adds is multiplied by alpha / rank."""
    layers: tuple[str, ...] = Field(("to_q", "to_k", "to_v", "to_out.0"), min_length=1)
    """Endings of the names of the layers that it is added to; these are the attention projections."""
