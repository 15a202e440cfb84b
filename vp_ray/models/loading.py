"""Diffusers pipelines as settings describe them, and errors with a remedy where they cannot be had."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from vp_ray.errors import CheckpointError, SettingsError
from vp_ray.local_copies import to_read
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.families.base import Family
from vp_ray.models.families.flux import Flux
from vp_ray.models.families.sd3 import StableDiffusion3
from vp_ray.models.families.sdxl import StableDiffusionXL
from vp_ray.models.families.stable_diffusion import StableDiffusion
from vp_ray.models.sources import MODEL_REMEDY, resolve
from vp_ray.storage import Folder

SCHEDULERS: Final = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpm_solver": "DPMSolverMultistepScheduler",
    "pndm": "PNDMScheduler",
    "flow_euler": "FlowMatchEulerDiscreteScheduler",
}

_FAMILIES: Final[dict[str, type[Any]]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
}


@contextmanager
def _explained(settings: GeneratorSettings, source: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the model '{settings.name}' cannot be loaded ({reason})", MODEL_REMEDY, source
        ) from error


def load_pipeline(settings: GeneratorSettings) -> DiffusionPipeline:
    """A diffusers pipeline on its device, with its scheduler and adapter; raises `CheckpointError` with the reason."""
    pipe = _from_pretrained(settings, settings.source, settings.revision)
    with _explained(settings, settings.source):
        if settings.adapter is not None:
            adapter = resolve(settings.adapter)
            with to_read(Folder(adapter)) if "://" in adapter else nullcontext(Path(adapter)) as place:
                _apply_adapter(pipe, place)
        if settings.scheduler != "own":
            pipe.scheduler = scheduler_like(pipe.scheduler, settings.scheduler)
    return pipe


def _apply_adapter(pipe: Any, place: Path) -> None:
    """A low-rank adapter on top, or a whole network (a directory with its config.json) in place of the pipeline's."""
    if not (place / "config.json").is_file():
        pipe.load_lora_weights(str(place))
        return
    part = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
    own = getattr(pipe, part)
    setattr(pipe, part, type(own).from_pretrained(place, dtype=own.dtype, local_files_only=True).to(own.device))


def load_refiner(settings: GeneratorSettings, base: Any) -> DiffusionPipeline:
    """SDXL's refiner with the base's VAE and second text encoder, which are the same weights."""
    if settings.refiner is None:
        raise SettingsError("this generator has no refiner", "Set its key 'refiner'.")
    shared = {name: getattr(base, name) for name in ("vae", "text_encoder_2", "tokenizer_2")}
    pipe = _from_pretrained(settings, settings.refiner, None, **shared)
    if settings.scheduler != "own":
        pipe.scheduler = scheduler_like(pipe.scheduler, settings.scheduler)
    return pipe


def _from_pretrained(settings: GeneratorSettings, source: str, revision: str | None, **parts: Any) -> DiffusionPipeline:
    path = resolve(source)
    dtype = getattr(torch, settings.dtype)
    device = settings.device if settings.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    with _explained(settings, source):
        # A pipeline without a safety checker says so at each load; whether there is one is the directory's choice.
        diffusers.utils.logging.set_verbosity_error()
        if settings.vae is not None and "vae" not in parts:
            parts["vae"] = AutoencoderKL.from_pretrained(resolve(settings.vae), dtype=dtype, use_safetensors=True)
        if not settings.safety_checker:
            parts["safety_checker"] = None
        pipe = DiffusionPipeline.from_pretrained(
            path,
            revision=revision,
            variant=settings.variant,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=Path(path).is_dir(),
            **parts,
        )
    if settings.safety_checker and getattr(pipe, "safety_checker", None) is None:
        raise CheckpointError(
            f"the model '{settings.name}' has no safety checker", "Set safety_checker to false, or add one.", source
        )
    pipe.set_progress_bar_config(disable=True)
    pipe = pipe.to(device)
    vae = getattr(pipe, "vae", None)
    if vae is not None:
        # Every AutoencoderKL has this key, and true by default; only SDXL's pipelines heed it.
        heeded = type(pipe).__name__.startswith("StableDiffusionXL")
        overflows = heeded and settings.dtype == "float16" and vae.config.force_upcast
        if settings.vae_dtype == "float32" or (settings.vae_dtype == "auto" and overflows):
            vae.to(torch.float32)
        if settings.vae_tiling:
            vae.enable_tiling()
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if network is not None:
        with _explained(settings, source):
            if settings.attention is not None:
                network.set_attention_backend(settings.attention)
        if settings.compile:
            network.compile()
    return pipe


def scheduler_like(own: Any, name: str) -> Any:
    """Another sampler on the same noise schedule; raises `SettingsError` where the two have no schedule in common."""
    flow = "Flow" in type(own).__name__
    kind = getattr(diffusers, SCHEDULERS[name])
    if flow != ("Flow" in kind.__name__):
        raise SettingsError(
            f"the scheduler '{name}' does not fit a model whose own is a {type(own).__name__}",
            "Use flow_euler for flow models (SD3, FLUX) and another one for the rest.",
        )
    # Latents are not pixels: clipping them to -1..1, which is some schedulers' default, would cut the picture.
    options = {"clip_sample": False} if "clip_sample" in inspect.signature(kind).parameters else {}
    return kind.from_config(own.config, **options)


def family_of(pipe: Any) -> Family | None:
    """The family that a pipeline belongs to, or None for one that only its own call can draw with."""
    kind = _FAMILIES.get(type(pipe).__name__)
    network = getattr(pipe, "unet", None)
    # Networks that were distilled to read the guidance scale (latent consistency models) are drawn by their own call.
    distilled = network is not None and getattr(network.config, "time_cond_proj_dim", None) is not None
    return None if kind is None or distilled else kind(pipe)
