from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vp_ray.errors import InputError
from vp_ray.shapeworld.measure import measure
from vp_ray.shapeworld.render import COLOUR_RGB, Arrangement, Placed, render
from vp_ray.shapeworld.scenes import Scene

Pictures = tuple[list[Scene], list[Arrangement], NDArray[np.uint8]]

TWO = Arrangement((Placed("red", "circle", 9, 10, 5), Placed("blue", "square", 22, 20, 6)), "white")


def kinds(image: NDArray[np.uint8]) -> list[tuple[str, str]]:
    return [(found.colour, found.shape) for found in measure(image).objects]


def test_every_object_of_500_perfect_renders_is_found_within_half_a_pixel(pictures: Pictures) -> None:
    for arrangement, image in zip(pictures[1], pictures[2], strict=True):
        seen = measure(image)
        wanted = sorted((t.colour, t.shape, t.x, t.y, t.radius) for t in arrangement.things)
        found = sorted((t.colour, t.shape, t.x, t.y, t.radius) for t in seen.objects)
        assert [row[:2] for row in found] == [row[:2] for row in wanted]
        assert np.abs(np.array([row[2:] for row in found]) - np.array([row[2:] for row in wanted])).max() < 0.5
        assert (seen.ground, seen.speck_pixels, seen.hazard_pixels) == (arrangement.ground, 0, 0)
        assert seen.noise < 1


def test_a_mark_over_an_object_does_not_cut_it_in_two(marked_pictures: Pictures) -> None:
    wrong = 0
    for arrangement, image in zip(marked_pictures[1], marked_pictures[2], strict=True):
        seen = measure(image)
        assert 25 < seen.hazard_pixels < 40
        wrong += sorted((t.colour, t.shape) for t in seen.objects) != sorted(
            (t.colour, t.shape) for t in arrangement.things
        )
    assert wrong <= 5


def test_objects_of_two_colours_that_touch_are_two() -> None:
    touching = Arrangement((Placed("red", "square", 10, 16, 6), Placed("blue", "square", 20.8, 16, 6)), "gray")
    assert sorted(kinds(render(touching))) == [("blue", "square"), ("red", "square")]


def test_an_enlarged_image_is_measured_as_the_small_one() -> None:
    image = render(TWO)
    large = np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.NEAREST))
    assert measure(large) == measure(image)


def test_small_errors_of_colour_change_nothing_that_is_named() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(render(TWO) + rng.normal(0, 15, (32, 32, 3)), 0, 255).astype(np.uint8)
    assert kinds(noisy) == [("blue", "square"), ("red", "circle")]
    assert measure(noisy).noise == pytest.approx(15, abs=4)


def test_an_image_of_ground_alone_has_no_objects_and_covers_nothing() -> None:
    seen = measure(np.full((32, 32, 3), 128, np.uint8))
    assert (seen.ground, seen.objects, seen.hazard_pixels) == ("gray", (), 0)
    assert seen.coverage < 1e-9


def test_an_image_of_a_colour_that_is_no_ground_has_no_ground() -> None:
    assert measure(np.full((32, 32, 3), (120, 60, 10), np.uint8)).ground is None


def test_noise_without_a_picture_is_measured_without_error() -> None:
    seen = measure(np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8))
    assert seen.noise > 40


def test_a_centred_object_is_balanced_and_one_aside_is_not() -> None:
    centred = measure(render(Arrangement((Placed("red", "circle", 16, 16, 6),), "black")))
    aside = measure(render(Arrangement((Placed("red", "circle", 8, 16, 6),), "black")))
    assert centred.imbalance == pytest.approx(0, abs=0.02)
    assert aside.imbalance == pytest.approx(0.5, abs=0.02)
    assert aside.margin == pytest.approx(2, abs=0.2)
    assert centred.coverage == pytest.approx(np.pi * 36 / 1024, rel=0.05)


@pytest.mark.parametrize("image", [np.zeros((32, 32), np.uint8), np.zeros((0, 32, 3), np.uint8), np.zeros((8, 8, 3))])
def test_what_is_no_rgb_image_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="uint8"):
        measure(image)


@pytest.mark.filterwarnings("error")
def test_an_image_that_one_palette_colour_fills_has_no_ground_and_what_lies_on_it_is_found() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[:] = COLOUR_RGB["red"]
    assert measure(red).ground is None
    red[10:20, 12:22] = COLOUR_RGB["blue"]
    assert kinds(red) == [("blue", "square")]
