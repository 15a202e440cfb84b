"""What happened while VP-Score and the policy were trained: curves and fixed-seed grids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from markupsafe import Markup

from vp_ray.records import ASPECTS
from vp_ray.report.assets import Assets, Picture
from vp_ray.report.formatting import is_number, sentence_case
from vp_ray.report.line_chart import Series, legend, line_chart
from vp_ray.report.reading import RunReader

Rows = Sequence[Mapping[str, Any]]
_NORMAL_95: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its title, and what its lines are where there are several."""

    title: str
    note: str
    svg: Markup
    legend: Markup | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One chart to draw from the columns that are there; (column, name) for each line."""

    title: str
    lines: tuple[tuple[str, str], ...]
    note: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    """The column of the standard error of a line's column."""


RL_CHARTS: Final = (
    Wanted(
        "Reward",
        (("reward_mean", "reward"),),
        "mean over an epoch's training images, with its 95 % interval over prompts",
        {"reward_mean": "reward_standard_error"},
    ),
    Wanted(
        "Held-out score",
        (("held_out_score", "held-out score"),),
        "held-out prompts, fixed seeds, with its 95 % interval over prompts",
        {"held_out_score": "held_out_standard_error"},
    ),
    *(
        Wanted(
            sentence_case(aspect), ((f"{aspect}_mean", "training"), (f"held_out_{aspect}", "held out")), "by VP-Score"
        )
        for aspect in ASPECTS
    ),
    Wanted("Distance from the start", (("kl", "KL"),), "nats a step, adapter on against off"),
    Wanted("Image diversity", (("diversity", "variance"),), "VP-Score's image features over the held-out images"),
    Wanted(
        "Multipliers of constraints",
        tuple((f"multiplier_{aspect}", sentence_case(aspect)) for aspect in ASPECTS),
        "what a constraint adds to the weight of its aspect",
    ),
    Wanted("Clipped ratios", (("clip_share_high", "above"), ("clip_share_low", "below")), "share of step samples"),
    Wanted("Gradient norm", (("gradient_norm", "norm"),), "before clipping"),
    Wanted("Groups without a signal", (("zero_variance_share", "share"),), "share of prompts whose rewards are equal"),
    Wanted(
        "Seconds an epoch",
        (
            ("seconds_sampling", "sampling"),
            ("seconds_update", "update"),
            ("seconds_reward_wait", "waiting for rewards"),
        ),
    ),
)

REWARD_CHARTS: Final = (
    Wanted("Loss", (("loss", "training"), ("validation_loss", "validation"))),
    Wanted("Validation pair accuracy", (("validation_accuracy", "accuracy"),), "label ties left out"),
    *(
        Wanted(sentence_case(aspect), ((f"validation_accuracy_{aspect}", "accuracy"),), "validation pair accuracy")
        for aspect in ASPECTS
    ),
    Wanted("Learning rate", (("learning_rate", "rate"),)),
)


def charts(rows: Rows, wanted: Sequence[Wanted], x_name: str, marked_x: float | None = None) -> list[Chart]:
    """The charts whose columns hold at least one number; `x_name` is the column that they run over."""
    drawn = []
    for one in wanted:
        lines = [
            Series.of(
                name,
                [row.get(x_name) for row in rows],
                [row.get(column) for row in rows],
                [_half_width(row.get(one.errors.get(column, ""))) for row in rows],
            )
            for column, name in one.lines
        ]
        lines = [line for line in lines if line.points]
        svg = line_chart(lines, label=f"{one.title} by {x_name}", x_name=x_name, marked_x=marked_x)
        if svg is not None:
            names = [line.name for line in lines]
            drawn.append(Chart(one.title, one.note, svg, legend(names) if len(names) > 1 else None))
    return drawn


def _half_width(standard_error: Any) -> float | None:
    """Half of a 95 % interval by the normal distribution."""
    return _NORMAL_95 * standard_error if is_number(standard_error) else None


@dataclass(frozen=True, slots=True)
class Grid:
    """Images from fixed seeds after so many epochs."""

    epoch: int
    picture: Picture


def grids(reader: RunReader, assets: Assets, most: int) -> list[Grid]:
    """At most so many of `rl/grids/epoch_NNN.png`, evenly from the first to the last."""
    named = [
        (int(match[1]), name)
        for name in reader.names("rl", "grids")
        if (match := re.fullmatch(r"epoch_(\d+)\.png", name))
    ]
    named.sort()
    if len(named) > most:
        places = [round(n * (len(named) - 1) / max(1, most - 1)) for n in range(most)]
        named = [named[place] for place in places]
    found = []
    for epoch, name in named:
        picture = assets.add_sheet(f"epoch_{epoch:03d}.png", (reader.run.stage("rl") / "grids").read_bytes(name))
        if picture is not None:
            found.append(Grid(epoch, picture))
    return found
