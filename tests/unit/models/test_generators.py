"""What becomes of rows and models that are not as they should be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from vp_ray.errors import CheckpointError, SettingsError
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.generators import REDRAWN, TRUNCATED, UNSAFE, TextToImage
from vp_ray.models.loading import load_pipeline
from vp_ray.models.presets import PRESETS
from vp_ray.models.sampler import ImageRequest
from vp_ray.models.sources import check_source
from vp_ray.records import ImageStatus

CIRCLE, SQUARE = ImageRequest("a red circle", 1, 3.0), ImageRequest("a blue square", 2, 5.0)


def settings(source: Path | str, **options: Any) -> GeneratorSettings:
    return GeneratorSettings.load({"name": "tiny", "source": str(source), "steps": 3, **options})


def changed(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a pipeline directory after something was done to its parts."""
    pipe = DiffusionPipeline.from_pretrained(source)
    with torch.no_grad():
        change(pipe)
    pipe.save_pretrained(target)
    return target


def overflowing(pipe: Any) -> None:
    """Activations above 65,504, float16's largest number, that the group norm after them takes back."""
    pipe.vae.post_quant_conv.weight.mul_(2.0**14)


def test_an_image_that_overflows_in_float16_is_drawn_once_more_in_float32(
    model_at: Callable[[str], Path], tmp_path: Path
) -> None:
    source = changed(model_at("sd"), tmp_path / "overflowing", overflowing)
    model = TextToImage(settings(source, dtype="float16", vae_dtype="same"))
    drawn = model.draw([CIRCLE, SQUARE])
    assert [one.status for one in drawn] == [ImageStatus.MADE] * 2
    assert [one.flags for one in drawn] == [(REDRAWN,)] * 2
    # The model is in half precision again, and its float32 images are those of a float32 model of these weights.
    assert {pipe.dtype for pipe in (model.pipe.unet, model.pipe.vae)} == {torch.float16}
    exact = load_pipeline(settings(source))
    for part in (exact.unet, exact.vae, exact.text_encoder):
        part.half().float()
    wanted = TextToImage(settings(source))
    wanted.pipe.register_modules(unet=exact.unet, vae=exact.vae, text_encoder=exact.text_encoder)
    for one, request in zip(drawn, (CIRCLE, SQUARE), strict=True):
        np.testing.assert_array_equal(one.pixels, wanted.draw([request])[0].pixels)


