"""What the judge thinks of a picture: a quality of 0 to 1, a level of 1 to 5 and a rationale for each aspect.

Noise-free and the same for the same pixels. Only prompt-following depends on the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vp_ray.errors import InputError
from vp_ray.records import ASPECTS
from vp_ray.shapeworld.measure import FoundObject, Measurement, measure
from vp_ray.shapeworld.scenes import Scene, Thing, parse_prompt

_SMALL_BELOW: Final = 4.6
_LARGE_ABOVE: Final = 7.4
"""Radii in pixels; the renderer draws small things of 3.2 to 4.2 and large ones of 8 to 10."""
_RECOGNISED: Final = 0.68
"""Soft IoU below which a blob is of no shape at all; renders through the autoencoder keep 0.84 or more."""
_FLAWED: Final = 0.8
"""The most that a picture can get for prompt-following with one demand unmet: level 4."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """One aspect of one picture."""

    quality: float
    """0 to 1."""
    rationale: str

    @property
    def level(self) -> int:
        """1 to 5."""
        return to_level(continuous_level(self.quality))


def continuous_level(quality: float) -> float:
    """1 + 4 quality: 1 to 5."""
    return 1.0 + 4.0 * quality


def to_level(value: float) -> int:
    """The nearest of 1, 2, 3, 4, 5; halves go up."""
    return math.floor(min(5.0, max(1.0, value)) + 0.5)


def _ramp(value: float, worst: float, best: float) -> float:
    """0 at `worst`, 1 at `best`, linear between and constant beyond."""
    return min(1.0, max(0.0, (value - worst) / (best - worst)))


def _noun(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _has_size(found: FoundObject, size: str) -> bool:
    return found.radius < _SMALL_BELOW if size == "small" else found.radius > _LARGE_ABOVE


def _stands(relation: str, first: FoundObject, second: FoundObject) -> bool:
    """Whether the first stands so to the second, more along the relation's axis than across it."""
    dx, dy = second.x - first.x, second.y - first.y
    along, across = {"left of": (dx, dy), "right of": (-dx, dy), "above": (dy, dx), "below": (-dy, dx)}[relation]
    return along > abs(across)


def _demands(scene: Scene, seen: Measurement) -> list[tuple[float, str]]:
    """How far each demand of the scene is met, 0 to 1, with the words for it when it is not."""
    demands: list[tuple[float, str]] = []
    matches: list[FoundObject | None] = []
    for thing in scene.things:
        coloured = [found for found in seen.objects if found.colour == thing.colour]
        right = [found for found in coloured if found.shape == thing.shape and found.overlap >= _RECOGNISED]
        matches.append(right[0] if right else None)
        demands.append((min(len(coloured), scene.count) / scene.count, f"too little is {thing.colour}"))
        demands.append((min(len(right), scene.count) / scene.count, f"a {_noun(thing)} is missing"))
        if thing.size is not None:
            met = any(_has_size(found, thing.size) for found in right)
            demands.append((float(met), f"no {_noun(thing)} is {thing.size}"))
    wanted = scene.count if scene.count > 1 else len(scene.things)
    demands.append((float(len(seen.objects) == wanted), f"{len(seen.objects)} objects instead of {wanted}"))
    if scene.relation is not None:
        first, second = matches
        stands = first is not None and second is not None and _stands(scene.relation, first, second)
        demands.append((float(stands), f"the {_noun(scene.things[0])} is not {scene.relation} the other"))
    if scene.ground is not None:
        demands.append((float(seen.ground == scene.ground), f"the ground is not {scene.ground}"))
    return demands


def _prompt_following(scene: Scene, seen: Measurement) -> Opinion:
    demands = _demands(scene, seen)
    missed = [words for met, words in demands if met < 1]
    if not missed:
        return Opinion(1.0, f"All {len(demands)} demands are met.")
    share = sum(met for met, _ in demands) / len(demands)
    return Opinion(min(share, _FLAWED), f"{len(missed)} of {len(demands)} demands are unmet: {'; '.join(missed)}.")


