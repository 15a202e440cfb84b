"""The tiny BLIP of the embedded world, built from the classes of its large relatives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import BertTokenizer, BlipConfig, BlipForImageTextRetrieval, BlipImageProcessorPil

from vp_ray.shapeworld.architectures import TEXT_TOKENS, grammar_words
from vp_ray.shapeworld.render import IMAGE_SIDE

PATCH: Final = 4
_WIDTH: Final = 64


def write_bert_tokenizer(folder: Path) -> BertTokenizer:
    """A BERT tokenizer that knows each grammar word as one token and spells everything else in characters."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    words = [word for word in grammar_words() if len(word) > 1]
    vocabulary = [*special, *words, *characters, *(f"##{character}" for character in characters)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    tokenizer = BertTokenizer(
        vocab={token: number for number, token in enumerate(vocabulary)},
        **{"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]},
        model_max_length=TEXT_TOKENS,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_blip(tokenizer: BertTokenizer) -> BlipForImageTextRetrieval:
    """A BLIP for 32 x 32 pictures in patches of 4: 4 vision and 4 text layers of width 64, 0.5M parameters."""
    shape = {"hidden_size": _WIDTH, "intermediate_size": 3 * _WIDTH, "num_attention_heads": 4}
    text = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 4,
        "max_position_embeddings": TEXT_TOKENS,
        "projection_dim": 32,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    vision = {
        "num_hidden_layers": 4,
        "image_size": IMAGE_SIDE,
        "patch_size": PATCH,
        "projection_dim": 32,
        "initializer_range": 0.02,
    }
    config = BlipConfig(
        text_config={**shape, **text},
        vision_config={**shape, **vision},
        image_text_hidden_size=32,
        projection_dim=32,
    )
    model = BlipForImageTextRetrieval(config)
    _place_patches(model.vision_model.embeddings)
    return model


def _place_patches(embeddings: Any) -> None:
    """Starts the patches' places as sines of their rows and columns, and their pixels at the same size.

    From BLIP's own start, noise of standard deviation 0.02, a small network learns shapes at half the speed.
    """
    cells = IMAGE_SIDE // PATCH
    rates = 2 * math.pi / torch.logspace(1, 5, _WIDTH // 4, base=2)
    angles = torch.arange(cells)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, cells, -1), waves[None].expand(cells, -1, -1)
    with torch.no_grad():
        embeddings.position_embedding[0, 1:] = 0.3 * torch.cat([rows, columns], dim=-1).flatten(0, 1)
        nn.init.normal_(embeddings.patch_embedding.weight, std=0.15)


def save_blip(model: BlipForImageTextRetrieval, tokenizer: BertTokenizer, folder: Path) -> None:
    """Writes a directory as `Salesforce/blip-*` have it, as half-precision safetensors; casts the model."""
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = BlipImageProcessorPil(
        size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor.save_pretrained(folder)
