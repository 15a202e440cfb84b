"""Captions that are wrong by one fact: the hard negatives of image-text matching."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vp_ray.shapeworld.scenes import COLOURS, COUNT_WORDS, GROUNDS, RELATIONS, SHAPES, SIZES, Scene, Thing


def _others(values: tuple[str, ...], value: str) -> list[str]:
    return [other for other in values if other != value]


def _things_changed(scene: Scene, fact: str, values: tuple[str, ...]) -> list[Scene]:
    """Scenes in which one thing has another colour, shape or size than it should."""
    changed = []
    for place, thing in enumerate(scene.things):
        stated: str | None = getattr(thing, fact)
        for value in _others(values, stated) if stated else ():
            things = (*scene.things[:place], replace(thing, **{fact: value}), *scene.things[place + 1 :])
            if len(set(things)) == len(things):
                changed.append(replace(scene, things=things))
    return changed


def _counts_changed(scene: Scene) -> list[Scene]:
    kind = scene.things[0]
    if len(scene.things) == 2:
        return [Scene((thing,), ground=scene.ground) for thing in scene.things]
    if kind.size:
        return []
    return [replace(scene, count=count) for count in (1, *COUNT_WORDS.values()) if count != scene.count]


def _bindings_changed(scene: Scene) -> list[Scene]:
    if len(scene.things) != 2:
        return []
    first, second = scene.things
    swapped = (Thing(second.colour, first.shape), Thing(first.colour, second.shape))
    facts_stay = scene.relation is None and set(swapped) == {first, second}
    same = swapped == (first, second)
    return [] if same or facts_stay or swapped[0] == swapped[1] else [replace(scene, things=swapped)]


def wrong_by_one_fact(scene: Scene) -> dict[str, list[Scene]]:
    """Scenes that a picture of `scene` does not show, by the kind of the fact that is wrong; each list may be empty.

    Kinds: `colour`, `shape` and `size` of a thing, `count` (one thing more or less), `binding` (two things with their
    colours swapped), `relation` and `ground`. What the scene leaves open is not contradicted.
    """
    return {
        "colour": _things_changed(scene, "colour", COLOURS),
        "shape": _things_changed(scene, "shape", SHAPES),
        "size": _things_changed(scene, "size", SIZES),
        "count": _counts_changed(scene),
        "binding": _bindings_changed(scene),
        "relation": [replace(scene, relation=other) for other in RELATIONS if scene.relation not in (None, other)],
        "ground": [replace(scene, ground=other) for other in GROUNDS if scene.ground not in (None, other)],
    }


def draw_wrong(scene: Scene, rng: np.random.Generator) -> Scene:
    """One scene that is wrong by one fact: first a kind of fact that the scene has, then a change, both uniform."""
    kinds = [changes for changes in wrong_by_one_fact(scene).values() if changes]
    changes = kinds[int(rng.integers(len(kinds)))]
    return changes[int(rng.integers(len(changes)))]
