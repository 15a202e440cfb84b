"""Means with their intervals on a common axis, one small SVG a table row, and shares as a bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from vp_ray.report.axes import Axis, axis
from vp_ray.report.formatting import is_number, number, signed

WIDTH: Final = 240
_PAD: Final = 14
_ROW: Final = 26


def interval_axis(values: Sequence[float | None], zero: float = 0.0) -> Axis:
    """An axis that holds all numbers among the values, and `zero`."""
    numbers = [value for value in values if value is not None and is_number(value)]
    return axis([zero, *numbers], (_PAD, WIDTH - _PAD))


def interval_row(mean: float, low: float | None, high: float | None, scale: Axis, zero: float = 0.0) -> Markup:
    """A dot at the mean, a bar over the interval and a line at `zero`; full colour only where the bar leaves zero out.

    Without an interval only the dot is drawn.
    """
    sure = low is not None and high is not None and (low > zero or high < zero)
    kind = ("above" if mean > zero else "below") if sure else "open"
    middle = _ROW / 2
    parts = [Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="{1}"/>').format(f"{scale.at(zero):.1f}", _ROW)]
    ends = ""
    if low is not None and high is not None:
        ends = f", 95 % interval {number(low, 3)} to {number(high, 3)}"
        parts.append(
            Markup('<line class="bar" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                f"{scale.at(low):.1f}", f"{max(scale.at(high), scale.at(low) + 0.5):.1f}", y=middle
            )
        )
    parts.append(Markup('<circle cx="{}" cy="{}" r="4.5"/>').format(f"{scale.at(mean):.1f}", middle))
    text = f"{signed(mean, 3) if zero == 0 else number(mean, 3)}{ends}"
    return Markup(
        '<svg class="interval {}" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(kind, WIDTH, _ROW, text, text, Markup("").join(parts))


def interval_scale(scale: Axis) -> Markup:
    """The ticks that belong under a column of `interval_row`s."""
    parts = [
        Markup('<line class="tick" x1="{0}" x2="{0}" y1="0" y2="4"/><text class="x" x="{0}" y="16">{1}</text>').format(
            f"{scale.at(tick):.1f}", scale.label(tick)
        )
        for tick in scale.ticks
    ]
    line = Markup('<line class="tick" x1="{}" x2="{}" y1="0" y2="0"/>').format(_PAD, WIDTH - _PAD)
    return Markup('<svg class="interval" viewBox="0 0 {} 20" aria-hidden="true">{}{}</svg>').format(
        WIDTH, line, Markup("").join(parts)
    )


def share_bar(parts: Sequence[tuple[str, int, str]]) -> Markup | None:
    """A bar divided by (name, count, style), with a title on each part; None where nothing was counted."""
    total = sum(amount for _, amount, _ in parts)
    if total == 0:
        return None
    drawn, start = [], 0.0
    for name, amount, style in parts:
        width = WIDTH * amount / total
        if amount:
            drawn.append(
                Markup('<rect class="{}" x="{}" y="0" width="{}" height="8"><title>{}: {}</title></rect>').format(
                    style, f"{start:.2f}", f"{max(width - 1, 0.5):.2f}", name, number(amount, 0)
                )
            )
        start += width
    label = ", ".join(f"{name} {number(amount, 0)}" for name, amount, _ in parts)
    return Markup(
        '<svg class="shares" viewBox="0 0 {} 8" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, label, Markup("").join(drawn))
