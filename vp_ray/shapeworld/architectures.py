"""The tiny networks and tokenizers of the embedded world, built from the same classes as their large relatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vp_ray.shapeworld.render import IMAGE_SIDE
from vp_ray.shapeworld.scenes import COLOURS, COUNT_WORDS, GROUNDS, SHAPES, SIZES

LATENT_SIDE: Final = 8
_END: Final = "<|endoftext|>"
TEXT_TOKENS: Final = 24

PredictionType = Literal["epsilon", "v_prediction"]


def grammar_words() -> list[str]:
    """Every word of the prompt grammar, sorted."""
    words = {"a", "and", "on", "ground", "left", "right", "of", "above", "below"}
    words.update(COLOURS, SHAPES, (f"{shape}s" for shape in SHAPES), GROUNDS, SIZES, COUNT_WORDS)
    return sorted(words)


def _byte_characters() -> list[str]:
    """The 256 characters that byte-level BPE writes bytes with, in byte order of the printable ones first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(rest))]


def write_clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer that knows most grammar words as one token, the rest in pieces, and any other text in bytes."""
    characters = _byte_characters()
    vocabulary = [*characters, *(character + "</w>" for character in characters)]
    merges: list[str] = []
    for word in grammar_words():
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = f"{pieces[0]} {pieces[1]}"
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            if merge not in merges:
                merges.append(merge)
            if pieces[0] not in vocabulary:
                vocabulary.append(pieces[0])
    vocabulary += ["<|startoftext|>", _END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TEXT_TOKENS, pad_token=_END
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width 64 over at most 24 tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_vae() -> AutoencoderKL:
    """32 x 32 x 3 pixels to 8 x 8 x 4 latents and back."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIDE,
    )


def new_unet() -> UNet2DConditionModel:
    """A conditional UNet on 8 x 8 x 4 latents with cross-attention at both resolutions."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler(prediction_type: PredictionType) -> DDIMScheduler:
    """Stable Diffusion's noise schedule (1,000 steps, scaled linear) with DDIM steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