def test_a_vae_in_float32_needs_no_second_drawing(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    source = changed(model_at("sd"), tmp_path / "overflowing", overflowing)
    drawn = TextToImage(settings(source, dtype="float16", vae_dtype="float32")).draw([CIRCLE])
    assert (drawn[0].status, drawn[0].flags) == (ImageStatus.MADE, ())


def test_a_vae_that_says_that_it_overflows_decodes_in_float32(model_at: Callable[[str], Path]) -> None:
    assert load_pipeline(settings(model_at("sdxl"), dtype="float16")).vae.dtype == torch.float32
    assert load_pipeline(settings(model_at("sdxl"), dtype="float16", vae_dtype="same")).vae.dtype == torch.float16
    assert load_pipeline(settings(model_at("sd"), dtype="float16")).vae.dtype == torch.float16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_stays_black_or_not_finite_says_so_and_its_neighbours_are_made(
    model_at: Callable[[str], Path], tmp_path: Path, dtype: str
) -> None:
    def spoilt(pipe: Any) -> None:
        pipe.text_encoder.embeddings.token_embedding.weight[pipe.tokenizer.convert_tokens_to_ids("!</w>")] = torch.nan

    model = TextToImage(settings(changed(model_at("sd"), tmp_path / "spoilt", spoilt), dtype=dtype))
    drawn = model.draw([CIRCLE, ImageRequest("a red circle !", 1, 3.0), SQUARE])
    assert [one.status for one in drawn] == [ImageStatus.MADE, ImageStatus.FAILED, ImageStatus.MADE]
    assert drawn[1].flags == (() if dtype == "float32" else (REDRAWN,))

    def black(pipe: Any) -> None:
        pipe.vae.decoder.conv_out.weight.zero_()
        pipe.vae.decoder.conv_out.bias.fill_(-2.0)

    model = TextToImage(settings(changed(model_at("sd"), tmp_path / "black", black), dtype=dtype))
    assert [one.status for one in model.draw([CIRCLE])] == [ImageStatus.BLANK]


def test_the_safety_checker_flags_and_keeps_the_pixels(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    def prudish(pipe: Any) -> None:
        pipe.safety_checker.concept_embeds_weights.fill_(-2.0)

    def lenient(pipe: Any) -> None:
        pipe.safety_checker.concept_embeds_weights.fill_(2.0)
        pipe.safety_checker.special_care_embeds_weights.fill_(2.0)

    plain = TextToImage(settings(model_at("sd"))).draw([CIRCLE, SQUARE])
    for change, flags in ((prudish, (UNSAFE,)), (lenient, ())):
        source = changed(model_at("sd"), tmp_path / change.__name__, change)
        drawn = TextToImage(settings(source, safety_checker=True)).draw([CIRCLE, SQUARE])
        for one, without in zip(drawn, plain, strict=True):
            assert (one.status, one.flags) == (ImageStatus.MADE, flags)
            np.testing.assert_array_equal(one.pixels, without.pixels)
    with pytest.raises(CheckpointError, match="has no safety checker"):
        TextToImage(settings(model_at("sdxl"), safety_checker=True))


@pytest.mark.parametrize(("family", "limit"), [("sd", 16), ("sdxl", 16), ("sd3", 256), ("flux", 512)])
def test_a_prompt_that_every_text_encoder_cuts_is_flagged(
    model_at: Callable[[str], Path], family: str, limit: int
) -> None:
    model = TextToImage(settings(model_at(family), height=16, width=16, steps=1))
    # CLIP spends a token on each of these words and two on its marks; the tiny T5 two on a word and one on its mark.
    fitting = limit - 2 if family in ("sd", "sdxl") else (limit - 1) // 2
    prompts = [" ".join(["a"] * count) for count in (fitting, fitting + 1)]
    drawn = model.draw([ImageRequest(prompt, 1, 3.0) for prompt in prompts])
    assert [TRUNCATED in one.flags for one in drawn] == [False, True]


def test_another_vae_takes_the_place_of_the_models_own(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    source = model_at("sd")
    mended = AutoencoderKL.from_pretrained(source / "vae")
    with torch.no_grad():
        mended.decoder.conv_out.bias.add_(0.5)
    mended.save_pretrained(tmp_path / "vae")
    own = TextToImage(settings(source)).draw([CIRCLE])[0].pixels
    other = TextToImage(settings(source, vae=str(tmp_path / "vae"), vae_tiling=True)).draw([CIRCLE])[0].pixels
    assert other.mean() > own.mean() + 20


def test_compiled_networks_and_attention_backends_draw_the_same(model_at: Callable[[str], Path]) -> None:
    plain = TextToImage(settings(model_at("sd"))).draw([CIRCLE])[0].pixels
    backend = TextToImage(settings(model_at("sd"), attention="_native_math")).draw([CIRCLE])[0].pixels
    assert np.abs(plain.astype(int) - backend).max() <= 1
    assert load_pipeline(settings(model_at("sd"), compile=True)).unet._compiled_call_impl is not None
    with pytest.raises(CheckpointError, match="backend"):
        load_pipeline(settings(model_at("sd"), attention="no_such_backend"))


def test_what_a_model_does_not_take_is_refused_with_the_remedy(model_at: Callable[[str], Path]) -> None:
    with pytest.raises(SettingsError, match="flow_euler for flow models"):
        load_pipeline(settings(model_at("sd3"), scheduler="ddim"))
    with pytest.raises(SettingsError, match="flow_euler for flow models"):
        load_pipeline(settings(model_at("sd"), scheduler="flow_euler"))
    with pytest.raises(SettingsError, match="only SDXL has one"):
        TextToImage(settings(model_at("sd"), refiner=str(model_at("sdxl_refiner"))))
    with pytest.raises(SettingsError, match="multiples of 4"):
        TextToImage(settings(model_at("flux"), height=18, width=16)).draw([CIRCLE])


def test_a_source_is_checked_without_loading_it(model_at: Callable[[str], Path], tmp_path: Path) -> None:
    check_source(settings("embedded:weak"))
    check_source(settings(model_at("sdxl"), refiner=str(model_at("sdxl_refiner")), vae=str(model_at("sd") / "vae")))
    (tmp_path / "empty").mkdir()
    half = shutil.copytree(model_at("sd") / "unet", tmp_path / "half")
    for source in (tmp_path / "empty", half):
        with pytest.raises(CheckpointError, match=r"'tiny' has no model_index\.json"):
            check_source(settings(source))
    with pytest.raises(CheckpointError, match="is no directory and not in the cache"):
        check_source(settings("nobody/no-such-model"))
    with pytest.raises(CheckpointError, match="is neither a directory nor on the hub"):
        check_source(settings("no/such/directory"))
    with pytest.raises(CheckpointError, match="is no directory"):
        check_source(settings(model_at("sdxl"), refiner="nobody/no-such-refiner"))


def test_presets_fill_in_what_is_not_given() -> None:
    for name in PRESETS:
        assert GeneratorSettings.load({"preset": name}).name == name
    chosen = GeneratorSettings.load({"preset": "sd15", "name": "mine", "steps": 20})
    assert (chosen.name, chosen.steps, chosen.guidance_scale) == ("mine", 20, (3.0, 12.0))
    assert chosen.source == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    with pytest.raises(SettingsError, match="there is no preset 'sd17'"):
        GeneratorSettings.load({"preset": "sd17"})
