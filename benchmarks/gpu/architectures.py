"""Pipelines of real sizes with random weights, so that speed and memory can be measured without downloading any.

`tiny` gives the same classes at a size for tests. Text goes through the embedded world's tokenizer; SD3 runs without
T5, as its pipeline allows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from vp_ray.shapeworld.architectures import write_clip_tokenizer

TOKENS = 77


def tokenizer_in(folder: Path) -> CLIPTokenizer:
    tokenizer = write_clip_tokenizer(folder / "words")
    tokenizer.model_max_length = TOKENS
    return tokenizer


def clip_text(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int, kind: type = CLIPTextModel) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def vae(tiny: bool, channels: int = 4, **options: Any) -> AutoencoderKL:
    widths = (8, 16) if tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1 if tiny else 2,
        latent_channels=channels,
        norm_num_groups=4 if tiny else 32,
        **options,
    )


def sd15(tiny: bool, folder: Path) -> Any:
    """Stable Diffusion 1.5: UNet of 860M weights at 64 x 64 latents."""
    tokenizer = tokenizer_in(folder)
    width = 32 if tiny else 768
    sizes = {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4} if tiny else {}
    return diffusers.StableDiffusionPipeline(
        vae=vae(tiny),
        text_encoder=clip_text(tokenizer, width, 2 if tiny else 12, 4 if tiny else 12),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(sample_size=8 if tiny else 64, cross_attention_dim=width, **sizes),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(tiny: bool, folder: Path) -> Any:
    """SDXL base: UNet of 2.6B weights at 128 x 128 latents."""
    tokenizer = tokenizer_in(folder)
    first, second = (32, 32) if tiny else (768, 1280)
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(tiny, force_upcast=True),
        text_encoder=clip_text(tokenizer, first, 2 if tiny else 12, 4 if tiny else 12),
        text_encoder_2=clip_text(tokenizer, second, 2 if tiny else 32, 4 if tiny else 20, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            sample_size=8 if tiny else 128,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(8, 16, 16) if tiny else (320, 640, 1280),
            norm_num_groups=4 if tiny else 32,
            transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
            attention_head_dim=(2, 4, 4) if tiny else (5, 10, 20),
            cross_attention_dim=first + second,
            addition_embed_type="text_time",
            addition_time_embed_dim=8 if tiny else 256,
            projection_class_embeddings_input_dim=second + 6 * (8 if tiny else 256),
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        add_watermarker=False,
    )


def sd3(tiny: bool, folder: Path) -> Any:
    """Stable Diffusion 3 medium without T5: transformer of 2B weights at 128 x 128 latents."""
    tokenizer = tokenizer_in(folder)
    first, second = (32, 32) if tiny else (768, 1280)
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8 if tiny else 128,
            num_layers=2 if tiny else 24,
            attention_head_dim=8 if tiny else 64,
            num_attention_heads=4 if tiny else 24,
            joint_attention_dim=first + second if tiny else 4096,
            caption_projection_dim=32 if tiny else 1536,
            pooled_projection_dim=first + second,
            pos_embed_max_size=16 if tiny else 192,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(tiny, 16, shift_factor=0.0609, scaling_factor=1.5305, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(tokenizer, first, 2 if tiny else 12, 4 if tiny else 12, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        text_encoder_2=clip_text(tokenizer, second, 2 if tiny else 32, 4 if tiny else 20, CLIPTextModelWithProjection),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


ARCHITECTURES: dict[str, Callable[[bool, Path], Any]] = {"sd15": sd15, "sdxl": sdxl, "sd3": sd3}


def build(name: str, tiny: bool, folder: Path, device: str, dtype: torch.dtype) -> Any:
    """The pipeline of an architecture, its weights drawn on the device in its precision."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            pipe = ARCHITECTURES[name](tiny, folder)
    finally:
        torch.set_default_dtype(before)
    # Schedulers compute on the CPU in float32, as those that are read from a directory do.
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return pipe.to(device, dtype)
