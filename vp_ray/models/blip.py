"""BLIP (arXiv 2201.12086) as a backbone: the text network reads the prompt while it looks at the image.

Loads every head in the layout of `Salesforce/blip-*`: retrieval, captioning and question answering, base and large.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipModel,
    BlipTextModel,
    BlipVisionModel,
)

from vp_ray.errors import CheckpointError
from vp_ray.models.backbone import Backbone, Family
from vp_ray.models.blip_text import first_token

_HEADS: Final[Mapping[str, tuple[Any, str]]] = {
    "BlipForImageTextRetrieval": (BlipForImageTextRetrieval, "text_encoder"),
    "BlipForQuestionAnswering": (BlipForQuestionAnswering, "text_encoder"),
    # A captioner's decoder shares all but self-attention with the encoder that it was trained beside.
    "BlipForConditionalGeneration": (BlipForConditionalGeneration, "text_decoder.bert"),
    "BlipModel": (BlipModel, "text_model"),
}


class BlipBackbone(Backbone):
    """The state of the first token, which stays [CLS], after the text network has looked at the image."""

    def __init__(self, vision: nn.Module, text: Any) -> None:
        super().__init__(vision, text)
        self.width = text.config.hidden_size
        # Only the first token's own state is read.
        text.pooler = None

    def see(self, pixels: Tensor) -> Tensor:
        """(B, 1 + patches, vision width) states of the image's tokens."""
        seen: Tensor = self.vision(pixel_values=pixels).last_hidden_state
        return seen

    def read(self, seen: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, W) states of the first token."""
        return first_token(self.text, seen, input_ids, attention_mask)

    def embeddings(self) -> list[nn.Module]:
        """Patches, words and their places."""
        return [self.vision.embeddings, self.text.embeddings]

    def layers(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """The layers of the vision and of the text network, lowest first."""
        return self.vision.encoder.layers, self.text.encoder.layer


def _load(place: str, options: Mapping[str, str]) -> tuple[Any, Backbone, frozenset[str]]:
    config = BlipConfig.from_pretrained(place, **options)
    name = (config.architectures or ["BlipForImageTextRetrieval"])[0]
    if name not in _HEADS:
        raise CheckpointError(f"'{name}' cannot be a backbone", f"Use one of: {', '.join(_HEADS)}.")
    if not config.text_config.is_decoder:
        raise CheckpointError("its text network has no cross-attention", "Use a BLIP for retrieval.")
    architecture, text_part = _HEADS[name]
    model, report = architecture.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **options)
    needed = ("vision_model.", f"{text_part}.")
    missing = frozenset(key for key in report["missing_keys"] if key.startswith(needed) and ".pooler." not in key)
    return config, BlipBackbone(model.vision_model, model.get_submodule(text_part)), missing


def _new(config: Mapping[str, Any]) -> Backbone:
    blip = BlipConfig(**config)
    return BlipBackbone(BlipVisionModel(blip.vision_config), BlipTextModel(blip.text_config, add_pooling_layer=False))


BLIP: Final = Family(_load, _new, BlipImageProcessorPil, "crop")
