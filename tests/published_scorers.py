"""Other people's scorers twice over: random weights under their published names, and what the published definitions
make of them, in plain torch and apart from the classes that are tested.

Widths and depths are the true ones unless `layers` says otherwise. Every third layer has the same weights, so that a
network of a billion weights fits a test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
Weights = dict[str, Tensor]
DISTINCT = 3


class Dice:
    """Random weights that keep the size of what flows through them."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.weights: Weights = {}

    def draw(self, name: str, *shape: int, std: float = 1.0, mean: float = 0.0) -> None:
        self.weights[name] = torch.empty(shape).normal_(mean, std, generator=self._generator)

    def linear(self, name: str, out: int, inside: int) -> None:
        self.draw(f"{name}.weight", out, inside, std=inside**-0.5)
        self.draw(f"{name}.bias", out, std=0.1)

    def norm(self, name: str, width: int) -> None:
        self.draw(f"{name}.weight", width, std=0.1, mean=1.0)
        self.draw(f"{name}.bias", width, std=0.1)

    def shares(self, layers: str, place: int) -> bool:
        """Whether the layer at a place takes the weights of the third one before it, and so has them."""
        before = f"{layers}{place - DISTINCT}."
        shared = {name: tensor for name, tensor in self.weights.items() if name.startswith(before)}
        self.weights |= {f"{layers}{place}.{name.removeprefix(before)}": tensor for name, tensor in shared.items()}
        return bool(shared)


@dataclass(frozen=True)
class ClipShape:
    """Widths of a CLIP; `activation` is that of its program."""

    vision: int
    vision_heads: int
    patch: int
    text: int
    text_heads: int
    projection: int
    activation: str
    words: int = 49408
    tokens: int = 77
    side: int = 224


VIT_H = ClipShape(1280, 16, 14, 1024, 16, 1024, "gelu")
VIT_L = ClipShape(1024, 16, 14, 768, 12, 768, "quick_gelu")


