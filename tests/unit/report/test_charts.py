"""Charts: where pixels stand, what is left out, and that names from outside stay text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from vp_ray.report.axes import axis
from vp_ray.report.interval_chart import WIDTH, interval_axis, interval_row, interval_scale, share_bar
from vp_ray.report.line_chart import MOST_POINTS, Series, legend, line_chart

HOSTILE = '"><script>alert(1)</script>'


def _xml(markup: Markup | None) -> ElementTree.Element:
    assert markup is not None
    return ElementTree.fromstring(str(markup))  # noqa: S314 - the chart is our own


def test_ticks_are_round_cover_all_values_and_are_few() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = float(rng.normal() * 10.0 ** rng.integers(-4, 5))
        values = [low, low + float(rng.random() * 10.0 ** rng.integers(-3, 5)) + 1e-6]
        found = axis(values, (0, 100))
        assert found.low <= min(values) + 1e-9
        assert found.high >= max(values) - 1e-9
        assert 3 <= len(found.ticks) <= 7
        step = found.ticks[1] - found.ticks[0]
        mantissa = step / 10.0 ** np.floor(np.log10(step) + 1e-9)
        assert min(abs(mantissa - good) for good in (1, 2, 2.5, 5)) < 1e-6


def test_an_axis_from_0_to_1_by_hand() -> None:
    found = axis([0.0, 0.9], (10, 110))
    assert found.ticks == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert (found.at(0.0), found.at(0.5), found.at(1.0)) == (10, 60, 110)
    assert [found.label(tick) for tick in found.ticks] == ["0", "0.25", "0.50", "0.75", "1.00"]


def test_whole_axes_have_whole_ticks_and_end_where_the_values_end() -> None:
    found = axis([0, 7], (0, 70), whole=True)
    assert (found.low, found.high, found.ticks) == (0, 7, (0, 2, 4, 6))
    assert axis([3, 4], (0, 1), whole=True).ticks == (3, 4)


def test_tiny_steps_are_labelled_with_a_power_of_ten() -> None:
    found = axis([0.0, 1e-4], (0, 1))
    assert [found.label(tick) for tick in found.ticks] == ["0", "2.5e−5", "5.0e−5", "7.5e−5", "1.0e−4"]


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_equal_values_still_have_an_axis_around_them(value: float) -> None:
    found = axis([value, value], (0, 100))
    assert found.low <= value <= found.high
    assert found.low < found.high


def test_points_without_a_number_are_left_out_and_the_others_keep_their_place() -> None:
    series = Series.of("loss", [0, 1, 2, None, 4], [0.5, None, float("nan"), 0.1, 0.3])
    assert series.points == ((0.0, 0.5), (4.0, 0.3))
    svg = _xml(line_chart([series], label="loss", x_name="update"))
    titles = [element.text for element in svg.iter("title")]
    assert titles == ["loss, update 0: 0.5000", "loss, update 4: 0.3000"]


def test_a_long_series_is_drawn_as_means_of_equal_stretches() -> None:
    values = np.random.default_rng(1).normal(size=50 * MOST_POINTS)
    thinned = Series.of("x", list(range(values.size)), values.tolist()).thinned()
    assert len(thinned.points) == MOST_POINTS
    assert thinned.points[3][0] == pytest.approx(174.5)
    assert thinned.points[3][1] == pytest.approx(values[150:200].mean())
    assert np.mean([y for _, y in thinned.points]) == pytest.approx(values.mean())


def test_a_chart_without_points_is_none_and_one_point_is_a_dot() -> None:
    assert line_chart([Series("a", ())], label="a", x_name="epoch") is None
    assert len(list(_xml(line_chart([Series("a", ((3.0, 1.0),))], label="a", x_name="epoch")).iter("title"))) == 1


def test_names_from_outside_stay_text() -> None:
    series = Series(HOSTILE, ((0.0, 1.0), (1.0, 2.0)))
    svg = _xml(line_chart([series], label=HOSTILE, x_name=HOSTILE))
    assert svg.attrib["aria-label"] == HOSTILE
    assert not list(svg.iter("script"))
    assert not list(_xml(legend([HOSTILE])).iter("script"))
    assert not list(_xml(share_bar([(HOSTILE, 1, "won")])).iter("script"))


def test_an_interval_stands_at_its_pixels() -> None:
    scale = interval_axis([-0.5, 1.0])
    assert (scale.low, scale.high) == (-0.5, 1.0)
    svg = _xml(interval_row(0.25, 0.0, 0.5, scale))
    inner = WIDTH - 28
    bar = next(line for line in svg.iter("line") if line.attrib["class"] == "bar")
    assert float(bar.attrib["x1"]) == pytest.approx(14 + inner / 3, abs=0.1)
    assert float(bar.attrib["x2"]) == pytest.approx(14 + inner * 2 / 3, abs=0.1)
    assert float(next(svg.iter("circle")).attrib["cx"]) == pytest.approx(14 + inner / 2, abs=0.1)
    assert "+0.250, 95 % interval 0.000 to 0.500" in svg.attrib["aria-label"]
    assert len(list(_xml(interval_scale(scale)).iter("text"))) == len(scale.ticks)


@pytest.mark.parametrize(
    ("mean", "low", "high", "kind"),
    [(0.2, 0.1, 0.3, "above"), (-0.2, -0.3, -0.1, "below"), (0.2, -0.1, 0.5, "open"), (0.2, None, None, "open")],
)
def test_full_colour_is_only_for_intervals_that_leave_zero_out(
    mean: float, low: float | None, high: float | None, kind: str
) -> None:
    assert _xml(interval_row(mean, low, high, interval_axis([low, mean, high]))).attrib["class"] == f"interval {kind}"


def test_shares_fill_the_bar_and_nothing_counted_is_no_bar() -> None:
    bars = list(_xml(share_bar([("won", 3, "won"), ("tied", 0, "tied"), ("lost", 1, "lost")])).iter("rect"))
    assert [bar.attrib["class"] for bar in bars] == ["won", "lost"]
    assert float(bars[1].attrib["x"]) == pytest.approx(0.75 * WIDTH)
    assert share_bar([("won", 0, "won")]) is None


def test_a_band_runs_along_the_upper_ends_and_back_along_the_lower_ones() -> None:
    series = Series.of("reward", [0, 1, 2], [1.0, 2.0, 3.0], [0.5, None, 1.0])
    assert series.band == [(0.0, 0.5, 1.5), (2.0, 2.0, 4.0)]
    drawn = line_chart([series], label="", x_name="epoch")
    assert drawn is not None
    (path,) = re.findall(r'class="band" d="M([^"]*)Z"', drawn)
    corners = [tuple(map(float, corner.split())) for corner in path.split("L")]
    assert [x for x, _ in corners] == [corners[0][0], corners[1][0], corners[1][0], corners[0][0]]
    assert corners[0][1] < corners[3][1]
    assert corners[1][1] < corners[2][1]
    assert "band" not in str(line_chart([Series.of("a", [0, 1], [1, 2], [None, None])], label="", x_name=""))
