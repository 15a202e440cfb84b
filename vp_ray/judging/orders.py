"""In which orders a group's images are shown, so that a place in the sequence favours no image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Final

from vp_ray.ids import uniform_from
from vp_ray.judging.config import OrderCount

_WILLIAMS: Final = ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))
"""Each image once in each place, each ordered pair of neighbours once (Williams 1949)."""


def permuted(prompt_id: str, image_ids: Sequence[str]) -> tuple[str, ...]:
    """The images in an order drawn by hash of the prompt and the image, whatever order they came in."""
    return tuple(sorted(image_ids, key=lambda image_id: (uniform_from("order", prompt_id, image_id), image_id)))


def groups(prompt_id: str, image_ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """A prompt's images in groups of at most `size`, as even as they can be, each in a drawn order."""
    drawn = permuted(prompt_id, image_ids)
    count = -(-len(drawn) // size)
    edges = [len(drawn) * index // count for index in range(count + 1)] if count else [0]
    return [drawn[start:end] for start, end in pairwise(edges)]


def orders(group: Sequence[str], count: OrderCount) -> list[tuple[str, ...]]:
    """`count` orders of a group: as drawn; and reversed; or four, by the Williams square for groups of four.

    Groups of other sizes have as their third and fourth order the first two rotated by half. Orders that would
    repeat (one image, or four orders of two) are left out.
    """
    first = tuple(group)
    if count == 4 and len(first) == 4:
        return [tuple(first[place] for place in row) for row in _WILLIAMS]
    half = len(first) // 2
    candidates = [first, first[::-1], first[half:] + first[:half], (first[half:] + first[:half])[::-1]]
    return list(dict.fromkeys(candidates[:count]))


def pair_orders(prompt_id: str, group: Sequence[str], count: OrderCount) -> list[tuple[str, str]]:
    """Every two images of a group, which of them comes first drawn by hash; and the other way round where two are
    wanted."""
    shown = []
    for pair in combinations(group, 2):
        first, second = permuted(prompt_id + "".join(sorted(pair)), pair)
        shown += [(first, second), (second, first)][:count]
    return shown
