"""CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343): image and prompt are embedded apart and then compared.

Letters of shapes: B rows, T tokens, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from vp_ray.models.backbone import Backbone, Family


class DualBackbone(Backbone):
    """Both embeddings and their product: 3 D features of mean square about 1; the products' sum is D cosines."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.vision_model, model.text_model)
        self.vision_projection: nn.Module = getattr(model, "visual_projection", nn.Identity())
        self.text_projection: nn.Module = getattr(model, "text_projection", nn.Identity())
        self.width = 3 * embedding_width(model.config)

    def see(self, pixels: Tensor) -> Tensor:
        """(B, D) embeddings of images, each of length 1."""
        return functional.normalize(self.vision_projection(self.vision(pixel_values=pixels).pooler_output), dim=-1)

    def embed_prompts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, D) embeddings of prompts, each of length 1; the text network reads equal rows once."""
        distinct, rows = torch.unique(torch.cat([input_ids, attention_mask], dim=1), dim=0, return_inverse=True)
        ids, mask = distinct.chunk(2, dim=1)
        read = self.text(input_ids=ids, attention_mask=mask).pooler_output
        return functional.normalize(self.text_projection(read), dim=-1)[rows]

    def read(self, seen: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 3 D) features."""
        scale = seen.shape[-1] ** 0.5
        image, prompt = seen * scale, self.embed_prompts(input_ids, attention_mask) * scale
        return torch.cat([image, prompt, image * prompt], dim=-1)

    def embeddings(self) -> list[nn.Module]:
        """Patches, words and their places, with the norm that follows them."""
        before = [self.vision.embeddings, self.text.embeddings]
        return [*before, self.vision.pre_layrnorm] if hasattr(self.vision, "pre_layrnorm") else before

    def layers(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """The layers of the vision and of the text network, lowest first."""
        return self.vision.encoder.layers, self.text.encoder.layers


class SiglipBackbone(DualBackbone):
    """SigLIP reads the last of its tokens, so that every prompt fills them all."""

    fills_prompts = True


def embedding_width(config: Any) -> int:
    """D of a CLIP's or SigLIP's config."""
    width: int = config.text_config.projection_size if config.model_type == "siglip" else config.projection_dim
    return width


def _load(
    architecture: Any, kind: type[DualBackbone], place: str, options: Mapping[str, str]
) -> tuple[Any, Backbone, frozenset[str]]:
    model, report = architecture.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **options)
    return model.config, kind(model), frozenset(report["missing_keys"])


def _new(architecture: Any, kind: type[DualBackbone], settings: Any, config: Mapping[str, Any]) -> Backbone:
    return kind(architecture(settings(**config)))


CLIP: Final = Family(
    partial(_load, CLIPModel, DualBackbone),
    partial(_new, CLIPModel, DualBackbone, CLIPConfig),
    CLIPImageProcessorPil,
    "crop_floor",
)
SIGLIP: Final = Family(
    partial(_load, SiglipModel, SiglipBackbone),
    partial(_new, SiglipModel, SiglipBackbone, SiglipConfig),
    SiglipImageProcessorPil,
    "squash",
)
