"""What is to be seen in a picture: ground, objects, hazard mark, sharpness, noise and composition, from pixels alone.

Each pixel is unmixed into ground and one palette colour (p = ground + share * (colour - ground)); the blobs of a
colour are objects; each is fitted by a template; and what the picture differs by from the scene drawn anew is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vp_ray.errors import InputError
from vp_ray.shapeworld.render import COLOUR_RGB, GROUND_RGB, IMAGE_SIDE
from vp_ray.shapeworld.scenes import COLOURS, GROUNDS
from vp_ray.shapeworld.shape_fit import Mask, fit_shape

_GROUNDS_RGB: Final = np.array([GROUND_RGB[name] for name in GROUNDS], np.float32)
_COLOURS_RGB: Final = np.array([COLOUR_RGB[name] for name in COLOURS], np.float32)
_GROUND_DISTANCE: Final = 60.0
_FOREIGN_DISTANCE: Final = 70.0
_OBJECT_AREA: Final = 10.0
"""The smallest object of the grammar covers 20 pixels; smaller blobs are specks."""
_HAZARD_HUE: Final = (60.0, 120.0)
"""Where min(red, blue) - green begins and ends to mean magenta; it is 180 in the mark and below 45 in all else."""
_HAZARD_AREA: Final = 5
_CROSS: Final = ndimage.generate_binary_structure(2, 1)
_WITHIN_LAYERS: Final = np.stack([np.zeros((3, 3), bool), _CROSS, np.zeros((3, 3), bool)])


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object: its nearest template (lengths in pixels) and how well that describes it."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    overlap: float
    """Soft IoU of the blob and its template, 0..1."""
    sharpness: float
    """Mixed pixels of the template over mixed pixels of the blob, 0..1; 1 is an edge one pixel wide."""
    contrast: float
    """Distance of its colour to the ground's in RGB."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that the judge sees; it does not depend on the prompt."""

    ground: str | None
    """The palette ground, or None where none of them covers a quarter of the picture."""
    objects: tuple[FoundObject, ...]
    """Largest first."""
    hazard_pixels: float
    """Pixels' worth of magenta; a whole mark has 31 to 33."""
    speck_pixels: float
    """Pixels of blobs too small to be objects, and of colours outside the palette."""
    noise: float
    """Root mean square difference to the scene drawn anew, away from edges, in levels of 0..255."""
    coverage: float
    """Share of the picture that objects cover, 0..1."""
    imbalance: float
    """Distance from the picture's centre to the objects' centre of mass, over half the side."""
    margin: float
    """Smallest distance of an object's bounding square to the border, in pixels; negative when it is cut off."""


def to_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(32, 32, 3) of an (H, W, 3) uint8 image, by averaging over boxes; raises `InputError` for another layout."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}", "Convert it to RGB.")
    if image.shape[:2] == (IMAGE_SIDE, IMAGE_SIDE):
        return image
    resized = Image.fromarray(image).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX)
    return np.asarray(resized, np.uint8)


def _find_ground(pixels: NDArray[np.float32]) -> tuple[str | None, NDArray[np.float32]]:
    """The palette ground that most pixels are near to, and the median colour of those pixels."""
    near = np.square(pixels[:, :, None] - _GROUNDS_RGB).sum(axis=-1) < _GROUND_DISTANCE**2
    counts = near.sum(axis=(0, 1))
    place = int(counts.argmax())
    if counts[place] < IMAGE_SIDE * IMAGE_SIDE / 4:
        return None, np.median(pixels.reshape(-1, 3), axis=0)
    return GROUNDS[place], np.median(pixels[near[:, :, place]], axis=0)


def _unmix(
    pixels: NDArray[np.float32], ground: NDArray[np.float32]
) -> tuple[NDArray[np.intp], Mask, NDArray[np.bool_]]:
    """For each pixel the best palette colour (index), its share in 0..1, and whether the pixel is explained by it."""
    directions = _COLOURS_RGB - ground
    lengths = np.square(directions).sum(axis=1)
    away = pixels - ground
    along = away @ directions.T
    # A ground that is itself a palette colour, as in a picture that one shape fills, leads nowhere in that direction.
    shares = np.clip(np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0), 0.0, 1.0)
    errors = np.square(away).sum(axis=-1)[:, :, None] - 2 * shares * along + np.square(shares) * lengths
    label = errors.argmin(axis=-1)
    share = np.take_along_axis(shares, label[:, :, None], axis=-1)[:, :, 0]
    error = np.take_along_axis(errors, label[:, :, None], axis=-1)[:, :, 0]
    return label, share.astype(np.float32), error < _FOREIGN_DISTANCE**2