def open_clip_weights(shape: ClipShape, vision_layers: int, text_layers: int, seed: int = 0) -> Weights:
    """A CLIP under open_clip's names, as the files of HPS v2 have them inside `state_dict`."""
    dice = Dice(seed)
    dice.weights["logit_scale"] = torch.tensor(math.log(100.0))
    dice.draw("visual.class_embedding", shape.vision)
    dice.draw("visual.positional_embedding", (shape.side // shape.patch) ** 2 + 1, shape.vision)
    dice.draw("visual.conv1.weight", shape.vision, 3, shape.patch, shape.patch, std=(3 * shape.patch**2) ** -0.5)
    dice.norm("visual.ln_pre", shape.vision)
    dice.norm("visual.ln_post", shape.vision)
    dice.draw("visual.proj", shape.vision, shape.projection, std=shape.vision**-0.5)
    dice.draw("token_embedding.weight", shape.words, shape.text)
    dice.draw("positional_embedding", shape.tokens, shape.text)
    dice.norm("ln_final", shape.text)
    dice.draw("text_projection", shape.text, shape.projection, std=shape.text**-0.5)
    for prefix, width, layers in (("visual.", shape.vision, vision_layers), ("", shape.text, text_layers)):
        for place in range(layers):
            if dice.shares(f"{prefix}transformer.resblocks.", place):
                continue
            block = f"{prefix}transformer.resblocks.{place}"
            dice.norm(f"{block}.ln_1", width)
            dice.norm(f"{block}.ln_2", width)
            dice.draw(f"{block}.attn.in_proj_weight", 3 * width, width, std=width**-0.5)
            dice.draw(f"{block}.attn.in_proj_bias", 3 * width, std=0.1)
            dice.linear(f"{block}.attn.out_proj", width, width)
            dice.linear(f"{block}.mlp.c_fc", 4 * width, width)
            dice.linear(f"{block}.mlp.c_proj", width, 4 * width)
    return dice.weights


def transformers_clip_weights(shape: ClipShape, vision_layers: int, text_layers: int, seed: int = 0) -> Weights:
    """A CLIP under transformers' names, as PickScore was published."""
    dice = Dice(seed)
    dice.weights["logit_scale"] = torch.tensor(math.log(100.0))
    towers = (
        ("vision_model", shape.vision, vision_layers, "visual_projection"),
        ("text_model", shape.text, text_layers, "text_projection"),
    )
    for tower, width, layers, projection in towers:
        dice.draw(f"{projection}.weight", shape.projection, width, std=width**-0.5)
        for place in range(layers):
            if dice.shares(f"{tower}.encoder.layers.", place):
                continue
            layer = f"{tower}.encoder.layers.{place}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                dice.linear(f"{layer}.self_attn.{name}", width, width)
            dice.norm(f"{layer}.layer_norm1", width)
            dice.norm(f"{layer}.layer_norm2", width)
            dice.linear(f"{layer}.mlp.fc1", 4 * width, width)
            dice.linear(f"{layer}.mlp.fc2", width, 4 * width)
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    dice.draw(f"{vision}.class_embedding", shape.vision)
    dice.draw(f"{vision}.patch_embedding.weight", shape.vision, 3, shape.patch, shape.patch, std=shape.patch**-1.0)
    dice.draw(f"{vision}.position_embedding.weight", (shape.side // shape.patch) ** 2 + 1, shape.vision)
    dice.draw(f"{text}.token_embedding.weight", shape.words, shape.text)
    dice.draw(f"{text}.position_embedding.weight", shape.tokens, shape.text)
    for name, width in (
        ("vision_model.pre_layrnorm", shape.vision),
        ("vision_model.post_layernorm", shape.vision),
        ("text_model.final_layer_norm", shape.text),
    ):
        dice.norm(name, width)
    return dice.weights


def linear_head_weights(width: int, prefix: str = "", seed: int = 0) -> Weights:
    """Five linear layers at the places that dropout leaves them, as ImageReward and LAION number them."""
    dice = Dice(seed)
    for place, (inside, out) in zip(
        (0, 2, 4, 6, 7), ((width, 1024), (1024, 128), (128, 64), (64, 16), (16, 1)), strict=True
    ):
        dice.linear(f"{prefix}layers.{place}", out, inside)
    return dice.weights


def image_reward_weights(vision_layers: int = 24, text_layers: int = 12, words: int = 30524, seed: int = 0) -> Weights:
    """ImageReward's file: BLIP's ViT-L/16 for 224 pixels, its BERT-base, and the head."""
    dice, width, states = Dice(seed), 1024, 768
    eye, text = "blip.visual_encoder", "blip.text_encoder"
    dice.draw(f"{eye}.cls_token", 1, 1, width)
    dice.draw(f"{eye}.pos_embed", 1, 197, width)
    dice.draw(f"{eye}.patch_embed.proj.weight", width, 3, 16, 16, std=768**-0.5)
    dice.draw(f"{eye}.patch_embed.proj.bias", width, std=0.1)
    dice.norm(f"{eye}.norm", width)
    for place in range(vision_layers):
        if dice.shares(f"{eye}.blocks.", place):
            continue
        block = f"{eye}.blocks.{place}"
        dice.norm(f"{block}.norm1", width)
        dice.norm(f"{block}.norm2", width)
        dice.linear(f"{block}.attn.qkv", 3 * width, width)
        dice.linear(f"{block}.attn.proj", width, width)
        dice.linear(f"{block}.mlp.fc1", 4 * width, width)
        dice.linear(f"{block}.mlp.fc2", width, 4 * width)
    dice.weights[f"{text}.embeddings.position_ids"] = torch.arange(512)[None]
    dice.draw(f"{text}.embeddings.word_embeddings.weight", words, states)
    dice.draw(f"{text}.embeddings.position_embeddings.weight", 512, states)
    dice.norm(f"{text}.embeddings.LayerNorm", states)
    for place in range(text_layers):
        if dice.shares(f"{text}.encoder.layer.", place):
            continue
        layer = f"{text}.encoder.layer.{place}"
        for attention, seen in (("attention", states), ("crossattention", width)):
            dice.linear(f"{layer}.{attention}.self.query", states, states)
            dice.linear(f"{layer}.{attention}.self.key", states, seen)
            dice.linear(f"{layer}.{attention}.self.value", states, seen)
            dice.linear(f"{layer}.{attention}.output.dense", states, states)
            dice.norm(f"{layer}.{attention}.output.LayerNorm", states)
        dice.linear(f"{layer}.intermediate.dense", 4 * states, states)
        dice.linear(f"{layer}.output.dense", states, 4 * states)
        dice.norm(f"{layer}.output.LayerNorm", states)
    return dice.weights | linear_head_weights(states, "mlp.", seed + 1)


def _linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights: Mapping[str, Tensor], name: str, x: Tensor, epsilon: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


ACTIVATIONS = {"gelu": _gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, hidden: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d)) v over heads, without what is hidden: (T, S) or (S,) True."""
    depth = query.shape[-1] // heads
    parts = []
    for head in range(heads):
        at = slice(head * depth, (head + 1) * depth)
        scores = query[..., at] @ key[..., at].transpose(-1, -2) / math.sqrt(depth)
        if hidden is not None:
            scores = scores.masked_fill(hidden, -math.inf)
        parts.append(scores.softmax(-1) @ value[..., at])
    return torch.cat(parts, -1)


def _open_clip_blocks(weights: Weights, prefix: str, x: Tensor, heads: int, activation: str, causal: bool) -> Tensor:
    hidden = torch.ones(x.shape[0], x.shape[0]).triu(1).bool() if causal else None
    place = 0
    while f"{prefix}transformer.resblocks.{place}.ln_1.weight" in weights:
        block = f"{prefix}transformer.resblocks.{place}"
        inner = _norm(weights, f"{block}.ln_1", x, 1e-5)
        joint = inner @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        x = x + _linear(weights, f"{block}.attn.out_proj", _attend(*joint.chunk(3, -1), heads, hidden))
        inner = _linear(weights, f"{block}.mlp.c_fc", _norm(weights, f"{block}.ln_2", x, 1e-5))
        x = x + _linear(weights, f"{block}.mlp.c_proj", ACTIVATIONS[activation](inner))
        place += 1
    return x


def _patches(image: Tensor, kernel: Tensor) -> Tensor:
    """(patches, width) of a (3, H, W) image."""
    side = kernel.shape[-1]
    cells = image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).reshape(-1, 3 * side * side)
    return cells @ kernel.reshape(len(kernel), -1).T


def open_clip_cosine(weights: Weights, shape: ClipShape, image: Tensor, ids: Sequence[int]) -> float:
    """The cosine of a (3, side, side) image and a prompt whose last token, the highest, ends it."""
    return float(open_clip_image(weights, shape, image) @ _open_clip_text(weights, shape, ids))


def open_clip_image(weights: Weights, shape: ClipShape, image: Tensor) -> Tensor:
    """The embedding of an image, of length 1."""
    x = torch.cat([weights["visual.class_embedding"][None], _patches(image, weights["visual.conv1.weight"])])
    x = _norm(weights, "visual.ln_pre", x + weights["visual.positional_embedding"], 1e-5)
    x = _open_clip_blocks(weights, "visual.", x, shape.vision_heads, shape.activation, causal=False)
    embedding = _norm(weights, "visual.ln_post", x[0], 1e-5) @ weights["visual.proj"]
    return embedding / embedding.norm()


def _open_clip_text(weights: Weights, shape: ClipShape, ids: Sequence[int]) -> Tensor:
    x = weights["token_embedding.weight"][torch.tensor(ids)] + weights["positional_embedding"][: len(ids)]
    x = _open_clip_blocks(weights, "", x, shape.text_heads, shape.activation, causal=True)
    embedding = _norm(weights, "ln_final", x[-1], 1e-5) @ weights["text_projection"]
    return embedding / embedding.norm()


def _transformers_layers(weights: Weights, tower: str, x: Tensor, heads: int, activation: str, causal: bool) -> Tensor:
    hidden = torch.ones(x.shape[0], x.shape[0]).triu(1).bool() if causal else None
    place = 0
    while f"{tower}.encoder.layers.{place}.layer_norm1.weight" in weights:
        layer = f"{tower}.encoder.layers.{place}"
        inner = _norm(weights, f"{layer}.layer_norm1", x, 1e-5)
        three = [_linear(weights, f"{layer}.self_attn.{letter}_proj", inner) for letter in "qkv"]
        x = x + _linear(weights, f"{layer}.self_attn.out_proj", _attend(*three, heads, hidden))
        inner = _linear(weights, f"{layer}.mlp.fc1", _norm(weights, f"{layer}.layer_norm2", x, 1e-5))
        x = x + _linear(weights, f"{layer}.mlp.fc2", ACTIVATIONS[activation](inner))
        place += 1
    return x


def transformers_clip_cosine(weights: Weights, shape: ClipShape, image: Tensor, ids: Sequence[int]) -> float:
    """The same under transformers' names."""
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    x = torch.cat(
        [weights[f"{vision}.class_embedding"][None], _patches(image, weights[f"{vision}.patch_embedding.weight"])]
    )
    x = _norm(weights, "vision_model.pre_layrnorm", x + weights[f"{vision}.position_embedding.weight"], 1e-5)
    x = _transformers_layers(weights, "vision_model", x, shape.vision_heads, shape.activation, causal=False)
    seen = _norm(weights, "vision_model.post_layernorm", x[0], 1e-5) @ weights["visual_projection.weight"].T
    x = weights[f"{text}.token_embedding.weight"][torch.tensor(ids)]
    x = x + weights[f"{text}.position_embedding.weight"][: len(ids)]
    x = _transformers_layers(weights, "text_model", x, shape.text_heads, shape.activation, causal=True)
    read = _norm(weights, "text_model.final_layer_norm", x[-1], 1e-5) @ weights["text_projection.weight"].T
    return float(seen @ read / seen.norm() / read.norm())


def linear_head(weights: Weights, x: Tensor, prefix: str = "") -> float:
    """The output of the five linear layers."""
    for place in (0, 2, 4, 6, 7):
        x = _linear(weights, f"{prefix}layers.{place}", x)
    return float(x[0])


def image_reward(weights: Weights, image: Tensor, ids: Sequence[int]) -> float:
    """ImageReward of a (3, 224, 224) image and the tokens of its prompt, of which the first stays [CLS]."""
    eye, text = "blip.visual_encoder", "blip.text_encoder"
    x = _patches(image, weights[f"{eye}.patch_embed.proj.weight"]) + weights[f"{eye}.patch_embed.proj.bias"]
    x = torch.cat([weights[f"{eye}.cls_token"][0], x]) + weights[f"{eye}.pos_embed"][0]
    place = 0
    while f"{eye}.blocks.{place}.norm1.weight" in weights:
        block = f"{eye}.blocks.{place}"
        three = _linear(weights, f"{block}.attn.qkv", _norm(weights, f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + _linear(weights, f"{block}.attn.proj", _attend(*three, 16))
        inner = _gelu(_linear(weights, f"{block}.mlp.fc1", _norm(weights, f"{block}.norm2", x, 1e-6)))
        x = x + _linear(weights, f"{block}.mlp.fc2", inner)
        place += 1
    seen = _norm(weights, f"{eye}.norm", x, 1e-6)
    x = weights[f"{text}.embeddings.word_embeddings.weight"][torch.tensor(ids)]
    x = x + weights[f"{text}.embeddings.position_embeddings.weight"][: len(ids)]
    x = _norm(weights, f"{text}.embeddings.LayerNorm", x, 1e-12)
    place = 0
    while f"{text}.encoder.layer.{place}.intermediate.dense.weight" in weights:
        layer = f"{text}.encoder.layer.{place}"
        for attention, keys in (("attention", None), ("crossattention", seen)):
            at = f"{layer}.{attention}"
            source = x if keys is None else keys
            three = [
                _linear(weights, f"{at}.self.{name}", part)
                for name, part in (("query", x), ("key", source), ("value", source))
            ]
            inner = _linear(weights, f"{at}.output.dense", _attend(*three, 12))
            x = _norm(weights, f"{at}.output.LayerNorm", x + inner, 1e-12)
        inner = _linear(weights, f"{layer}.output.dense", _gelu(_linear(weights, f"{layer}.intermediate.dense", x)))
        x = _norm(weights, f"{layer}.output.LayerNorm", x + inner, 1e-12)
        place += 1
    return (linear_head(weights, x[0], "mlp.") - 0.16717362830052426) / 1.0333394966054072


def _as_tensor(picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def cropped(picture: Image.Image, half: str, side: int = 224) -> Tensor:
    """Resize of the shorter side and CenterCrop; `half` says how an odd margin is halved: `round` or `floor`."""
    short = min(picture.size)
    width, height = (side if edge == short else int(side * edge / short) for edge in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = ((edge - side) / 2 for edge in (width, height))
    left, top = (round(left), round(top)) if half == "round" else (math.floor(left), math.floor(top))
    return _as_tensor(picture.crop((left, top, left + side, top + side)))


def letterboxed(picture: Image.Image, side: int = 224) -> Tensor:
    """HPS v2's: the longer side scaled to the network's, the rest black."""
    scale = side / max(picture.size)
    width, height = (round(edge * scale) for edge in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (side - width) // 2, (side - height) // 2
    black = functional.pad(
        torch.from_numpy(np.asarray(small).copy()), (0, 0, left, side - width - left, top, side - height - top)
    )
    return _as_tensor(Image.fromarray(black.numpy()))
