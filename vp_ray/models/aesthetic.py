"""LAION's aesthetic predictor (arXiv 2210.08402): five linear layers on CLIP's embedding of the image alone.

Letters of shapes: B rows.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor
from torch.nn import functional

from vp_ray.errors import CheckpointError
from vp_ray.models.image_reward import LinearHead
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.preparation import Preparation
from vp_ray.models.similarity import load_clip
from vp_ray.models.weight_files import Place, read_weights

FILE: Final = "sac+logos+ava1-l14-linearMSE.pth"
_CLIP: Final = "openai/clip-vit-large-patch14"
_END_OF_TEXT: Final = 49407


class Aesthetic(PictureScorer):
    """A scorer of one aspect, about 1 to 10, that does not look at the prompt."""

    def __init__(self, clip: Any, head: LinearHead) -> None:
        super().__init__(("aesthetic",), Preparation(clip.config.vision_config.image_size), None)
        self.vision, self.projection, self.head = clip.vision_model, clip.visual_projection, head

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 1) scores of (B, 3, side, side) pixel values; there are no tokens."""
        embedding = self.projection(self.vision(pixel_values=pixels).pooler_output)
        outputs: Tensor = self.head(functional.normalize(embedding, dim=-1))
        return outputs


def load_aesthetic(place: Place, clip: str | None = None) -> Aesthetic:
    """The predictor at a file of weights, in a folder, or on the hub, with the CLIP ViT-L/14 at `clip` (the hub's).

    Raises `CheckpointError` when one of them cannot be loaded or they do not fit.
    """
    path = place.file(FILE)
    head = LinearHead.filled(read_weights(path), str(path))
    model = load_clip(Place(clip or _CLIP), "ViT-L-14.pt", "quick_gelu", _END_OF_TEXT, in_one_file=False)
    width = head.layers[0].in_features
    if model.config.projection_dim != width:
        raise CheckpointError(
            f"the head reads {width} numbers, but this CLIP gives {model.config.projection_dim}",
            "Give a CLIP ViT-L/14: `aesthetic:FILE,clip=FOLDER`.",
            clip or _CLIP,
        )
    return Aesthetic(model, head)
