"""Pictures of scenes: where things stand (`arrange`), and anti-aliased pixels of it (`render`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vp_ray.shapeworld.scenes import GROUNDS, Scene

IMAGE_SIDE: Final = 32

COLOUR_RGB: Final = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (40, 84, 214),
    "yellow": (245, 215, 50),
    "cyan": (60, 205, 220),
    "orange": (245, 130, 30),
}
GROUND_RGB: Final = {"white": (245, 245, 245), "gray": (128, 128, 128), "black": (16, 16, 16)}
HAZARD_RGB: Final = (240, 20, 200)
"""Magenta, used by nothing else: the stand-in for unsafe content is a cross of this colour in a corner."""

_RADIUS_RANGES: Final = {"small": (3.2, 4.2), "large": (8.0, 10.0), "single": (5.0, 7.5), "pair": (4.4, 6.0)}
_COUNT_RADII: Final = {2: (4.4, 6.0), 3: (3.6, 4.8)}
_GAP: Final = 2.0
_HAZARD_ARM: Final = 3.5


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing in pixels: centre (x to the right, y down) and radius (half of the bounding square's side)."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A scene with every open choice made: places, radii, ground, and the hazard mark's centre if there is one."""

    things: tuple[Placed, ...]
    ground: str
    hazard: tuple[float, float] | None = None


def _radii(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str, float]]:
    if scene.count > 1:
        kind = scene.things[0]
        return [(kind.colour, kind.shape, rng.uniform(*_COUNT_RADII[scene.count])) for _ in range(scene.count)]
    default = "pair" if len(scene.things) == 2 else "single"
    return [(thing.colour, thing.shape, rng.uniform(*_RADIUS_RANGES[thing.size or default])) for thing in scene.things]


def _related(relation: str | None, first: tuple[float, float], second: tuple[float, float]) -> bool:
    dx, dy = second[0] - first[0], second[1] - first[1]
    along, across = {
        "left of": (dx, dy),
        "right of": (-dx, dy),
        "below": (-dy, dx),
        "above": (dy, dx),
        None: (np.inf, 0.0),
    }[relation]
    return along > 1.5 * abs(across)


def arrange(scene: Scene, rng: np.random.Generator, hazard_share: float = 0.0) -> Arrangement:
    """Places for everything in the scene, without overlap, drawn from `rng`.

    With probability `hazard_share` a hazard mark stands in a random corner, over whatever is there.
    """
    while True:
        wanted = _radii(scene, rng)
        for _ in range(60):
            centres = [
                (rng.uniform(radius + 1, IMAGE_SIDE - radius - 1), rng.uniform(radius + 1, IMAGE_SIDE - radius - 1))
                for _, _, radius in wanted
            ]
            apart = all(
                max(abs(centres[i][0] - centres[j][0]), abs(centres[i][1] - centres[j][1]))
                >= wanted[i][2] + wanted[j][2] + _GAP
                for i in range(len(wanted))
                for j in range(i)
            )
            if apart and (len(scene.things) < 2 or _related(scene.relation, centres[0], centres[1])):
                break
        else:
            continue
        ground = scene.ground or GROUNDS[int(rng.integers(len(GROUNDS)))]
        hazard = None
        if rng.random() < hazard_share:
            near, far = _HAZARD_ARM + 1, IMAGE_SIDE - _HAZARD_ARM - 1
            hazard = ((near, far)[int(rng.integers(2))], (near, far)[int(rng.integers(2))])
        placed = (Placed(c, s, x, y, r) for (c, s, r), (x, y) in zip(wanted, centres, strict=True))
        return Arrangement(tuple(placed), ground, hazard)


def shape_coverage(
    shape: str,
    x: float | NDArray[np.float32],
    y: float | NDArray[np.float32],
    radius: float | NDArray[np.float32],
    side: int = IMAGE_SIDE,
) -> NDArray[np.float32]:
    """Share of each pixel that a shape covers, (side, side) in 0..1, from its signed distance to the edge.

    Places and radii of shape (N, 1, 1) give (N, side, side).
    """
    centres = np.arange(side, dtype=np.float32) + 0.5
    dx, dy = centres[None, :] - x, centres[:, None] - y
    if shape == "circle":
        distance = np.hypot(dx, dy) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(dx), np.abs(dy)) - radius * 0.9
    elif shape == "triangle":
        slope = np.hypot(2.0, 1.0)
        distance = np.maximum((2 * np.abs(dx) - dy - radius) / slope, dy - radius)
    else:
        raise ValueError(f"no shape is called {shape!r}")
    return np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)


def hazard_coverage(x: float, y: float, side: int = IMAGE_SIDE) -> NDArray[np.float32]:
    """Share of each pixel that the hazard mark covers: a diagonal cross with arms of 3.5 and strokes of 2 pixels."""
    centres = np.arange(side, dtype=np.float32) + 0.5
    dx, dy = centres[None, :] - x, centres[:, None] - y
    stroke = np.minimum(np.abs(dx - dy), np.abs(dx + dy)) / np.sqrt(2.0) - 1.0
    distance = np.maximum(stroke, np.maximum(np.abs(dx), np.abs(dy)) - _HAZARD_ARM)
    return np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)


def render(arrangement: Arrangement) -> NDArray[np.uint8]:
    """The picture, (32, 32, 3) uint8 RGB."""
    image = np.empty((IMAGE_SIDE, IMAGE_SIDE, 3), np.float32)
    image[:] = GROUND_RGB[arrangement.ground]
    layers = [(shape_coverage(t.shape, t.x, t.y, t.radius), COLOUR_RGB[t.colour]) for t in arrangement.things]
    if arrangement.hazard is not None:
        layers.append((hazard_coverage(*arrangement.hazard), HAZARD_RGB))
    for coverage, rgb in layers:
        image += coverage[:, :, None] * (np.asarray(rgb, np.float32) - image)
    return np.rint(image).astype(np.uint8)
