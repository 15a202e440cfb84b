"""Pictures become pixel values exactly as published, and with gradient where pixels are floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vp_ray.errors import InputError
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore

PROMPTS = ["a red circle", "two blue squares", "a red circle"]


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip), seed=2).eval()


def noise(height: int, width: int, count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    coarse = [Image.fromarray(picture) for picture in noise(5, 6)]
    return np.stack([np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in coarse])


def floats(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def test_all_three_ways_agree_where_no_resize_is_needed(model: VPScore) -> None:
    images = noise(32, 32)
    exact = model.score(images, PROMPTS)
    pictures = [Image.fromarray(image) for image in images]
    np.testing.assert_array_equal(model.score_pictures(pictures, PROMPTS), exact)
    with torch.no_grad():
        np.testing.assert_allclose(model.score_pixels(floats(images), PROMPTS).numpy(), exact, atol=1e-4)


def test_the_gradient_of_a_score_by_a_pixel_is_its_slope(model: VPScore) -> None:
    double = VPScore.from_pretrained(saved(model)).double()
    pixels = (floats(noise(40, 32, 1)).double() * 0.6 + 0.2).requires_grad_()
    score = double.score_pixels(pixels, PROMPTS[:1])[0, 1]
    (gradient,) = torch.autograd.grad(score, pixels)
    towards = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-4
    with torch.no_grad():
        ahead, behind = (
            double.head(double.backbone(*inputs(double, pixels + sign * step * towards)))[0, 1] for sign in (1, -1)
        )
    slope = ((ahead - behind) / (2 * step)).item()
    assert (gradient * towards).sum().item() == pytest.approx(slope, rel=1e-3)
    assert abs(slope) > 1e-4


def saved(model: VPScore) -> str:
    model.save_pretrained("memory://slopes/vp-score")
    return "memory://slopes/vp-score"


def inputs(model: VPScore, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = model.reader.tokens(PROMPTS[:1])
    return model.preparation.normalised(model.preparation.fit_pixels(pixels)), tokens.ids, tokens.mask


@pytest.mark.parametrize("fit", ["crop", "crop_floor", "pad", "squash"])
@pytest.mark.parametrize("size", [(48, 77), (91, 40), (20, 33), (32, 40)])
def test_floats_are_scaled_as_pil_scales_but_for_its_rounding(fit: str, size: tuple[int, int]) -> None:
    preparation = Preparation(32, fit=fit)
    images = smooth(*size)
    exact = preparation.fit_images(images)
    assert exact.shape == (3, 32, 32, 3)
    # PIL rounds to whole levels after each of its two passes.
    torch.testing.assert_close(preparation.fit_pixels(floats(images)), floats(exact), atol=1.6 / 255, rtol=0)


def test_a_wide_picture_keeps_its_middle_or_all_of_it() -> None:
    picture = np.zeros((1, 32, 64, 3), np.uint8)
    picture[:, :, 16:48] = 200
    assert (Preparation(32).fit_images(picture) == 200).all()
    padded = Preparation(32, fit="pad").fit_images(picture)
    assert (padded[0, :8] == 0).all()
    assert (padded[0, 24:] == 0).all()
    assert padded[0, 16, 16, 0] == 200


def test_odd_margins_are_halved_as_each_library_does() -> None:
    columns = np.broadcast_to(np.arange(35, dtype=np.uint8)[None, None, :, None], (1, 32, 35, 3))
    assert Preparation(32, fit="crop").fit_images(columns)[0, 0, 0, 0] == 2
    assert Preparation(32, fit="crop_floor").fit_images(columns)[0, 0, 0, 0] == 1


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "1"])
def test_pictures_of_every_mode_are_scored(model: VPScore, mode: str) -> None:
    picture = Image.fromarray(noise(30, 30)[0]).convert(mode)
    assert np.isfinite(model.score_pictures([picture], PROMPTS[:1])).all()


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (torch.rand(1, 3, 8, 8) * 2 - 1, r"range from -.*\[-1, 1\] take x / 2"),
        (torch.rand(1, 3, 8, 8) * 255, "range from"),
        (torch.full((1, 3, 8, 8), float("nan")), "nan"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.rand(1, 8, 8, 3), r"\(1, 8, 8, 3\)"),
        (torch.rand(2, 3, 8, 8), "1 prompts do not fit 2 images"),
    ],
)
def test_pixels_that_are_not_floats_from_0_to_1_are_refused(model: VPScore, pixels: torch.Tensor, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        model.score_pixels(pixels, PROMPTS[:1])
