"""Pictures made worse on purpose, and prompts edited together with their pictures, so that the order is known.

Letters of shapes: H and W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

_MOST_NOISE: Final = 70.0
"""Standard deviation at full strength, of 255."""


def noise(pixels: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Gaussian noise on every value."""
    return _rounded(pixels + rng.normal(0.0, _MOST_NOISE * strength, pixels.shape))


def blur(pixels: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A Gaussian of up to a sixteenth of the shorter side."""
    sigma = max(0.5, strength * min(pixels.shape[:2]) / 16)
    return _rounded(ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), mode="nearest"))


def crop(pixels: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A part of at least a third of each side, anywhere, blown up to the whole."""
    height, width = pixels.shape[:2]
    part = 1 - 2 / 3 * strength
    tall, wide = max(1, round(height * part)), max(1, round(width * part))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    image = Image.fromarray(np.ascontiguousarray(pixels[top : top + tall, left : left + wide]))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def colour(pixels: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The channels moved towards another order of them."""
    order = ((1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0))[int(rng.integers(5))]
    share = 0.5 + strength / 2
    return _rounded((1 - share) * pixels.astype(np.float64) + share * pixels[..., order])


def layout(pixels: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The four quarters in another order: two change places below half strength, and all above it."""
    tall, wide = pixels.shape[0] // 2, pixels.shape[1] // 2
    order = np.arange(4)
    if strength < 0.5:
        one, other = rng.choice(4, 2, replace=False)
        order[[one, other]] = order[[other, one]]
    else:
        cycle = rng.permutation(4)
        order[cycle] = np.roll(cycle, 1)
    corners = [(0, 0), (0, wide), (tall, 0), (tall, wide)]
    result = pixels.copy()
    for place, source in enumerate(order):
        (top, left), (y, x) = corners[place], corners[int(source)]
        result[top : top + tall, left : left + wide] = pixels[y : y + tall, x : x + wide]
    return result


def _rounded(values: NDArray[np.float64]) -> Picture:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What makes a picture worse, the aspects in which it is, and those in which it stays what it was."""

    apply: Callable[[Picture, float, np.random.Generator], Picture]
    worse: tuple[str, ...]
    same: tuple[str, ...] = ()


AUGMENTATIONS: Final[Mapping[str, Augmentation]] = {
    "noise": Augmentation(noise, ("aesthetic", "fidelity"), ("harmlessness",)),
    "blur": Augmentation(blur, ("aesthetic", "fidelity"), ("harmlessness",)),
    "crop": Augmentation(crop, ("prompt_following", "aesthetic")),
    "colour": Augmentation(colour, ("prompt_following",)),
    "layout": Augmentation(layout, ("prompt_following", "aesthetic", "fidelity")),
}


@dataclass(frozen=True, slots=True)
class Edit:
    """A prompt with two words swapped, and the change of a picture that goes with it."""

    prompt: str
    apply: Callable[[Picture], Picture]


_COLOURS: Final = ("red", "green", "blue")
_OTHER_COLOURS: Final = frozenset(
    "yellow cyan orange magenta purple violet pink brown turquoise teal golden gold beige maroon navy crimson".split()  # noqa: SIM905
)


def edits(prompt: str) -> list[Edit]:
    """Every edit that the prompt allows: left and right, or two primary colours.

    Colours are swapped only where the prompt names no other colour, since the swap would change those too; above and
    below are not, since few things stay what they are upside down.
    """
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    found = []
    if words & {"left", "right"}:
        found.append(Edit(swapped(prompt, "left", "right"), partial(np.flip, axis=1)))
    if words & set(_COLOURS) and not words & _OTHER_COLOURS:
        for first, second in combinations(range(len(_COLOURS)), 2):
            if words & {_COLOURS[first], _COLOURS[second]}:
                order = list(range(len(_COLOURS)))
                order[first], order[second] = second, first
                text = swapped(prompt, _COLOURS[first], _COLOURS[second])
                found.append(Edit(text, partial(np.take, indices=order, axis=2)))
    return found


def swapped(text: str, one: str, other: str) -> str:
    """The text with each of two words in the other's place; a capital first letter stays one."""

    def replace(match: re.Match[str]) -> str:
        word = other if match[0].lower() == one else one
        return word.capitalize() if match[0][0].isupper() else word

    return re.sub(rf"\b(?:{one}|{other})\b", replace, text, flags=re.IGNORECASE)