def _magenta(pixels: NDArray[np.float32]) -> Mask:
    """How magenta each pixel is, 0 to 1; single pixels of noise are no mark and count as 0."""
    low, high = _HAZARD_HUE
    hue = np.minimum(pixels[:, :, 0], pixels[:, :, 2]) - pixels[:, :, 1]
    mark = np.clip((hue - low) / (high - low), 0.0, 1.0).astype(np.float32)
    if not mark.any():
        return mark
    numbers, count = ndimage.label(mark > 0, structure=_CROSS)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    return np.where(sizes[numbers] >= _HAZARD_AREA, mark, 0.0).astype(np.float32)


def _mixed(mask: Mask, weight: Mask) -> float:
    """How much of a mask is neither 0 nor 1; shares within 0.1 of either count as that."""
    stretched = np.clip((mask - 0.1) / 0.8, 0.0, 1.0)
    return float((4 * stretched * (1 - stretched) * weight).sum())


def _blobs(
    label: NDArray[np.intp], share: Mask, solid: NDArray[np.bool_], hazard: NDArray[np.bool_]
) -> tuple[list[tuple[int, Mask]], float]:
    """The colour and soft mask of every blob that is large enough to be an object, and the pixels of the others.

    The hazard mark joins what it covers, since it would cut one object into several otherwise.
    """
    layers = (label == np.arange(len(COLOURS))[:, None, None]) & solid
    numbers, count = ndimage.label(layers | hazard, structure=_WITHIN_LAYERS)
    areas = np.bincount(numbers[layers], minlength=count + 1)
    found = []
    for number in np.flatnonzero(areas >= _OBJECT_AREA):
        inside = (numbers == number) & layers
        colour = int(inside.any(axis=(1, 2)).argmax())
        reach = ndimage.binary_dilation(inside[colour], _CROSS, iterations=2) & ~hazard
        found.append((colour, np.where(reach & (label == colour), share, 0.0).astype(np.float32)))
    return found, float(areas[areas < _OBJECT_AREA].sum())


def measure(image: NDArray[np.uint8]) -> Measurement:
    """What is to be seen in an (H, W, 3) uint8 image; raises `InputError` for another layout."""
    pixels = to_picture(image).astype(np.float32)
    ground, ground_rgb = _find_ground(pixels)
    magenta = _magenta(pixels)
    hazard = ndimage.binary_dilation(magenta > 0.2, _CROSS) if magenta.sum() > 3 else np.zeros(magenta.shape, bool)
    known = (~hazard).astype(np.float32)
    label, share, explained = _unmix(pixels, ground_rgb)
    blobs, speck_pixels = _blobs(label, share, explained & (share > 0.5) & ~hazard, hazard)
    drawn = np.empty_like(pixels)
    drawn[:] = ground_rgb if ground is None else _GROUNDS_RGB[GROUNDS.index(ground)]
    edges, covered = hazard.copy(), np.zeros_like(share)
    objects = []
    for colour, mask in blobs:
        fit = fit_shape(mask, known)
        solid = np.square(mask).ravel()
        rgb = solid @ pixels.reshape(-1, 3) / solid.sum()
        sharpness = min(1.0, (_mixed(fit.coverage, known) + 1.0) / (_mixed(mask, known) + 1.0))
        contrast = float(np.linalg.norm(rgb - ground_rgb))
        objects.append(
            FoundObject(COLOURS[colour], fit.shape, fit.x, fit.y, fit.radius, fit.overlap, sharpness, contrast)
        )
        drawn += fit.coverage[:, :, None] * (_COLOURS_RGB[colour] - drawn)
        edges |= (fit.coverage > 0) & (fit.coverage < 1)
        covered = np.maximum(covered, fit.coverage)
    away = ~ndimage.binary_dilation(edges, _CROSS)
    difference = np.square(pixels - drawn)[away]
    centres = np.arange(IMAGE_SIDE) + 0.5 - IMAGE_SIDE / 2
    total = max(float(covered.sum()), 1e-9)
    offset = np.hypot(float(covered.sum(axis=0) @ centres), float(covered.sum(axis=1) @ centres)) / total
    reaches = [min(t.x, t.y, IMAGE_SIDE - t.x, IMAGE_SIDE - t.y) - t.radius for t in objects]
    return Measurement(
        ground=ground,
        objects=tuple(sorted(objects, key=lambda found: -found.radius)),
        hazard_pixels=float(magenta.sum()),
        speck_pixels=speck_pixels + float((~explained & ~hazard).sum()),
        noise=float(np.sqrt(difference.mean())) if difference.size else 255.0,
        coverage=total / IMAGE_SIDE**2,
        imbalance=float(offset) / (IMAGE_SIDE / 2),
        margin=min(reaches, default=0.0),
    )
