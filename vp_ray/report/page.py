"""The page: everything that it shows, gathered from a run, and its HTML. All text is escaped; there is no script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vp_ray import __version__
from vp_ray.records import ASPECTS
from vp_ray.report.assets import Assets
from vp_ray.report.config import ReportSettings
from vp_ray.report.formatting import FILTERS, is_number
from vp_ray.report.reading import STAGES, FileGroup, RunReader, State
from vp_ray.report.sections.accuracy import AccuracyTable, accuracy_data, accuracy_sentence, accuracy_tables
from vp_ray.report.sections.annotators import Annotators, annotators
from vp_ray.report.sections.calibration import calibration_charts, calibration_rows
from vp_ray.report.sections.choice import AnnotatorChoice, annotator_choice
from vp_ray.report.sections.comparison import Card, ComparisonTable, before_after, comparison_rows, comparison_tables
from vp_ray.report.sections.curves import REWARD_CHARTS, RL_CHARTS, Chart, Grid, charts, grids
from vp_ray.report.sections.evaluation import Evaluation, evaluation, witness_charts
from vp_ray.report.sections.headline import Headline, headline
from vp_ray.report.sections.lineage import Lineage, lineage
from vp_ray.report.sections.loop import Loop, loop, reached
from vp_ray.report.sections.preferences import Preferences, preferences
from vp_ray.report.sections.quality import Quality, quality
from vp_ray.report.sections.settings import stage_settings


@dataclass(frozen=True, slots=True)
class Page:
    """What the templates show; a part that the run does not have is empty or None."""

    title: str
    aspects: tuple[str, ...]
    version: str
    states: dict[str, State]
    shown: frozenset[str]
    """Stages that are there or still to come; the page has no place for others."""
    headline: Headline
    scorer: str | None
    """Whose numbers stand under the pictures."""
    loop: Loop
    cards: list[Card]
    lineage: Lineage | None
    tables: list[ComparisonTable]
    agreement: list[dict[str, Any]]
    evaluation: Evaluation | None
    tuning: list[Chart]
    tuning_note: str
    grids: list[Grid]
    reward: list[Chart]
    accuracies: list[AccuracyTable]
    calibration: list[Chart]
    generators: list[tuple[str, dict[str, Any]]]
    """Mean level by generator and aspect."""
    preferences: Preferences | None
    quality: Quality | None
    annotators: Annotators | None
    choice: AnnotatorChoice | None
    settings: list[tuple[str, list[tuple[str, str]]]]
    files: list[FileGroup]
    problems: list[str]
    data: dict[str, str | None]
    """Addresses of the CSV files."""


def gather(settings: ReportSettings, reader: RunReader, assets: Assets) -> Page:
    """The page of a run as far as it has come; pictures and data files are written on the way."""
    comparison = comparison_rows(reader)
    accuracies = accuracy_tables(reader.figures("reward"))
    opening = headline(comparison, reached(reader), accuracy_sentence(accuracies), reader.concerns("evaluate"))
    scorer = opening.row["scorer"] if opening.row else None
    stages = loop(reader)
    rl_rows, reward_rows = reader.curve("rl"), reader.curve("reward")
    best = reader.figures("rl").get("best_epoch")
    judged = annotators(reader)
    chosen = annotator_choice(reader)
    checked = quality(reader)
    shown_pairs = before_after(reader, assets, scorer, settings.pairs)
    descent = lineage(reader, assets, settings.lineage)
    agreeing = [row for row in reader.figures("evaluate").get("agreement", []) if is_number(row.get("accuracy"))]
    generators = sorted(reader.figures("preferences").get("mean_level_by_generator", {}).items())
    page = Page(
        title=settings.title or reader.run.uri.rstrip("/").rpartition("/")[2],
        aspects=ASPECTS,
        version=__version__,
        states={stage: reader.state(stage) for stage in STAGES},
        shown=frozenset(stage for stage in STAGES if reader.concerns(stage)),
        headline=opening,
        scorer=scorer,
        loop=stages,
        cards=shown_pairs,
        lineage=descent,
        tables=comparison_tables(comparison),
        agreement=agreeing,
        evaluation=evaluation(reader, comparison),
        tuning=[
            *charts(rl_rows, RL_CHARTS, "epoch", best if is_number(best) else None),
            *witness_charts(rl_rows, best if is_number(best) else None),
        ],
        tuning_note=_tuning_note(reader.figures("rl")),
        grids=grids(reader, assets, settings.grids),
        reward=charts(reward_rows, REWARD_CHARTS, "update"),
        accuracies=accuracies,
        calibration=calibration_charts(reader.figures("reward")),
        generators=generators,
        preferences=preferences(reader, assets, settings.preferences),
        quality=checked,
        annotators=judged,
        choice=chosen,
        settings=stage_settings(reader),
        files=reader.files(),
        problems=reader.problems,
        data={
            "loop": assets.add_data("loop", [_loop_row(line) for line in stages.stages]),
            "pairs": assets.add_data("pairs", [_pair_row(card) for card in shown_pairs if card.levels]),
            "lineage": assets.add_data("lineage", descent.rows if descent else []),
            "agreement": assets.add_data("agreement", agreeing),
            "calibration": assets.add_data("calibration", list(calibration_rows(reader.figures("reward")))),
            "generators": assets.add_data("generators", [{"generator": name, **by} for name, by in generators]),
            "comparison": assets.add_data("comparison", comparison),
            "conditions": assets.add_data("conditions", reader.figures("evaluate").get("conditions") or []),
            "categories": assets.add_data("categories", reader.figures("evaluate").get("categories") or []),
            "tuning": assets.add_data("tuning", rl_rows),
            "reward": assets.add_data("reward", reward_rows),
            "accuracy": assets.add_data("accuracy", list(accuracy_data(accuracies))),
            "quality": assets.add_data("quality", list(checked.rows()) if checked else []),
            "choice": assets.add_data("choice", chosen.rows if chosen else []),
            "annotators": assets.add_data("annotators", list(judged.rows) if judged else []),
        },
    )
    if assets.unreadable:
        page.problems.append(f"{assets.unreadable} pictures could not be decoded")
    return page


def render(page: Page) -> str:
    """The HTML of the page."""
    environment = Environment(
        loader=PackageLoader("vp_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("page.html").render(page=page)


def _tuning_note(figures: dict[str, Any]) -> str:
    """One sentence about the whole training."""
    if not figures:
        return "One point an epoch."
    parts = []
    for key, words in (("epochs", "epochs"), ("updates", "updates"), ("images", "images")):
        if is_number(figures.get(key)):
            parts.append(f"{figures[key]:,} {words}")
    note = f"{', '.join(parts)}." if parts else "One point an epoch."
    if is_number(figures.get("best_epoch")):
        note += f" The best held-out score came after epoch {figures['best_epoch']}, marked by the dotted line."
    if figures.get("stopped_early"):
        note += " Training stopped early, because the held-out score fell while the reward rose."
    if is_number(figures.get("reward_wait_share")):
        note += f" {100 * figures['reward_wait_share']:.1f} % of the time was spent waiting for rewards."
    return note


def _pair_row(card: Card) -> dict[str, Any]:
    sides: dict[str, float] = {}
    for aspect, base, tuned in card.levels:
        sides |= {f"base_{aspect}": base, f"tuned_{aspect}": tuned}
    return {"prompt": card.prompt, "base_image": card.base.source, "tuned_image": card.tuned.source, **sides}


def _loop_row(line: Any) -> dict[str, Any]:
    row = {"stage": line.name, "state": line.state, "seconds": line.seconds, "cost_usd": line.cost_usd}
    return row | {one.name: one.rows for one in line.counts}
