"""CLIP weights under open_clip's names (HPS v2, OpenAI, LAION) as transformers' `CLIPModel` names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor
from transformers import CLIPConfig

_HEAD_WIDTHS: Final[Mapping[int, int]] = {1280: 80, 1408: 88, 1664: 104}
"""Width of a vision network to that of its attention heads: H, g and bigG; all others have heads of 64."""

_TOP: Final[Mapping[str, str]] = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    **{
        f"{theirs}.{part}": f"{ours}.{part}"
        for theirs, ours in (
            ("visual.ln_pre", "vision_model.pre_layrnorm"),
            ("visual.ln_post", "vision_model.post_layernorm"),
            ("ln_final", "text_model.final_layer_norm"),
        )
        for part in ("weight", "bias")
    },
}
_PROJECTIONS: Final[Mapping[str, str]] = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_BLOCK: Final = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_INSIDE: Final[Mapping[str, str]] = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def is_open_clip(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are open_clip's names."""
    return "visual.conv1.weight" in tensors


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under transformers' names; the joint projection of query, key and value is cut in three."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = _BLOCK.fullmatch(name)
        if name in _TOP:
            renamed[_TOP[name]] = tensor
        elif name in _PROJECTIONS:
            renamed[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif block is not None:
            network = "vision_model" if block[1] else "text_model"
            renamed |= _in_block(f"{network}.encoder.layers.{block[2]}", block[3], tensor)
    return renamed


def _in_block(layer: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("attn.in_proj_"):
        part = name.removeprefix("attn.in_proj_")
        return {
            f"{layer}.self_attn.{letter}_proj.{part}": third
            for letter, third in zip("qkv", tensor.chunk(3), strict=True)
        }
    inside, _, part = name.rpartition(".")
    return {f"{layer}.{_INSIDE[inside]}.{part}": tensor} if inside in _INSIDE else {}


def shape_of(tensors: Mapping[str, Tensor], activation: str, end_of_text: int) -> CLIPConfig:
    """The config of a CLIP with these weights under transformers' names."""
    patches = tensors["vision_model.embeddings.patch_embedding.weight"]
    places = tensors["vision_model.embeddings.position_embedding.weight"]
    words = tensors["text_model.embeddings.token_embedding.weight"]
    projection = tensors["visual_projection.weight"].shape[0]
    width = patches.shape[0]
    vision = {
        "image_size": round((places.shape[0] - 1) ** 0.5) * patches.shape[-1],
        "patch_size": patches.shape[-1],
        "num_attention_heads": width // _HEAD_WIDTHS.get(width, 64),
    }
    text = {
        "vocab_size": words.shape[0],
        "max_position_embeddings": tensors["text_model.embeddings.position_embedding.weight"].shape[0],
        "num_attention_heads": words.shape[1] // 64,
        "bos_token_id": end_of_text - 1,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
    }
    return CLIPConfig(
        vision_config=vision | _tower(tensors, "vision_model", width, activation, projection),
        text_config=text | _tower(tensors, "text_model", words.shape[1], activation, projection),
        projection_dim=projection,
    )


def _tower(tensors: Mapping[str, Tensor], network: str, width: int, activation: str, projection: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": tensors[f"{network}.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": depth(tensors, f"{network}.encoder.layers."),
        "hidden_act": activation,
        "projection_dim": projection,
    }


def depth(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers have names that begin so."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})
