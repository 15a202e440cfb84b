"""Named points with upright intervals over a logarithmic axis, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from vp_ray.report.axes import axis
from vp_ray.report.formatting import number

WIDTH: Final = 480
HEIGHT: Final = 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 30, 22, 38
_TICKS: Final = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One point: x above zero, y with its interval where there is one."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    marked: bool = False


def scatter_chart(points: Sequence[Point], *, label: str, x_name: str) -> Markup | None:
    """An SVG of the points, x on a logarithmic axis; None where no point has an x above zero.

    A marked point is drawn in full; `label` says what the chart shows.
    """
    drawn = [point for point in points if point.x > 0]
    if not drawn:
        return None
    ends = [end for point in drawn for end in (point.low, point.high, point.y) if end is not None]
    y_axis = axis(ends, (HEIGHT - _BOTTOM, _TOP))
    low, high = (math.log10(end) for end in (min(p.x for p in drawn), max(p.x for p in drawn)))
    room = max(0.12 * (high - low), 0.05)
    low, high = low - room, high + room

    def at(value: float) -> float:
        return _LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - _RIGHT - _LEFT)

    parts = []
    for tick in y_axis.ticks:
        y = f"{y_axis.at(tick):.1f}"
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(_LEFT, WIDTH - _RIGHT, y=y)
        )
        parts.append(
            Markup('<text class="y" x="{}" y="{}" dy="0.32em">{}</text>').format(_LEFT - 8, y, y_axis.label(tick))
        )
    for tick in _log_ticks(10**low, 10**high):
        x, digits = f"{at(tick):.1f}", max(0, -math.floor(math.log10(tick)))
        parts.append(
            Markup('<text class="x" x="{}" y="{}">{}</text>').format(x, HEIGHT - _BOTTOM + 16, number(tick, digits))
        )
    centre = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(Markup('<text class="x name" x="{}" y="{}">{}</text>').format(centre, HEIGHT - 4, x_name))
    # Names stand by turns above and below the intervals, so that those of neighbours do not meet.
    for place, point in enumerate(sorted(drawn, key=lambda point: point.x)):
        x, y = f"{at(point.x):.1f}", f"{y_axis.at(point.y):.1f}"
        bar = Markup("")
        if point.low is not None and point.high is not None:
            first, last = (f"{y_axis.at(end):.1f}" for end in (point.low, point.high))
            bar = Markup('<path d="M{0} {1}L{0} {2}"/>').format(x, first, last)
        title = f"{point.name}: {number(point.y, 3)} at {number(point.x, 4)}"
        dot = Markup('<g class="dot"><circle cx="{}" cy="{}" r="{}"/><title>{}</title></g>').format(
            x, y, 5 if point.marked else 3, title
        )
        ends = [end for end in (point.low, point.high, point.y) if end is not None]
        edge = y_axis.at(max(ends)) - 5 if place % 2 else y_axis.at(min(ends)) + 12
        name = Markup('<text class="x" x="{}" y="{}">{}</text>').format(x, f"{edge:.1f}", point.name)
        parts.append(Markup('<g class="s{}">{}{}</g>{}').format(0 if point.marked else 1, bar, dot, name))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in the range, or the powers alone where those would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in _TICKS if low <= factor * 10.0**power <= high]
    return ticks if len(ticks) <= 8 else [tick for tick in ticks if round(math.log10(tick), 9).is_integer()]
