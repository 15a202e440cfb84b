"""The preferences stage: ratings, rankings, choices and images in; pairs out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.errors import InputError
from vp_ray.preferences.answers import preferences_of_comparisons, preferences_of_rankings
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.levels import fit_links, link_figures
from vp_ray.preferences.pairing import make_preferences
from vp_ray.preferences.quality import QUALITY, quality
from vp_ray.preferences.self_supervised import construct
from vp_ray.preferences.sources import Sources, with_unanswered
from vp_ray.preferences.splits import checked_prompts
from vp_ray.records import PREFERENCES
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import progress


def run(settings: PreferenceSettings, run: RunFolder) -> StageOutcome:
    """Writes `preferences.parquet`, `quality.json` and the `images` of self-supervised pairs.

    Raises `InputError` when no prompt has two images that can be compared, or a list of test prompts cannot be read.
    """
    sources, folder = Sources(run, settings.annotated), run.stage("preferences")
    every_prompt = sources.prompts
    figures: dict[str, Any] = {}
    tables: list[pa.Table] = []
    with progress("preferences", "pairs") as bar:
        prompts, leaks = checked_prompts(sources.prompts, sources.answered_prompts(), settings.checks)
        sources.restrict(prompts)
        if settings.annotated:
            table, figures = annotated_preferences(sources, settings)
            tables.append(table)
            bar.update(table.num_rows)
        if settings.self_supervised is not None:
            table, kinds = construct(
                run.source("generate") / "images",
                sources.images,
                prompts,
                every_prompt,
                folder,
                settings.self_supervised,
            )
            figures["self_supervised_pairs"] = kinds
            tables.append(table)
        table = pa.concat_tables(tables)
        bar.update(table.num_rows, table.num_rows)
    if settings.annotated and tables[0].num_rows == 0:
        raise InputError(
            "no prompt has two images that can be compared",
            "Look at the statuses of the judgements.",
            sources.run.source("annotate").uri,
        )
    folder.write_table("preferences.parquet", table, PREFERENCES)
    folder.write_json(QUALITY, leaks | quality(table, sources, settings))
    return StageOutcome({"preferences": table.num_rows}, figures=figures | _shares(table))


def annotated_preferences(sources: Sources, settings: PreferenceSettings) -> tuple[pa.Table, dict[str, Any]]:
    """All pairs that annotators said something about, and figures of how they were made.

    Where people ranked or chose, and an aspect was rated too, their answers stand and the ratings serve the others.
    """
    tables: list[pa.Table] = []
    figures: dict[str, Any] = {}
    if sources.rankings is not None:
        tables.append(preferences_of_rankings(sources.rankings, sources.prompts, settings, sources.generators))
    if sources.comparisons is not None:
        table = preferences_of_comparisons(sources.comparisons, sources.prompts, settings, sources.generators)
        tables.append(_of_new_aspects(table, tables))
    if sources.ratings is not None:
        ratings = sources.ratings
        if settings.abstention_weight > 0 and sources.judgements is not None:
            ratings = with_unanswered(ratings, sources.judgements, sources.images)
        links = fit_links(sources.judgements, settings)
        tables.append(_of_new_aspects(make_preferences(ratings, sources.prompts, settings, links), tables))
        figures["mean_level_by_generator"] = _mean_levels(sources.ratings)
        figures["links"] = link_figures(links)
    return pa.concat_tables(tables) if tables else PREFERENCES.empty_table(), figures


def _of_new_aspects(table: pa.Table, before: list[pa.Table]) -> pa.Table:
    known = {aspect for other in before for aspect in other["aspect"].unique().to_pylist()}
    return table.filter(pc.invert(pc.is_in(table["aspect"], pa.array(sorted(known), pa.string())))) if known else table


def _mean_levels(ratings: pa.Table) -> dict[str, dict[str, float]]:
    levels = ratings.group_by(["generator", "aspect"]).aggregate([("mean", "mean")])
    by_generator: dict[str, dict[str, float]] = {}
    for row in levels.sort_by([("generator", "ascending"), ("aspect", "ascending")]).to_pylist():
        by_generator.setdefault(row["generator"], {})[row["aspect"]] = row["mean_mean"]
    return by_generator


def _shares(table: pa.Table) -> dict[str, Any]:
    tied = pc.cast(pc.equal(table["probability_a"], 0.5), pa.float64())
    ties = table.select(["aspect"]).append_column("tied", tied).group_by("aspect")
    by_aspect = ties.aggregate([("tied", "mean"), ("tied", "count")]).sort_by("aspect").to_pylist()
    by_split = table.group_by("split").aggregate([("aspect", "count")]).sort_by("split").to_pylist()
    return {
        "pairs_by_aspect": {row["aspect"]: row["tied_count"] for row in by_aspect},
        "tie_share_by_aspect": {row["aspect"]: row["tied_mean"] for row in by_aspect},
        "abstentions": table["margin"].null_count,
        "preferences_by_split": {row["split"]: row["aspect_count"] for row in by_split},
        "same_generator_share": pc.mean(pc.cast(table["same_generator"], pa.float64())).as_py(),
    }