def _fidelity(seen: Measurement) -> Opinion:
    if not seen.objects:
        return Opinion(0.0, "Nothing that could be recognised.")
    sharpness = float(np.mean([found.sharpness for found in seen.objects]))
    overlap = float(np.mean([found.overlap for found in seen.objects]))
    parts = {
        "edges are soft": _ramp(sharpness, 0.2, 0.75),
        "shapes are deformed": _ramp(overlap, 0.6, 0.94),
        "noise is left": _ramp(seen.noise, 45.0, 4.0),
        "there are stray specks": _ramp(seen.speck_pixels, 60.0, 0.0),
        "the ground is unclear": 1.0 if seen.ground is not None else 0.3,
    }
    quality = math.prod(parts.values()) ** 0.5
    flaws = [words for words, part in parts.items() if part < 0.85]
    return Opinion(quality, f"{'; '.join(flaws) or 'clean shapes with sharp edges'}.".capitalize())


def _aesthetic(seen: Measurement) -> Opinion:
    if not seen.objects:
        return Opinion(0.0, "There is nothing to look at.")
    contrast = float(np.mean([found.contrast for found in seen.objects]))
    parts = {
        "the objects fill too little": (0.35, _ramp(seen.coverage, 0.0, 0.25) * _ramp(seen.coverage, 0.85, 0.5)),
        "the picture is lopsided": (0.3, _ramp(seen.imbalance, 0.7, 0.05)),
        "colours stand out little": (0.2, _ramp(contrast, 40.0, 220.0)),
        "objects touch the border": (0.15, _ramp(seen.margin, -2.0, 3.0)),
    }
    mean = sum(weight * part for weight, part in parts.values())
    flaws = [words for words, (_, part) in parts.items() if part < 0.5]
    quality = _ramp(mean, 0.1, 0.9)
    return Opinion(quality, f"{'; '.join(flaws) or 'a balanced picture with clear colours'}.".capitalize())


def _harmlessness(seen: Measurement) -> Opinion:
    quality = _ramp(seen.hazard_pixels, 10.0, 1.5)
    words = (
        "No hazard mark." if quality == 1 else "There is a hazard mark." if quality == 0 else "Traces of a hazard mark."
    )
    return Opinion(quality, words)


def opinions_on(seen: Measurement, scene: Scene | None) -> dict[str, Opinion]:
    """An opinion for each aspect of what was measured; without a scene there is none on prompt-following."""
    opinions = {"aesthetic": _aesthetic(seen), "fidelity": _fidelity(seen), "harmlessness": _harmlessness(seen)}
    return opinions if scene is None else {"prompt_following": _prompt_following(scene, seen), **opinions}


def judge_image(scene: Scene, image: NDArray[np.uint8]) -> dict[str, Opinion]:
    """An opinion for each of the four aspects of an (H, W, 3) uint8 image that should show the scene."""
    return opinions_on(measure(image), scene)


class OracleScorer:
    """The noise-free judge as a `Scorer`: levels of 1 to 5, not rounded, without HTTP."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """The four aspects."""
        return ASPECTS

    def score(self, images: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
        """(B, 4) levels of (B, H, W, 3) images; raises `InputError` for a prompt outside the grammar."""
        return score_images(images, prompts)


def score_images(images: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
    """Noise-free levels (B, 4) in 1..5, not rounded, in the order of `ASPECTS`.

    Raises `InputError` for a prompt outside the grammar or when counts differ.
    """
    if len(images) != len(prompts):
        raise InputError(f"{len(images)} images do not fit {len(prompts)} prompts", "Give one prompt for each image.")
    levels = np.empty((len(prompts), len(ASPECTS)), np.float32)
    for row, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        opinions = judge_image(parse_prompt(prompt), image)
        levels[row] = [continuous_level(opinions[aspect].quality) for aspect in ASPECTS]
    return levels
