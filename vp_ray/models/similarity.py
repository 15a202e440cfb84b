"""Scores by the cosine of CLIP's embeddings of image and prompt: PickScore, HPS v2 and v2.1, CLIP score.

Letters of shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from vp_ray.errors import CheckpointError
from vp_ray.models.dual import DualBackbone
from vp_ray.models.filled_models import filled, quiet, tokenizer_of
from vp_ray.models.open_clip_names import is_open_clip, shape_of, to_transformers
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward_inputs import PromptReader
from vp_ray.models.weight_files import Place, first_line, read_weights

_LAION_H: Final = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


@dataclass(frozen=True, slots=True)
class Similarity:
    """What makes a score of a cosine."""

    formula: Callable[[Tensor, Tensor], Tensor]
    """(B,) scores of (B,) cosines and the logarithm of CLIP's own scale."""
    fit: str
    """How pictures are fitted: `Preparation.fit`."""
    file: str
    """Name of the file of weights, where a folder or hub id holds no transformers model."""
    tokenizer: str
    """Hub id of the tokenizer, where none lies beside the weights."""
    activation: str
    """What a CLIP computes whose file holds weights alone."""
    in_one_file: bool
    """Whether a hub id means the file."""


def _pick_score(cosine: Tensor, log_scale: Tensor) -> Tensor:
    return log_scale.exp() * cosine


def _cosine(cosine: Tensor, log_scale: Tensor) -> Tensor:
    return cosine


def _clip_score(cosine: Tensor, log_scale: Tensor) -> Tensor:
    return 100 * cosine.clamp(min=0)


SIMILARITIES: Final[Mapping[str, Similarity]] = {
    # arXiv 2305.01569, equation 1.
    "pickscore": Similarity(_pick_score, "crop_floor", "model.safetensors", _LAION_H, "gelu", in_one_file=False),
    # arXiv 2306.09341; its program shows the whole picture and prints the cosine itself.
    "hpsv2": Similarity(_cosine, "pad", "HPS_v2_compressed.pt", _LAION_H, "gelu", in_one_file=True),
    "hpsv2.1": Similarity(_cosine, "pad", "HPS_v2.1_compressed.pt", _LAION_H, "gelu", in_one_file=True),
    # arXiv 2104.08718 with weight 100 in place of 2.5 and without "A photo depicts", as for text-to-image models.
    "clip": Similarity(
        _clip_score,
        "crop_floor",
        "open_clip_pytorch_model.bin",
        "openai/clip-vit-large-patch14",
        "quick_gelu",
        in_one_file=False,
    ),
}


class SimilarityScorer(PictureScorer):
    """A scorer of one aspect from the cosine of the embeddings."""

    def __init__(self, kind: str, model: Any, preparation: Preparation, tokenizer: Any) -> None:
        limit = model.config.text_config.max_position_embeddings
        super().__init__((kind,), preparation, PromptReader(tokenizer, limit))
        self._formula = SIMILARITIES[kind].formula
        self.backbone = DualBackbone(model)
        self.logit_scale: nn.Parameter = model.logit_scale

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 1) scores of (B, 3, side, side) pixel values and (B, T) tokens with their mask; differentiable."""
        cosine = (self.backbone.see(pixels) * self.backbone.embed_prompts(input_ids, attention_mask)).sum(dim=-1)
        return self._formula(cosine, self.logit_scale)[:, None]


def load_similarity(kind: str, place: Place, tokenizer: str | None = None) -> SimilarityScorer:
    """The scorer at a file of weights (transformers' or open_clip's names), in a folder, or on the hub.

    Raises `CheckpointError` when it cannot be loaded.
    """
    known = SIMILARITIES[kind]
    words = tokenizer_of(place, tokenizer, known.tokenizer)
    model = load_clip(place, known.file, known.activation, words.eos_token_id, known.in_one_file)
    preparation = Preparation(model.config.vision_config.image_size, fit=known.fit)
    return SimilarityScorer(kind, model, preparation, words)


def load_clip(place: Place, file: str, activation: str, end_of_text: int, in_one_file: bool) -> Any:
    """transformers' `CLIPModel` with the weights of a place, in float32; raises `CheckpointError` without them."""
    if place.is_model_folder or (place.local is None and not in_one_file):
        place.check_size()
        with quiet():
            try:
                model, report = CLIPModel.from_pretrained(
                    place.path, dtype=torch.float32, output_loading_info=True, **place.options
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"the CLIP cannot be loaded ({first_line(error)})",
                    "Give a file, a folder, or a hub id.",
                    place.path,
                ) from None
        if report["missing_keys"]:
            raise CheckpointError(
                f"{len(report['missing_keys'])} weights are missing, the first is {min(report['missing_keys'])}",
                "Fetch it again.",
                place.path,
            )
        return model.eval()
    path = place.file(file)
    tensors = read_weights(path)
    tensors = to_transformers(tensors) if is_open_clip(tensors) else tensors
    try:
        config = shape_of(tensors, activation, end_of_text)
    except KeyError as error:
        raise CheckpointError(f"these are no weights of a CLIP ({error} is missing)", "Give them.", str(path)) from None
    return filled(CLIPModel, config, tensors, str(path))
