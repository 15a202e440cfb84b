"""Untrained pipelines of every family, of diffusers' own classes, small enough to draw with in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from vp_ray.shapeworld import architectures

WIDTH = 32
TOKENS = 16


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    tokenizer = architectures.write_clip_tokenizer(folder / "words")
    tokenizer.model_max_length = TOKENS
    return tokenizer


def clip_text(tokenizer: CLIPTokenizer, kind: type = CLIPTextModel) -> CLIPTextModel:
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=64,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def t5_tokenizer() -> T5Tokenizer:
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=letters, extra_ids=0)


def t5_text() -> T5EncoderModel:
    config = T5Config(vocab_size=32, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def vae(latent_channels: int = 4, **options: object) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=16,
        **options,
    )


def unet(**options: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        **options,
    )


def sd(folder: Path) -> diffusers.DiffusionPipeline:
    """Stable Diffusion 1.x with its safety checker."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    tokenizer = clip_tokenizer(folder)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision | {"image_size": 16, "patch_size": 8}, projection_dim=16)
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=unet(cross_attention_dim=WIDTH),
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )


def _xl_unet(numbers: int) -> UNet2DConditionModel:
    return unet(
        cross_attention_dim=WIDTH * (2 if numbers == 6 else 1),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=WIDTH + 4 * numbers,
        transformer_layers_per_block=1,
        use_linear_projection=True,
    )


def _xl_scheduler() -> diffusers.EulerDiscreteScheduler:
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )


def sdxl(folder: Path) -> diffusers.DiffusionPipeline:
    """SDXL's base."""
    tokenizer = clip_tokenizer(folder)
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(force_upcast=True),
        text_encoder=clip_text(tokenizer),
        text_encoder_2=clip_text(tokenizer, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_xl_unet(6),
        scheduler=_xl_scheduler(),
        add_watermarker=False,
    )


def sdxl_refiner(folder: Path) -> diffusers.DiffusionPipeline:
    """SDXL's refiner: one text encoder, an aesthetic score among the UNet's inputs."""
    tokenizer = clip_tokenizer(folder)
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=vae(force_upcast=True),
        text_encoder=None,
        text_encoder_2=clip_text(tokenizer, CLIPTextModelWithProjection),
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=_xl_unet(5),
        scheduler=_xl_scheduler(),
        requires_aesthetics_score=True,
        add_watermarker=False,
    )


def sd3(folder: Path) -> diffusers.DiffusionPipeline:
    """Stable Diffusion 3 with all three text encoders."""
    tokenizer = clip_tokenizer(folder)
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH,
            out_channels=8,
            pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(8, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(tokenizer, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        text_encoder_2=clip_text(tokenizer, CLIPTextModelWithProjection),
        tokenizer_2=tokenizer,
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=32, d_model=2 * WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
        ).eval(),
        tokenizer_3=t5_tokenizer(),
    )


def flux(folder: Path) -> diffusers.DiffusionPipeline:
    """FLUX.1 dev: guidance is an input, and the schedule shifts with the image's size."""
    tokenizer = clip_tokenizer(folder)
    return diffusers.FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(4, shift_factor=0.1, scaling_factor=0.36, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def consistency(folder: Path) -> diffusers.DiffusionPipeline:
    """A latent consistency model, which belongs to none of the families."""
    tokenizer = clip_tokenizer(folder)
    return diffusers.LatentConsistencyModelPipeline(
        vae=vae(),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=unet(cross_attention_dim=WIDTH, time_cond_proj_dim=16),
        scheduler=diffusers.LCMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


FAMILIES: dict[str, Callable[[Path], diffusers.DiffusionPipeline]] = {
    build.__name__: build for build in (sd, sdxl, sdxl_refiner, sd3, flux, consistency)
}


def write(name: str, folder: Path) -> Path:
    """The directory of a family's pipeline, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = FAMILIES[name](folder)
        # Fresh layers hardly look at text and time; larger weights make every input matter.
        for module in pipe.components.values():
            if isinstance(module, torch.nn.Module):
                for parameter in module.parameters():
                    if parameter.ndim > 1:
                        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    pipe.save_pretrained(folder / name)
    return folder / name


def _save_dual(model: torch.nn.Module, tokenizer: object, processor: object, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def clip_model(folder: Path) -> Path:
    """The directory of a whole CLIP: image side 32, embeddings of 24 numbers."""
    tokenizer = clip_tokenizer(folder)
    shape = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = clip_text(tokenizer).config.to_dict() | {"projection_dim": 24}
    vision = shape | {"hidden_size": 48, "image_size": 32, "patch_size": 8, "projection_dim": 24}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _save_dual(model, tokenizer, processor, folder / "clip")


def siglip_model(folder: Path) -> Path:
    """The directory of a whole SigLIP: image side 32, 12 tokens, embeddings of 32 numbers."""
    tokenizer = t5_tokenizer()
    shape = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SiglipModel(
            SiglipConfig(
                text_config=shape | {"vocab_size": 32, "max_position_embeddings": 12},
                vision_config=shape | {"image_size": 32, "patch_size": 8},
            )
        )
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return _save_dual(model, tokenizer, processor, folder / "siglip")
