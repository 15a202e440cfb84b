"""The preferences stage: ratings, rankings, choices and images in; pairs out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.errors import InputError
from vp_ray.preferences.answers import preferences_of_comparisons, preferences_of_rankings
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.levels import fit_links, link_figures
from vp_ray.preferences.pairing import preference_parts
from vp_ray.preferences.quality import QUALITY, QUALITY_COLUMNS, quality
from vp_ray.preferences.self_supervised import construct
from vp_ray.preferences.sources import Sources, with_unanswered
from vp_ray.preferences.splits import checked_prompts
from vp_ray.preferences.tally import Tally
from vp_ray.records import PREFERENCES
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.streams import encoded_table, table_writer
from vp_ray.telemetry import progress

TABLE: Final = "preferences.parquet"


def run(settings: PreferenceSettings, run: RunFolder) -> StageOutcome:
    """Writes `preferences.parquet`, `quality.json` and the `images` of self-supervised pairs.

    Raises `InputError` when no prompt has two images that can be compared, or a list of test prompts cannot be read.
    """
    sources, folder = Sources(run, settings.annotated), run.stage("preferences")
    every_prompt = sources.prompts
    figures: dict[str, Any] = {}
    tally = Tally()
    with progress("preferences", "pairs") as bar, table_writer(folder, TABLE, PREFERENCES) as append:
        prompts, leaks = checked_prompts(sources.prompts, sources.answered_prompts(), settings.checks)
        sources.restrict(prompts)
        if settings.annotated:
            for table in annotated_preferences(sources, settings, figures):
                append(table)
                tally.add(table)
                bar.update(tally.rows)
            if not tally.rows:
                raise InputError(
                    "no prompt has two images that can be compared",
                    "Look at the statuses of the judgements.",
                    sources.run.source("annotate").uri,
                )
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
            append(table)
            tally.add(table)
        bar.update(tally.rows, tally.rows)
    table = encoded_table(folder, TABLE, QUALITY_COLUMNS)
    folder.write_json(QUALITY, leaks | quality(table, sources, settings))
    return StageOutcome({"preferences": tally.rows}, figures=figures | tally.figures())


def annotated_preferences(
    sources: Sources, settings: PreferenceSettings, figures: dict[str, Any]
) -> Iterator[pa.Table]:
    """All pairs that annotators said something about, some at a time; `figures` takes how they were made.

    Where people ranked or chose, and an aspect was rated too, their answers stand and the ratings serve the others.
    """
    known: set[str] = set()
    if sources.rankings is not None:
        table = preferences_of_rankings(sources.rankings, sources.prompts, settings, sources.generators)
        known.update(table["aspect"].unique().to_pylist())
        yield table
    if sources.comparisons is not None:
        table = preferences_of_comparisons(sources.comparisons, sources.prompts, settings, sources.generators)
        table = _of_new_aspects(table, known)
        known.update(table["aspect"].unique().to_pylist())
        yield table
    if sources.ratings is not None:
        ratings = sources.ratings
        if settings.abstention_weight > 0 and sources.judgements is not None:
            ratings = with_unanswered(ratings, sources.judgements, sources.images)
        links = fit_links(sources.judgements, settings)
        for table in preference_parts(ratings, sources.prompts, settings, links):
            yield _of_new_aspects(table, known)
        figures["mean_level_by_generator"] = _mean_levels(sources.ratings)
        figures["links"] = link_figures(links)


def _of_new_aspects(table: pa.Table, known: set[str]) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["aspect"], pa.array(sorted(known), pa.string())))) if known else table


def _mean_levels(ratings: pa.Table) -> dict[str, dict[str, float]]:
    levels = ratings.select(["generator", "aspect", "mean"]).group_by(["generator", "aspect"])
    table = levels.aggregate([("mean", "mean")])
    for name in ("generator", "aspect"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))
    by_generator: dict[str, dict[str, float]] = {}
    for row in table.sort_by([("generator", "ascending"), ("aspect", "ascending")]).to_pylist():
        by_generator.setdefault(row["generator"], {})[row["aspect"]] = row["mean_mean"]
    return by_generator
