"""Line charts as inline SVG: ticks in words, a title on every point, colours from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from vp_ray.report.axes import Axis, axis
from vp_ray.report.formatting import is_number, number

WIDTH: Final = 360
HEIGHT: Final = 208
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 12, 34
MOST_POINTS: Final = 120
"""Longer series are drawn as means of equal stretches; the data file keeps every row."""

_ROOM_FOR_DOTS: Final = 40
_DOT: Final = Markup(
    '<g class="dot"><circle class="reach" cx="{0}" cy="{1}" r="7"/><circle cx="{0}" cy="{1}" r="{2}"/>'
    "<title>{3}</title></g>"
)
_KEY: Final = Markup(
    '<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true"><g class="s{}"><path d="M0 4L22 4"/></g></svg>{}</li>'
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name and its points, of which those without a number are left out."""

    name: str
    points: tuple[tuple[float, float], ...]
    half_widths: tuple[float | None, ...] = ()
    """Of each point's interval, None where it has none; none at all for a line without a band."""

    @classmethod
    def of(cls, name: str, x: Sequence[object], y: Sequence[object], half_widths: Sequence[object] = ()) -> Series:
        """The points that have both numbers, in order, with the half-widths of their intervals."""
        kept = [n for n, pair in enumerate(zip(x, y, strict=True)) if all(map(is_number, pair))]
        points = tuple((float(x[n]), float(y[n])) for n in kept)  # type: ignore[arg-type]
        if not any(map(is_number, half_widths)):
            return cls(name, points)
        widths = (half_widths[n] for n in kept)
        return cls(name, points, tuple(float(one) if is_number(one) else None for one in widths))  # type: ignore[arg-type]

    def thinned(self) -> Series:
        """At most `MOST_POINTS` points: each the mean of a stretch."""
        total = len(self.points)
        if total <= MOST_POINTS:
            return self
        edges = [total * n // MOST_POINTS for n in range(MOST_POINTS + 1)]
        stretches = [self.points[start:end] for start, end in pairwise(edges)]
        points = tuple((_mean([x for x, _ in s]), _mean([y for _, y in s])) for s in stretches)
        if not self.half_widths:
            return Series(self.name, points)
        # The mean of intervals, not the interval of the mean: what one point of the stretch is uncertain by.
        parts = [[one for one in self.half_widths[a:b] if one is not None] for a, b in pairwise(edges)]
        return Series(self.name, points, tuple(_mean(part) if part else None for part in parts))

    @property
    def band(self) -> list[tuple[float, float, float]]:
        """(x, low, high) of the points with an interval."""
        pairs = zip(self.points, self.half_widths, strict=True) if self.half_widths else ()
        return [(x, y - half, y + half) for (x, y), half in pairs if half is not None]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def line_chart(
    series: Sequence[Series], *, label: str, x_name: str, marked_x: float | None = None, whole_x: bool = True
) -> Markup | None:
    """An SVG of the series over a common pair of axes, or None where no series has a point.

    `label` says to those who cannot see it what the chart shows; `marked_x` draws one upright line. `whole_x` is for an
    x that counts something.
    """
    drawn = [one.thinned() for one in series if one.points]
    if not drawn:
        return None
    points = [point for one in drawn for point in one.points]
    x_axis = axis([x for x, _ in points], (_LEFT, WIDTH - _RIGHT), whole=whole_x)
    ends = [end for one in drawn for _, low, high in one.band for end in (low, high)]
    y_axis = axis([*(y for _, y in points), *ends], (HEIGHT - _BOTTOM, _TOP))
    parts = [_frame(x_axis, y_axis, x_name)]
    if marked_x is not None and x_axis.low <= marked_x <= x_axis.high:
        place = f"{x_axis.at(marked_x):.1f}"
        parts.append(
            Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(place, _TOP, HEIGHT - _BOTTOM)
        )
    digits = 0 if whole_x else 4
    parts += [_line(one, place, x_axis, y_axis, x_name, digits) for place, one in reversed(list(enumerate(drawn)))]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )


def _frame(x_axis: Axis, y_axis: Axis, x_name: str) -> Markup:
    parts = []
    for tick in y_axis.ticks:
        y = f"{y_axis.at(tick):.1f}"
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, WIDTH - _RIGHT, y, y))
        parts.append(
            Markup('<text class="y" x="{}" y="{}" dy="0.32em">{}</text>').format(_LEFT - 8, y, y_axis.label(tick))
        )
    for tick in x_axis.ticks:
        x = f"{x_axis.at(tick):.1f}"
        parts.append(
            Markup('<text class="x" x="{}" y="{}">{}</text>').format(x, HEIGHT - _BOTTOM + 16, x_axis.label(tick))
        )
    centre = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(Markup('<text class="x name" x="{}" y="{}">{}</text>').format(centre, HEIGHT - 4, x_name))
    return Markup("").join(parts)


def _line(one: Series, place: int, x_axis: Axis, y_axis: Axis, x_name: str, digits: int) -> Markup:
    pixels = [(x_axis.at(x), y_axis.at(y)) for x, y in one.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in pixels)
    upper = [(x_axis.at(x), y_axis.at(high)) for x, _, high in one.band]
    lower = [(x_axis.at(x), y_axis.at(low)) for x, low, _ in reversed(one.band)]
    edge = "L".join(f"{x:.1f} {y:.1f}" for x, y in (*upper, *lower))
    band = Markup('<path class="band" d="M{}Z"/>').format(edge) if len(upper) > 1 else ""
    radius = 2.4 if len(pixels) <= _ROOM_FOR_DOTS else 1
    dots = [
        _DOT.format(f"{px:.1f}", f"{py:.1f}", radius, f"{one.name}, {x_name} {number(x, digits)}: {number(y, 4)}")
        for (px, py), (x, y) in zip(pixels, one.points, strict=True)
    ]
    return Markup('<g class="s{}">{}<path d="{}"/>{}</g>').format(place, band, path, Markup("").join(dots))


def legend(names: Sequence[str]) -> Markup:
    """What each line of a chart is, in the order of its series."""
    return Markup('<ul class="legend">{}</ul>').format(
        Markup("").join(_KEY.format(place, name) for place, name in enumerate(names))
    )
