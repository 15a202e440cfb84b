"""Loads a BLIP (arXiv 2201.12086) in the layout of `Salesforce/blip-*`: vision network, text network, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers
from torch import nn
from transformers import (
    AutoTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipModel,
    BlipTextModel,
    BlipVisionModel,
)

from vp_ray.errors import CheckpointError
from vp_ray.models.sources import resolve

_ARCHITECTURES: Final[Mapping[str, tuple[Any, str]]] = {
    "BlipForImageTextRetrieval": (BlipForImageTextRetrieval, "text_encoder"),
    "BlipForQuestionAnswering": (BlipForQuestionAnswering, "text_encoder"),
    "BlipModel": (BlipModel, "text_model"),
}


@dataclass(frozen=True, slots=True)
class Blip:
    """The parts of a BLIP that VP-Score is built on."""

    config: dict[str, Any]
    vision: nn.Module
    text: nn.Module
    tokenizer: Any
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]


def blip_image_side(source: str, revision: str | None = None) -> int:
    """Side of the images that the BLIP at `source` sees, in pixels; raises `CheckpointError` when there is none."""
    try:
        side: int = BlipConfig.from_pretrained(resolve(source), **_options(revision)).vision_config.image_size
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(source, error) from None
    return side


def _options(revision: str | None) -> dict[str, str]:
    return {"revision": revision} if revision else {}


def _not_loaded(source: str, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(f"the BLIP cannot be loaded ({reason})", "Give a directory or hub id of a BLIP.", source)


def load_blip(source: str, revision: str | None = None) -> Blip:
    """The parts of the BLIP at `embedded:NAME`, in a directory or on the hub, in float32.

    Raises `CheckpointError` when it cannot be loaded, lacks weights, or has no cross-attention from text to image.
    """
    place = resolve(source)
    options = _options(revision)
    transformers.utils.logging.disable_progress_bar()
    try:
        config = BlipConfig.from_pretrained(place, **options)
        name = (config.architectures or ["BlipForImageTextRetrieval"])[0]
        if name not in _ARCHITECTURES:
            raise CheckpointError(f"'{name}' cannot be a backbone", f"Use one of: {', '.join(_ARCHITECTURES)}.", source)
        architecture, text_part = _ARCHITECTURES[name]
        model, report = architecture.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        processor = BlipImageProcessorPil.from_pretrained(place, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(source, error) from None
    if not config.text_config.is_decoder:
        raise CheckpointError("its text network has no cross-attention", "Use a BLIP for retrieval.", source)
    text: nn.Module = getattr(model, text_part)
    lacking = sorted(name for name in report["missing_keys"] if name.startswith(("vision_model.", f"{text_part}.")))
    if lacking:
        raise CheckpointError(
            f"{len(lacking)} weights are missing, the first is {lacking[0]}", "Fetch it again.", source
        )
    mean, std = (tuple(float(value) for value in values) for values in (processor.image_mean, processor.image_std))
    return Blip(_plain(config), model.vision_model, text, tokenizer, mean, std)  # type: ignore[arg-type]


def _plain(config: BlipConfig) -> dict[str, Any]:
    """The settings as JSON has them, without those of the file that they came from."""
    values: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    for part in (values, values["text_config"], values["vision_config"]):
        for key in ("architectures", "dtype", "_name_or_path", "transformers_version"):
            part.pop(key, None)
    return values


def new_blip_parts(config: Mapping[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Vision and text network of this shape, with weights that are still to be loaded."""
    blip = BlipConfig(**config)
    return BlipVisionModel(blip.vision_config), BlipTextModel(blip.text_config, add_pooling_layer=False)
