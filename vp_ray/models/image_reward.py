"""ImageReward (arXiv 2304.05977) from its published file of weights, as its own program computes it.

Letters of shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from vp_ray.errors import CheckpointError
from vp_ray.models.blip import BlipBackbone
from vp_ray.models.filled_models import filled, tokenizer_of
from vp_ray.models.open_clip_names import depth
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward_inputs import PromptReader
from vp_ray.models.weight_files import Place, read_weights

FILE: Final = "ImageReward.pt"
_TOKENIZER: Final = "google-bert/bert-base-uncased"
_TEXT_TOKENS: Final = 35
_MEAN: Final = 0.16717362830052426
_STD: Final = 1.0333394966054072
_HEAD_WIDTH: Final = 64

_VISION: Final = "blip.visual_encoder."
_TEXT: Final = "blip.text_encoder."
_HEAD: Final = "mlp."
_RENAMED: Final = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj", "embeddings.patch_embedding"),
    ("blocks.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
)


class LinearHead(nn.Module):
    """Five linear layers without activations between them, as ImageReward and LAION's aesthetic predictor have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    @classmethod
    def filled(cls, tensors: Mapping[str, Tensor], where: str) -> LinearHead:
        """A head with these weights; raises `CheckpointError` when one is missing or of another shape."""
        try:
            head = cls(tensors["layers.0.weight"].shape[1])
            head.load_state_dict({name: tensors[name] for name in head.state_dict()})
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"the head does not fit ({reason})", "Give the published file.", where) from None
        return head.eval()

    def forward(self, states: Tensor) -> Tensor:
        """(B, 1) of (B, width)."""
        outputs: Tensor = self.layers(states)
        return outputs


class ImageReward(PictureScorer):
    """A scorer of one aspect: (head of the first token's state - 0.167) / 1.033."""

    def __init__(self, backbone: BlipBackbone, head: LinearHead, side: int, tokenizer: Any) -> None:
        super().__init__(("imagereward",), Preparation(side), PromptReader(tokenizer, _TEXT_TOKENS))
        self.backbone, self.head = backbone, head

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 1) outputs of the head for (B, 3, side, side) pixel values and (B, T) tokens with their mask."""
        outputs: Tensor = self.head(self.backbone(pixels, input_ids, attention_mask))
        return outputs

    def scaled(self, raw: Tensor) -> Tensor:
        """(B, 1) rewards of (B, 1) outputs of the head."""
        return (raw - _MEAN) / _STD


def load_image_reward(place: Place, tokenizer: str | None = None) -> ImageReward:
    """The ImageReward at a file of weights, in a folder, or on the hub; raises `CheckpointError` without one."""
    path = place.file(FILE)
    words = tokenizer_of(place, tokenizer, _TOKENIZER)
    return image_reward_of(read_weights(path), words, str(path))


def image_reward_of(tensors: Mapping[str, Tensor], tokenizer: Any, where: str) -> ImageReward:
    """The ImageReward with these weights under their published names; raises `CheckpointError` where they do not fit.

    Numbers of layers and widths are those of the weights.
    """
    try:
        vision, side = _vision(_under(tensors, _VISION), where)
        text = _text(_under(tensors, _TEXT), vision.config.hidden_size, where)
    except KeyError as error:
        raise CheckpointError(f"this is no ImageReward ({error} is missing)", f"Give {FILE}.", where) from None
    return ImageReward(BlipBackbone(vision, text), LinearHead.filled(_under(tensors, _HEAD), where), side, tokenizer)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _vision(tensors: Mapping[str, Tensor], where: str) -> tuple[Any, int]:
    """The vision network and the side of its pictures in pixels."""
    patches = tensors["patch_embed.proj.weight"]
    width, patch = patches.shape[0], patches.shape[-1]
    side = round((tensors["pos_embed"].shape[1] - 1) ** 0.5) * patch
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=depth(tensors, "blocks."),
        num_attention_heads=width // _HEAD_WIDTH,
        image_size=side,
        patch_size=patch,
        # BLIP's own code; transformers' default for its copies is 1e-5.
        layer_norm_eps=1e-6,
    )
    return filled(BlipVisionModel, config, {_renamed(name): tensor for name, tensor in tensors.items()}, where), side


def _renamed(name: str) -> str:
    if name.startswith("norm."):
        return f"post_layer{name}"
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def _text(tensors: Mapping[str, Tensor], vision_width: int, where: str) -> Any:
    words = tensors["embeddings.word_embeddings.weight"]
    config = BlipTextConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        encoder_hidden_size=vision_width,
        intermediate_size=tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=depth(tensors, "encoder.layer."),
        num_attention_heads=words.shape[1] // _HEAD_WIDTH,
        max_position_embeddings=tensors["embeddings.position_embeddings.weight"].shape[0],
    )
    return filled(BlipTextModel, config, tensors, where, add_pooling_layer=False)
