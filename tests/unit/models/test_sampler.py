"""Our sampler against diffusers' own pipelines, row by row: other seeds and other guidance in one batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from vp_ray.models.config import GeneratorSettings
from vp_ray.models.generators import TextToImage
from vp_ray.models.loading import load_pipeline, load_refiner
from vp_ray.models.sampler import ImageRequest, denoise

LATENTS = 1e-5
"""Largest difference of final latents in float32, relative to their standard deviation."""
STEPS = 5
REQUESTS = [
    ImageRequest("a red circle", 11, 1.0),
    ImageRequest("two blue squares above a green star", 12, 3.0),
    ImageRequest("a large yellow triangle on a white ground", 13, 7.5),
    ImageRequest("a red circle", 14, 12.0),
    ImageRequest("", 15, 4.0),
]


def settings(name: str, source: Path, **options: Any) -> GeneratorSettings:
    size = {"height": 16, "width": 24} if name != "sd3" else {"height": 16, "width": 16}
    return GeneratorSettings.load({"name": name, "source": str(source), "steps": STEPS, **size, **options})


def ours(model: TextToImage, requests: list[ImageRequest]) -> torch.Tensor:
    chosen = model.settings
    assert model.family is not None
    return denoise(
        model.family, requests, chosen.steps, (chosen.height, chosen.width), chosen.negative_prompt, model._refiner
    )


def diffusers_own(pipe: Any, chosen: GeneratorSettings, request: ImageRequest, **options: Any) -> torch.Tensor:
    """Final latents of one image, by the pipeline's own call."""
    names: dict[str, Any] = {"negative_prompt": chosen.negative_prompt} if chosen.negative_prompt else {}
    latents = pipe(
        prompt=request.prompt,
        generator=torch.Generator().manual_seed(request.seed),
        guidance_scale=request.guidance_scale,
        num_inference_steps=chosen.steps,
        output_type="latent",
        **{"height": chosen.height, "width": chosen.width, **names, **options},
    ).images
    return (
        pipe._unpack_latents(latents, chosen.height, chosen.width, pipe.vae_scale_factor)
        if latents.ndim == 3
        else latents
    )


def differs(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.std())


@pytest.mark.parametrize(
    ("family", "scheduler", "negative"),
    [
        ("sd", "own", ""),
        ("sd", "ddim", "a blue square"),
        ("sd", "euler", ""),
        ("sd", "euler_ancestral", ""),
        ("sd", "dpm_solver", ""),
        ("sdxl", "own", ""),
        ("sdxl", "ddim", "a blue square"),
        ("sdxl", "euler_ancestral", ""),
        ("sd3", "own", ""),
        ("sd3", "own", "a blue square"),
        ("flux", "own", ""),
    ],
)
def test_each_row_of_a_mixed_batch_is_what_diffusers_draws_alone(
    model_at: Callable[[str], Path], family: str, scheduler: str, negative: str
) -> None:
    chosen = settings(family, model_at(family), scheduler=scheduler, negative_prompt=negative)
    found = ours(TextToImage(chosen), REQUESTS)
    pipe = load_pipeline(chosen)
    wanted = torch.cat([diffusers_own(pipe, chosen, request) for request in REQUESTS])
    assert differs(found, wanted) < LATENTS
    # Guidance and prompts matter to these models, so the comparison means something.
    plain = ours(TextToImage(chosen), [ImageRequest(one.prompt, one.seed, 1.0) for one in REQUESTS])
    assert differs(found[2:4], plain[2:4]) > 100 * LATENTS


def test_the_refiner_goes_on_where_the_base_stops(model_at: Callable[[str], Path]) -> None:
    chosen = settings("sdxl", model_at("sdxl"), refiner=str(model_at("sdxl_refiner")), refiner_start=0.6)
    found = ours(TextToImage(chosen), REQUESTS)
    base = load_pipeline(chosen)
    refiner: Any = load_refiner(chosen, base)
    wanted = []
    for request in REQUESTS:
        generator = torch.Generator().manual_seed(request.seed)
        half = diffusers_own(base, chosen, request, denoising_end=0.6)
        wanted.append(
            refiner(
                prompt=request.prompt,
                image=half,
                denoising_start=0.6,
                generator=generator,
                guidance_scale=request.guidance_scale,
                num_inference_steps=chosen.steps,
                output_type="latent",
            ).images
        )
    assert differs(found, torch.cat(wanted)) < LATENTS
    assert differs(found, ours(TextToImage(settings("sdxl", model_at("sdxl"))), REQUESTS)) > 100 * LATENTS


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_the_size_of_a_batch_changes_rounding_only(model_at: Callable[[str], Path], family: str) -> None:
    model = TextToImage(settings(family, model_at(family)))
    together, images = ours(model, REQUESTS), [one.pixels for one in model.draw(REQUESTS)]
    for size in (1, 2):
        parts = [REQUESTS[first : first + size] for first in range(0, len(REQUESTS), size)]
        assert differs(torch.cat([ours(model, part) for part in parts]), together) < LATENTS
        drawn = [one.pixels for part in parts for one in model.draw(part)]
        assert np.abs(np.stack(drawn).astype(int) - np.stack(images).astype(int)).max() <= 1


def test_any_other_pipeline_is_drawn_by_its_own_call(model_at: Callable[[str], Path]) -> None:
    chosen = settings("consistency", model_at("consistency"))
    model = TextToImage(chosen)
    assert model.family is None
    drawn = model.draw(REQUESTS)
    pipe: Any = DiffusionPipeline.from_pretrained(chosen.source)
    pipe.set_progress_bar_config(disable=True)
    for request, one in zip(REQUESTS, drawn, strict=True):
        wanted = pipe(
            prompt=request.prompt,
            generator=torch.Generator().manual_seed(request.seed),
            guidance_scale=request.guidance_scale,
            num_inference_steps=STEPS,
            height=chosen.height,
            width=chosen.width,
            output_type="np",
        ).images[0]
        assert np.abs(one.pixels - wanted * 255).max() <= 1


def test_the_same_batch_is_the_same_bit_by_bit_whatever_was_drawn_before(model_at: Callable[[str], Path]) -> None:
    chosen = settings("sd", model_at("sd"))
    first, second = TextToImage(chosen), TextToImage(chosen)
    second.draw(REQUESTS[:1], "euler_ancestral")
    for one, other in zip(first.draw(REQUESTS), second.draw(REQUESTS), strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
