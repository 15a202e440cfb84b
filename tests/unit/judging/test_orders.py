"""Orders: drawn by hash, balanced over slots, never repeated."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from vp_ray.judging.orders import groups, orders, permuted

GROUP = ("a", "b", "c", "d")


def test_four_orders_show_each_image_once_in_each_place_and_each_pair_of_neighbours_once() -> None:
    shown = orders(GROUP, 4)
    for place in range(4):
        assert sorted(order[place] for order in shown) == list(GROUP)
    neighbours = Counter(pair for order in shown for pair in pairwise(order))
    assert len(neighbours) == 12
    assert set(neighbours.values()) == {1}


def test_the_second_order_is_the_first_reversed_and_orders_never_repeat() -> None:
    assert orders(GROUP, 2) == [GROUP, GROUP[::-1]]
    assert orders(("a",), 4) == [("a",)]
    assert orders(("a", "b"), 4) == [("a", "b"), ("b", "a")]
    for size in range(3, 10):
        assert len(set(orders(tuple(range(size)), 4))) == 4  # type: ignore[arg-type]


def test_the_drawn_order_depends_on_the_prompt_and_the_images_and_not_on_the_order_they_came_in() -> None:
    assert permuted("p", GROUP) == permuted("p", GROUP[::-1])
    assert len({permuted(f"prompt {n}", GROUP) for n in range(200)}) == 24


def test_every_image_comes_first_equally_often_within_chance() -> None:
    first = Counter(permuted(f"prompt {n}", GROUP)[0] for n in range(4000))
    assert all(abs(count - 1000) < 5 * 27.4 for count in first.values())


def test_ten_images_in_groups_of_at_most_four_make_groups_of_three_three_and_four() -> None:
    made = groups("p", [str(n) for n in range(10)], 4)
    assert sorted(map(len, made)) == [3, 3, 4]
    assert sorted(image for group in made for image in group) == sorted(str(n) for n in range(10))
    assert groups("p", [], 4) == []
