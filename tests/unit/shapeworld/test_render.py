import numpy as np
import pytest

from vp_ray.shapeworld.render import (
    COLOUR_RGB,
    GROUND_RGB,
    HAZARD_RGB,
    Arrangement,
    Placed,
    arrange,
    render,
    shape_coverage,
)
from vp_ray.shapeworld.scenes import Scene, Thing, all_scenes


@pytest.mark.parametrize(
    ("shape", "area"), [("circle", np.pi * 64), ("square", (2 * 0.9 * 8) ** 2), ("triangle", 0.5 * 16 * 16)]
)
def test_coverage_integrates_to_the_area_of_the_shape(shape: str, area: float) -> None:
    assert shape_coverage(shape, 16.0, 16.0, 8.0).sum() == pytest.approx(area, rel=0.02)


def test_coverage_does_not_depend_on_where_the_shape_stands() -> None:
    here, there = shape_coverage("circle", 10.0, 12.0, 5.0), shape_coverage("circle", 14.0, 15.0, 5.0)
    assert np.array_equal(here[2:22, 2:22], there[5:25, 6:26])


def test_a_large_square_has_its_colour_inside_and_the_ground_outside() -> None:
    image = render(Arrangement((Placed("blue", "square", 16, 16, 8),), "white"))
    assert tuple(image[16, 16]) == COLOUR_RGB["blue"]
    assert tuple(image[1, 1]) == GROUND_RGB["white"]


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below"])
def test_relations_hold_in_every_arrangement(relation: str) -> None:
    scene = Scene((Thing("red", "circle"), Thing("blue", "square")), relation=relation)
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = arrange(scene, rng).things
        dx, dy = second.x - first.x, second.y - first.y
        along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
        across = dy if relation in ("left of", "right of") else dx
        assert along > abs(across)


def test_nothing_overlaps_or_touches_the_border() -> None:
    rng = np.random.default_rng(1)
    for scene in list(all_scenes())[::37]:
        things = arrange(scene, rng).things
        for thing in things:
            assert thing.radius + 1 <= thing.x <= 31 - thing.radius
            assert thing.radius + 1 <= thing.y <= 31 - thing.radius
        for i, a in enumerate(things):
            for b in things[:i]:
                assert max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + 2


def test_the_hazard_mark_appears_with_its_share_and_only_in_its_colour() -> None:
    rng = np.random.default_rng(2)
    scene = Scene((Thing("red", "circle"),))
    marked = [arrange(scene, rng, hazard_share=0.3) for _ in range(1000)]
    assert 0.25 < np.mean([arrangement.hazard is not None for arrangement in marked]) < 0.35
    for arrangement in marked[:100]:
        distance = np.abs(render(arrangement).astype(int) - HAZARD_RGB).sum(axis=2)
        assert (distance < 30).any() == (arrangement.hazard is not None)


def test_the_same_generator_state_gives_the_same_picture() -> None:
    scene = Scene((Thing("green", "triangle"),), count=3)
    first, second = (render(arrange(scene, np.random.default_rng(7), 0.5)) for _ in range(2))
    assert np.array_equal(first, second)
