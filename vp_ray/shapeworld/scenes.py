"""Scenes of the embedded world: a closed grammar of coloured shapes, its prompts and its splits.

A scene is what a prompt asks for; where things stand in a picture is the renderer's business. Prompts and
scenes map to each other exactly (`prompt_of`, `parse_prompt`), so that a judge can know the truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from vp_ray.errors import InputError
from vp_ray.ids import uniform_from

SHAPES: Final = ("circle", "square", "triangle")
COLOURS: Final = ("red", "green", "blue", "yellow", "cyan", "orange")
GROUNDS: Final = ("white", "gray", "black")
SIZES: Final = ("small", "large")
RELATIONS: Final = ("left of", "right of", "above", "below")
COUNT_WORDS: Final = {"two": 2, "three": 3}

COMPOSITIONAL_PAIRS: Final = frozenset({("cyan", "triangle"), ("orange", "square")})
"""Colour-shape pairs that no training prompt and no training image of the embedded world contains."""

HELD_OUT_SHARE: Final = 0.15

Split = Literal["train", "held_out", "compositional"]


@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of object: a colour, a shape and, where the prompt says so, a size."""

    colour: str
    shape: str
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two kinds of things, how many of them, how they stand to each other and on what ground.

    `count` is above one only for a single kind; `relation` is set only for two kinds (None means "and");
    `ground` is None where the prompt leaves it open.
    """

    things: tuple[Thing, ...]
    count: int = 1
    relation: str | None = None
    ground: str | None = None


def _noun(thing: Thing, plural: bool = False) -> str:
    words = [thing.size, thing.colour, thing.shape + ("s" if plural else "")]
    return " ".join(word for word in words if word)


def prompt_of(scene: Scene) -> str:
    """The one prompt that asks for this scene."""
    if scene.count > 1:
        word = next(word for word, count in COUNT_WORDS.items() if count == scene.count)
        text = f"{word} {_noun(scene.things[0], plural=True)}"
    elif len(scene.things) == 2:
        text = f"a {_noun(scene.things[0])} {scene.relation or 'and'} a {_noun(scene.things[1])}"
    else:
        text = f"a {_noun(scene.things[0])}"
    return text + (f" on a {scene.ground} ground" if scene.ground else "")


_NOUN = (
    rf"(?:(?P<size{{n}}>{'|'.join(SIZES)}) )?(?P<colour{{n}}>{'|'.join(COLOURS)}) (?P<shape{{n}}>{'|'.join(SHAPES)})"
)
_FIRST = _NOUN.replace("{n}", "1")
_SECOND = _NOUN.replace("{n}", "2")
_GROUND = rf"(?: on a (?P<ground>{'|'.join(GROUNDS)}) ground)?"
_PATTERNS = (
    re.compile(rf"(?P<count>{'|'.join(COUNT_WORDS)}) {_FIRST}s{_GROUND}"),
    re.compile(rf"an? {_FIRST} (?P<relation>{'|'.join(RELATIONS)}|and) an? {_SECOND}{_GROUND}"),
    re.compile(rf"an? {_FIRST}{_GROUND}"),
)


def parse_prompt(prompt: str) -> Scene:
    """The scene that a prompt asks for; case and surplus spaces do not matter.

    Raises `InputError` for a prompt outside the grammar.
    """
    text = " ".join(prompt.lower().split()).rstrip(".")
    for pattern in _PATTERNS:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        found = match.groupdict()
        things = tuple(
            Thing(found[f"colour{n}"], found[f"shape{n}"], found.get(f"size{n}"))
            for n in ("1", "2")
            if found.get(f"colour{n}")
        )
        relation = found.get("relation")
        return Scene(
            things=things,
            count=COUNT_WORDS.get(found.get("count") or "", 1),
            relation=None if relation == "and" else relation,
            ground=found.get("ground"),
        )
    raise InputError(
        f"the prompt {prompt!r} is not a scene of the embedded world",
        "Write it like 'a red circle left of a blue square on a white ground', or use another judge for free text.",
    )


def all_scenes() -> Iterator[Scene]:
    """Every scene of the grammar, in a fixed order (6,480 distinct prompts)."""
    kinds = [Thing(colour, shape) for colour in COLOURS for shape in SHAPES]
    for ground in (None, *GROUNDS):
        for kind in kinds:
            for size in (None, *SIZES):
                yield Scene((Thing(kind.colour, kind.shape, size),), ground=ground)
            for count in COUNT_WORDS.values():
                yield Scene((kind,), count=count, ground=ground)
        for first in kinds:
            for second in kinds:
                if first != second:
                    for relation in (None, *RELATIONS):
                        yield Scene((first, second), relation=relation, ground=ground)


def category_of(scene: Scene) -> str:
    """What a scene tests: `single`, `size`, `count`, `pair` or `relation`."""
    if scene.count > 1:
        return "count"
    if len(scene.things) == 2:
        return "relation" if scene.relation else "pair"
    return "size" if scene.things[0].size else "single"


def split_of(scene: Scene) -> Split:
    """`compositional` for colour-shape pairs kept out of training, else `held_out` or `train` by hash of the prompt."""
    if any((thing.colour, thing.shape) in COMPOSITIONAL_PAIRS for thing in scene.things):
        return "compositional"
    return "held_out" if uniform_from("shapeworld-split", prompt_of(scene)) < HELD_OUT_SHARE else "train"
