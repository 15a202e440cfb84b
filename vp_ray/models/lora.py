"""Low-rank adapters on a diffusers network: added, switched off, and saved as `pipe.load_lora_weights` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.helpers import rescale_adapter_scale
from peft.utils import get_peft_model_state_dict

from vp_ray.errors import SettingsError
from vp_ray.ids import seed_from
from vp_ray.models.config import LoraSettings
from vp_ray.models.lora_forward import quicken_adapters


def add_lora(network: Any, settings: LoraSettings, seed: int) -> None:
    """Freezes the network and adds a float32 adapter that changes nothing yet; its weights depend on `seed` alone.

    Raises `SettingsError` when no layer of the network has one of the names.
    """
    network.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=list(settings.layers), init_lora_weights="gaussian"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "lora"))
        try:
            network.add_adapter(config)
        except ValueError as error:
            raise SettingsError(
                f"the adapter fits no layer of this model ({error})", "Set lora.layers to names of its layers."
            ) from error
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    quicken_adapters(network)


@contextmanager
def without_lora(network: Any) -> Iterator[None]:
    """The network as it was before training, while the context lasts; no `requires_grad` is touched."""
    with rescale_adapter_scale(network, 0.0):
        yield


def save_lora(pipe: Any, network: Any, part: str, folder: Path) -> None:
    """Writes `pytorch_lora_weights.safetensors` into `folder`, for `pipe.load_lora_weights(folder)`.

    `part` is the pipeline's name of the network.
    """
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    folder.mkdir(parents=True, exist_ok=True)
    metadata = network.peft_config["default"].to_dict()
    named = {f"{part}_lora_layers": layers, f"{part}_lora_adapter_metadata": metadata}
    type(pipe).save_lora_weights(folder, **named)
