"""Low-rank adapters on a diffusers UNet: added, switched off, and saved as `pipe.load_lora_weights` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.helpers import rescale_adapter_scale
from peft.utils import get_peft_model_state_dict

from vp_ray.errors import SettingsError
from vp_ray.ids import seed_from
from vp_ray.models.config import LoraSettings
from vp_ray.models.folded_lora import fold_adapters


def add_lora(unet: UNet2DConditionModel, settings: LoraSettings, seed: int) -> None:
    """Freezes the UNet and adds a float32 adapter that changes nothing yet; its weights depend on `seed` alone.

    Raises `SettingsError` when no layer of the UNet has one of the names.
    """
    unet.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=list(settings.layers), init_lora_weights="gaussian"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "lora"))
        try:
            unet.add_adapter(config)
        except ValueError as error:
            raise SettingsError(
                f"the adapter fits no layer of this model ({error})", "Set lora.layers to names of its layers."
            ) from error
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    fold_adapters(unet)


@contextmanager
def without_lora(unet: UNet2DConditionModel) -> Iterator[None]:
    """The UNet as it was before training, while the context lasts; no `requires_grad` is touched."""
    with rescale_adapter_scale(unet, 0.0):
        yield


def save_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    """Writes `pytorch_lora_weights.safetensors` into `folder`, for `pipe.load_lora_weights(folder)`."""
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    folder.mkdir(parents=True, exist_ok=True)
    metadata = unet.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata)
