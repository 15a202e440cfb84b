"""What the preferences stage reads of a run: prompts, images without their pixels, ratings and answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.preferences.whole import whole_judgements
from vp_ray.records import ASPECTS, RATINGS
from vp_ray.storage import RunFolder, StageFolder
from vp_ray.streams import encoded_table, table_without

_IMAGE_COLUMNS: Final = ("image_id", "prompt_id", "generator", "guidance_scale", "status")
_TEXTS: Final = ("judgement_id", "prompt", "rubric_version", "reply", "error", "levels.rationale", "choices")
"""Columns of judgements that say nothing here, and take nearly all of their memory."""
UNKNOWN_GENERATORS: Final = ("", "unknown")
"""Names that imports give to images of which nobody knows the generator."""


@dataclass
class Sources:
    """The tables of one run; each is read once, on first use, and is None where the run has not got it."""

    run: RunFolder

    annotated: bool = True
    """Whether what annotators said is read; otherwise there are prompts and images alone."""

    def _stage_with(self, name: str) -> StageFolder | None:
        """The stage that has a table of annotate: itself, or the import in its place."""
        if not self.annotated:
            return None
        stage = self.run.source("annotate")
        return stage if stage.exists(name) else None

    def _table(self, name: str) -> pa.Table | None:
        stage = self._stage_with(name)
        return None if stage is None else stage.read_table(name)

    @property
    def by_people(self) -> bool:
        """Whether rankings and choices are those of people, out of an import, and not an annotator's."""
        return self.run.source("annotate").stage != "annotate"

    @cached_property
    def prompts(self) -> pa.Table:
        """`prompt_id, prompt, split`."""
        return self.run.source("prompts").read_table("prompts.parquet", ("prompt_id", "prompt", "split"))

    @cached_property
    def ratings(self) -> pa.Table | None:
        """`records.RATINGS`, strings as dictionaries."""
        stage = self._stage_with("ratings.parquet")
        return None if stage is None else encoded_table(stage, "ratings.parquet", RATINGS.names)

    @cached_property
    def rankings(self) -> pa.Table | None:
        """`records.RANKINGS`."""
        return self._table("rankings.parquet")

    @cached_property
    def comparisons(self) -> pa.Table | None:
        """`records.COMPARISONS`."""
        return self._table("comparisons.parquet")

    @cached_property
    def judgements(self) -> pa.Table | None:
        """`records.JUDGEMENTS` that levels were asked for, without their texts; one row has all aspects."""
        stage = self._stage_with("judgements.parquet")
        if stage is None:
            return None
        table = whole_judgements(table_without(stage, "judgements.parquet", _TEXTS))
        return table if table.num_rows else None

    @cached_property
    def images(self) -> pa.Table:
        """`image_id, prompt_id, generator, guidance_scale, status`; unknown generators are null."""
        table = self.run.source("generate").read_table("images", _IMAGE_COLUMNS)
        generator = table["generator"]
        unknown = pc.is_in(generator, pa.array(UNKNOWN_GENERATORS))
        known = pc.if_else(unknown, pa.scalar(None, pa.string()), generator)
        return table.set_column(table.schema.get_field_index("generator"), "generator", known)

    @cached_property
    def generators(self) -> dict[str, str | None]:
        """The generator of each image, None where it is not known."""
        ids, names = (self.images[name].to_pylist() for name in ("image_id", "generator"))
        return dict(zip(ids, names, strict=True))

    def answered_prompts(self) -> list[str]:
        """Ids of the prompts that anything was said of, or that have images where nobody was asked."""
        if not self.annotated:
            return sorted(pc.unique(self.images["prompt_id"]).to_pylist())
        tables = (self.ratings, self.rankings, self.comparisons)
        named = (pc.unique(table["prompt_id"]).to_pylist() for table in tables if table is not None)
        return sorted({name for names in named for name in names})

    def restrict(self, prompts: pa.Table) -> None:
        """Goes on with these prompts, their splits, and what was said of them alone."""
        kept = prompts["prompt_id"].combine_chunks()

        def of_kept(table: pa.Table | None) -> pa.Table | None:
            if table is None:
                return None
            among = pc.is_in(table["prompt_id"], kept)
            return table if pc.all(among, min_count=0).as_py() else table.filter(among)

        self.ratings, self.rankings = of_kept(self.ratings), of_kept(self.rankings)
        self.comparisons, self.judgements = of_kept(self.comparisons), of_kept(self.judgements)
        self.prompts = prompts


def with_unanswered(ratings: pa.Table, judgements: pa.Table, images: pa.Table) -> pa.Table:
    """The ratings with a row without a mean for each image that was shown to an annotator and got none at all."""
    shown = pc.unique(judgements["order"].combine_chunks().flatten())
    rated = pc.unique(ratings["image_id"]).cast(pa.string())
    missing = shown.filter(pc.invert(pc.is_in(shown, rated)))
    row = pc.index_in(missing, images["image_id"].combine_chunks())
    rows = images.take(row.filter(pc.is_valid(row)))
    count, aspects = rows.num_rows, len(ASPECTS)
    place = pa.array(np.repeat(np.arange(count), aspects))
    columns = {
        **{name: rows[name].take(place) for name in ("image_id", "prompt_id", "generator")},
        "aspect": pa.array(list(ASPECTS) * count, pa.string()),
        "mean": pa.nulls(count * aspects, pa.float64()),
        "standard_error": pa.nulls(count * aspects, pa.float64()),
        "count": pa.repeat(pa.scalar(0, pa.int32()), count * aspects),
    }
    return pa.concat_tables([ratings.select(RATINGS.names).cast(RATINGS), pa.table(columns).cast(RATINGS)])
